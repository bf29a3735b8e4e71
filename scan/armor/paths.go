package armor

import (
	"path"
	"slices"
	"strings"
)

// resolve gives the real paths that a path may stand for in the container, the
// likeliest first; more than one where nobody looked or the answer was not among
// what was looked at.
func (c *Container) resolve(file string) []string {
	if c.Paths == nil {
		return c.guess(file)
	}
	if real, ok := c.Paths[file]; ok {
		if real == "" {
			return []string{file}
		}
		return []string{real}
	}
	dir, base := path.Split(file)
	for _, named := range sortedKeys(c.Paths) {
		real := c.Paths[named]
		if real == file {
			return []string{file}
		}
		if d, b := path.Split(named); d == dir && real != "" && path.Base(real) == b {
			// The folder of a file that kept its name tells where the folder leads.
			return c.orBusyBox(path.Dir(real) + "/" + base)
		}
	}
	return c.orBusyBox(c.guess(file)...)
}

// orBusyBox adds BusyBox where other paths of the container lead to it.
func (c *Container) orBusyBox(files ...string) []string {
	for _, named := range sortedKeys(c.Paths) {
		if real := c.Paths[named]; path.Base(real) == "busybox" && !slices.Contains(files, real) {
			return append(files, real)
		}
	}
	return files
}

func sortedKeys(paths map[string]string) []string {
	keys := make([]string, 0, len(paths))
	for key := range paths {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// guess is resolve without anything looked at: folders of the root may be links
// into /usr, and the image's name may hint at more.
func (c *Container) guess(file string) []string {
	files := []string{file}
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(file, dir) {
			files = append(files, "/usr"+file)
		}
	}
	switch imageFamily(c.Image) {
	case familyBusyBox:
		if inBin(file) && path.Base(file) != path.Base(busybox) {
			files = append(files, busybox, "/usr"+busybox)
		}
	case familyMergedBin:
		if strings.HasPrefix(file, "/sbin/") || strings.HasPrefix(file, "/usr/sbin/") {
			files = append(files, "/usr/bin/"+path.Base(file))
		}
	case familyUnknown:
	}
	return files
}

func inBin(file string) bool {
	switch path.Dir(file) {
	case "/bin", "/sbin", "/usr/bin", "/usr/sbin":
		return true
	}
	return false
}
