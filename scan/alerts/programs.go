package alerts

import (
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// step is what a deed does on the way out; empty for what is none.
type step string

const (
	stepChroot    step = "chroot"
	stepTool      step = "tool"
	stepNamespace step = "namespace"
	stepMount     step = "mount"
	stepModule    step = "module"
	stepDevice    step = "device"
	stepTrace     step = "trace"
	stepRuntime   step = "runtime"
	stepKernel    step = "kernel setting"
	stepHostFile  step = "host file"
	stepBPF       step = "bpf"
	stepBoot      step = "boot"
	stepKit       step = "kit"
)

// The techniques of MITRE ATT&CK that alerts are told under; those of ways out are the
// ones of the rules' records.
const (
	mitreEscape     = "T1611"
	mitreDeploy     = "T1610"
	mitreExec       = "T1609"
	mitreModule     = "T1547.006"
	mitreInject     = "T1055"
	mitreReboot     = "T1529"
	mitreRootkit    = "T1014"
	mitreSniff      = "T1040"
	mitreMiddle     = "T1557"
	mitreElevation  = "T1548"
	mitreTransfer   = "T1105"
	mitreCompile    = "T1027.004"
	mitreCredential = "T1552.001"
	mitreShell      = "T1059.004"
	mitreScript     = "T1059"
)

// program is what is known of a program by its name.
type program struct {
	class scan.AlertClass
	step  step
	// dual: honest software in containers runs it too, so that running it is no step by
	// itself.
	dual       bool
	techniques []string
}

// programRow are programs that are alike.
type programRow struct {
	names []string
	program
}

// programRows lists the programs that say by their name what is done. Those of the
// escapeToHost set are added from there.
var programRows = []programRow{
	{[]string{"nsenter", "unshare", "setns"}, program{scan.ClassEscape, stepNamespace, false, []string{mitreEscape}}},
	{[]string{"pivot_root", "switch_root", "run-init"}, program{scan.ClassChroot, stepChroot, false, []string{mitreEscape}}},
	{[]string{"mount", "umount", "losetup", "mount.nfs", "mount.cifs", "fusermount", "fusermount3"}, program{scan.ClassEscape, stepMount, true, []string{mitreEscape}}},
	{[]string{"insmod", "modprobe", "rmmod", "kmod"}, program{scan.ClassEscape, stepModule, false, []string{mitreEscape, mitreModule}}},
	{[]string{"debugfs", "mknod", "dumpe2fs", "xfs_db"}, program{scan.ClassEscape, stepDevice, false, []string{mitreEscape}}},
	{[]string{"strace", "ltrace", "gdb", "gdbserver", "gcore"}, program{scan.ClassEscape, stepTrace, true, []string{mitreEscape, mitreInject}}},
	{[]string{"docker", "ctr", "crictl", "nerdctl", "podman", "runc", "crun", "dockerd", "containerd"}, program{scan.ClassEscape, stepRuntime, true, []string{mitreEscape, mitreDeploy}}},
	{[]string{"bpftool", "bpftrace"}, program{scan.ClassEscape, stepBPF, true, []string{mitreEscape, mitreRootkit}}},
	{[]string{"kexec"}, program{scan.ClassEscape, stepBoot, false, []string{mitreEscape, mitreReboot}}},
	{[]string{"cdk", "deepce", "deepce.sh", "amicontained", "botb", "kdigger", "peirates"}, program{scan.ClassEscape, stepKit, false, []string{mitreEscape}}},
	{[]string{"aria2c", "ftp", "tftp", "sftp", "scp", "git", "pip", "pip3", "npm", "yarn", "gem", "cargo", "microdnf", "tdnf", "snap", "flatpak", "conda", "busybox-wget"}, program{scan.ClassTool, stepTool, true, []string{mitreTransfer}}},
	{[]string{"gcc", "cc", "g++", "c++", "clang", "tcc", "ld", "as", "cmake", "ninja"}, program{scan.ClassTool, stepTool, true, []string{mitreCompile}}},
	{[]string{"sh", "dash", "bash", "ash", "zsh", "ksh"}, program{scan.ClassOther, "", true, []string{mitreShell}}},
	{[]string{"perl", "python", "python3", "ruby", "node", "php", "lua"}, program{scan.ClassOther, "", true, []string{mitreScript}}},
}

// programs finds a program by its name.
var programs = buildPrograms()

func buildPrograms() map[string]program {
	all := map[string]program{}
	for _, row := range programRows {
		for _, name := range row.names {
			all[name] = row.program
		}
	}
	for _, e := range armor.Elements() {
		p := program{class: scan.ClassTool, step: stepTool, dual: true, techniques: []string{mitreTransfer}}
		switch {
		case e.Kind == armor.Capability:
			continue
		case e.Kind == armor.Chroot:
			p = program{class: scan.ClassChroot, step: stepChroot, techniques: []string{mitreEscape}}
		case e.Name == "make" || e.Name == "makepkg":
			p.techniques = []string{mitreCompile}
		}
		all[e.Name] = p
		for _, file := range e.Files() {
			all[base(file)] = p
		}
	}
	return all
}

// base is the last part of a path.
func base(file string) string { return file[strings.LastIndexByte(file, '/')+1:] }

// manyNamed tells whether a program is one file with many names, or runs the file that
// it is given: what was done is then said by its arguments alone.
func manyNamed(name string) bool {
	switch name {
	case "busybox", "toybox", "coreutils", "busybox.static", "bbsuid":
		return true
	}
	return strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-musl") || name == "ld.so"
}

// nameOf is the name under which a program was run: that of its file or, where the
// file has many names, the one that it was called by.
func nameOf(a *armor.Alert) string {
	name := base(a.Process)
	if !manyNamed(name) {
		return name
	}
	if a.Operation != operationProcess {
		if a.Command != "" {
			return base(a.Command)
		}
		return name
	}
	words := a.Resource
	for range 2 {
		var word string
		word, words, _ = strings.Cut(strings.TrimLeft(words, " "), " ")
		if called := base(word); called != "" && !manyNamed(called) && called != "exe" && !strings.HasPrefix(called, "-") {
			return called
		}
	}
	// What was stopped still has the name of its caller.
	if called := base(a.Command); programs[called].step != "" {
		return called
	}
	return name
}

// scratch tells whether a program lies where no image puts its programs and where
// everyone may write, or has no file at all.
func scratch(file string) bool {
	for _, prefix := range []string{"/tmp/", "/var/tmp/", "/dev/", "/memfd:", "/proc/", "/run/user/", "memfd:"} {
		if strings.HasPrefix(file, prefix) {
			return true
		}
	}
	return strings.HasSuffix(file, " (deleted)")
}

// runtimeAlike tells whether a program looks like that by which a container's runtime
// puts processes into it: a file at the root of a mount that no path leads to.
func runtimeAlike(file string) bool {
	switch file {
	case "/runc", "/crun", "/youki":
		return true
	}
	return strings.HasPrefix(file, "/memfd:runc_cloned:") || strings.HasPrefix(file, "/memfd:crun_cloned:")
}
