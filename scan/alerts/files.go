package alerts

import "strings"

// fileRow are files that lead out of a container, whatever folder the host's are
// mounted at.
type fileRow struct {
	// ends and holds are matched at the end of a path, and anywhere in it.
	ends, holds []string
	program
}

// stepOfFile tells what opening a file is a step of.
func stepOfFile(file string) (program, bool) {
	for i := range fileRows {
		r := &fileRows[i]
		for _, end := range r.ends {
			if strings.HasSuffix(file, end) {
				return r.program, true
			}
		}
		for _, part := range r.holds {
			if strings.Contains(file, part) {
				return r.program, true
			}
		}
	}
	if p, ok := stepOfDevice(file); ok {
		return p, true
	}
	return stepOfProcess(file)
}

// stepOfDevice knows the devices that hold the node's memory and disks.
func stepOfDevice(file string) (program, bool) {
	at := strings.LastIndex(file, "/dev/")
	if at < 0 {
		return program{}, false
	}
	name := file[at+len("/dev/"):]
	switch name {
	case "mem", "kmem", "port", "loop-control":
		return deviceProgram, true
	}
	for _, prefix := range []string{"sd", "vd", "xvd", "hd", "nvme", "dm-", "md", "mapper/", "disk/", "block/", "mmcblk"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return deviceProgram, true
		}
	}
	return program{}, false
}

// stepOfProcess knows what leads through another process: its root, its memory, its
// namespaces.
func stepOfProcess(file string) (program, bool) {
	for rest := file; ; {
		at := strings.IndexByte(rest, '/')
		if at < 0 {
			return program{}, false
		}
		rest = rest[at+1:]
		pid, below, ok := strings.Cut(rest, "/")
		if !ok || pid == "" || strings.Trim(pid, "0123456789") != "" {
			continue
		}
		switch what, _, _ := strings.Cut(below, "/"); what {
		case "root", "cwd":
			return hostFileProgram, true
		case "mem":
			return traceProgram, true
		case "ns":
			return namespaceProgram, true
		}
	}
}
