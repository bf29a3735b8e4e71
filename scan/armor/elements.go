package armor

import (
	"path"
	"slices"
	"strings"
)

// place is an element with what is known of where it really lies.
type place struct {
	Element
	// real are the paths that must be refused for the element to count as blocked in
	// a container that nobody looked into.
	real []string
}

// The real paths are those at which the common distributions put the file itself,
// as a rule matches only there:
//
//   - Debian, Ubuntu, Fedora, RHEL, SUSE and Arch keep package managers, make, curl
//     and wget in /usr/bin, with or without a merged /usr; /bin/apt and the like are
//     the same file through the link /bin, and a rule on them adds nothing.
//   - apk lies in /sbin up to Alpine 3.22 and in /usr/sbin from 3.23, whose /usr is
//     merged. Both must be refused.
//   - chroot lies in /usr/sbin, but in /usr/bin on Arch and since Fedora 42, where
//     /usr/sbin is a link to bin. The escapeToHost set does not name that place, so
//     it is asked for only where the image's name says Arch or Fedora, or where
//     somebody looked.
//   - What lies in /usr/local is not from a distribution. It is looked at where
//     somebody looked into the container, and listed as missing otherwise.
//
// BusyBox is left to the image's name and to looking: its applets are links to one
// file, in most images /bin/busybox (or /usr/bin/busybox), in some hard links with
// their own names.
var places = buildPlaces()

func buildPlaces() []place {
	var all []place
	for _, name := range []string{"sys_admin", "sys_ptrace", "sys_module", "dac_read_search", "dac_override"} {
		all = append(all, place{Element: Element{Kind: Capability, Name: name}})
	}
	all = append(all, program(Chroot, "chroot", []string{"/usr/sbin"}, "/sbin", "/usr/bin", "/bin"))
	for _, name := range []string{"apt", "apt-get", "dpkg", "gdebi", "make", "yum", "rpm", "dnf", "zypper"} {
		all = append(all, program(Tool, name, []string{"/usr/bin"}, "/bin"))
	}
	for _, name := range []string{"curl", "wget"} {
		all = append(all, program(Tool, name, []string{"/usr/bin"}, "/bin", "/usr/local/bin"))
	}
	all = append(all, program(Tool, "apk", []string{"/sbin", "/usr/sbin"}))
	for _, name := range []string{"pacman", "makepkg", "yaourt"} {
		all = append(all, program(Tool, name, []string{"/usr/bin"}, "/usr/sbin", "/bin", "/sbin"))
	}
	return all
}

func program(kind ElementKind, name string, real []string, also ...string) place {
	p := place{Element: Element{Kind: kind, Name: name}}
	for _, dir := range real {
		p.real = append(p.real, dir+"/"+name)
	}
	p.Paths = slices.Clone(p.real)
	for _, dir := range also {
		p.Paths = append(p.Paths, dir+"/"+name)
	}
	return p
}

// Elements is the escapeToHost set: five capabilities, chroot, and the deployment
// tools with every path at which a distribution puts them or has them reached.
func Elements() []Element {
	all := make([]Element, 0, len(places))
	for _, p := range places {
		e := p.Element
		e.Paths = slices.Clone(e.Paths)
		all = append(all, e)
	}
	return all
}

// PathsToInspect is what is worth resolving inside of a running container: every
// file of the set and every path that one of the policies blocks or audits.
// What Container.Paths says of them decides whether a rule on a path bites.
func PathsToInspect(policies []*Policy) []string {
	var paths []string
	for _, p := range places {
		paths = append(paths, p.Files()...)
	}
	for _, p := range policies {
		paths = append(paths, p.process.named...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// family is what the name of an image lets one expect of its programs.
type family int

const (
	familyUnknown family = iota
	// familyBusyBox: small tools are applets of one program.
	familyBusyBox
	// familyMergedBin: /usr/sbin is a link to /usr/bin.
	familyMergedBin
)

// imageFamily reads the name and the tag of an image. It is a hint, no more: anyone
// may call an image what they like.
func imageFamily(image string) family {
	name, _, _ := strings.Cut(image, "@")
	name, tag, _ := strings.Cut(path.Base(name), ":")
	for word := range strings.FieldsFuncSeq(strings.ToLower(name+"-"+tag), func(r rune) bool { return r == '-' || r == '_' || r == '.' }) {
		switch {
		case strings.HasPrefix(word, "busybox"), strings.HasPrefix(word, "alpine"):
			return familyBusyBox
		case strings.HasPrefix(word, "archlinux"), strings.HasPrefix(word, "fedora"):
			return familyMergedBin
		}
	}
	return familyUnknown
}

// applet tells whether BusyBox has the program built in.
func applet(name string) bool {
	switch name {
	case "chroot", "wget", "dpkg", "rpm":
		return true
	}
	return false
}

// busybox is where the applets' program lies; where /usr is merged, below it.
const busybox = "/bin/busybox"

// aliases are other paths that may lead to the same file, by the links of a merged
// /usr: /bin/x is /usr/bin/x there.
func aliases(file string) []string {
	for _, dir := range []string{"/bin/", "/sbin/"} {
		if strings.HasPrefix(file, dir) {
			return []string{"/usr" + file}
		}
		if strings.HasPrefix(file, "/usr"+dir) && !strings.Contains(file[len("/usr"+dir):], "/") {
			return []string{strings.TrimPrefix(file, "/usr")}
		}
	}
	return nil
}
