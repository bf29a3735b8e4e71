package armor

import "slices"

// Files is every path that a policy must name to keep the program from being run: its
// Paths, and the files that distributions have behind them, as a rule matches the real
// path only. It is empty for a capability.
//
// BusyBox and other programs of many names cannot be named for one of them alone,
// except where each name is a hard link: those lie where Paths and this list say.
func (e Element) Files() []string {
	files := slices.Clone(e.Paths)
	for _, file := range behind(e.Name) {
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// behind are the real files of a program where its usual path is a symbolic link, and
// where a merged /usr/sbin puts it.
func behind(name string) []string {
	switch name {
	case "chroot":
		// Ubuntu since 25.10: the Rust coreutils as hard links, GNU's under another name.
		return []string{"/usr/lib/cargo/bin/coreutils/chroot", "/usr/sbin/gnuchroot", "/usr/bin/gnuchroot"}
	case "dnf", "yum":
		// RHEL 8 and 9, Fedora up to 40; Fedora since 41.
		return []string{"/usr/bin/dnf-3", "/usr/bin/dnf5"}
	case "wget":
		// Fedora since 40.
		return []string{"/usr/bin/wget2"}
	case "apk":
		return []string{"/usr/bin/apk"}
	}
	return nil
}

// Applet tells whether BusyBox has the program built in, so that it cannot be named
// where it is a link to BusyBox.
func (e Element) Applet() bool { return e.Kind != Capability && applet(e.Name) }
