package armor

import (
	"fmt"
	"strings"
)

func (p *Policy) readFiles(place string, to *section, from *fileRules) {
	own := p.action(place+".action", from.Action)
	for i := range from.MatchPaths {
		r, at := &from.MatchPaths[i], fmt.Sprintf("%s.matchPaths[%d]", place, i)
		match := r.Path
		if r.ExecName != "" {
			match = r.ExecName
			if strings.Contains(match, "/") {
				p.problem(at+".execname", "%q is a path, not a name", match)
			}
		} else if !strings.HasPrefix(match, "/") || strings.HasSuffix(match, "/") {
			p.problem(at+".path", "%q is not an absolute path of a file", match)
			continue
		}
		if len(match) >= maxPath {
			p.problem(at, "a path of %d bytes does not fit: the kernel side keeps %d", len(match), maxPath-1)
			continue
		}
		to.add(match, false, p.callers(at, r.FromSource), r.value(p.inherit(at, r.Action, own)))
	}
	for i := range from.MatchDirectories {
		r, at := &from.MatchDirectories[i], fmt.Sprintf("%s.matchDirectories[%d]", place, i)
		if !strings.HasPrefix(r.Directory, "/") || !strings.HasSuffix(r.Directory, "/") {
			p.problem(at+".dir", "%q is not an absolute path that ends in a slash", r.Directory)
			continue
		}
		to.add(r.Directory, true, p.callers(at, r.FromSource), r.value(p.inherit(at, r.Action, own)))
	}
	for i := range from.MatchPatterns {
		r, at := &from.MatchPatterns[i], fmt.Sprintf("%s.matchPatterns[%d]", place, i)
		action := p.inherit(at, r.Action, own)
		if r.Pattern == "" || !action.known() {
			continue
		}
		to.patterns = append(to.patterns, pattern{r.Pattern, action})
		to.rules++
	}
}

func (a Action) known() bool { return a == Allow || a == Audit || a == Block }

func (r *fileRule) value(action Action) value {
	return value{
		action: action, recursive: r.Recursive, ownerOnly: r.OwnerOnly, readOnly: r.ReadOnly,
		terminal: r.Pts != nil && !*r.Pts, args: len(r.AllowedArgs) > 0,
	}
}

// callers are the paths of fromSource. An empty one is a rule for all callers.
func (p *Policy) callers(place string, from []source) []string {
	paths := make([]string, 0, len(from))
	for i, s := range from {
		if !strings.HasPrefix(s.Path, "/") {
			p.problem(fmt.Sprintf("%s.fromSource[%d].path", place, i), "%q is not an absolute path", s.Path)
		}
		paths = append(paths, s.Path)
	}
	return paths
}

func (p *Policy) readCapabilities(from *namedRules) {
	own := p.action("spec.capabilities.action", from.Action)
	// A list in the first rule makes KubeArmor take every rule as a list.
	lists := len(from.MatchCapabilities) > 0 && strings.Contains(from.MatchCapabilities[0].Capability, ",")
	for i := range from.MatchCapabilities {
		r, at := &from.MatchCapabilities[i], fmt.Sprintf("spec.capabilities.matchCapabilities[%d]", i)
		names := []string{r.Capability}
		if lists {
			names = strings.Split(strings.ReplaceAll(r.Capability, " ", ""), ",")
		}
		action := p.inherit(at, r.Action, own)
		for _, written := range names {
			name, ok := loadedCapability(written)
			if !ok {
				p.problem(at+".capability", "%q is no capability that KubeArmor knows: it loads a rule about chown instead", written)
			}
			p.capabilities.add(name, false, p.callers(at, r.FromSource), value{action: action})
		}
	}
}

// loadedCapability is the capability that KubeArmor makes of a name: it puts "CAP_"
// before it unless it finds a lower-case "cap_" in it, and what is then unknown is
// looked up as number 0, which is chown.
func loadedCapability(written string) (string, bool) {
	name := strings.ToUpper(written)
	if !strings.Contains(written, "cap_") {
		name = "CAP_" + name
	}
	short, ok := strings.CutPrefix(name, "CAP_")
	short = strings.ToLower(short)
	if !ok || !knownCapability(short) {
		return "chown", false
	}
	return short, true
}

// capability is the name of a capability as rules are kept under, from any spelling.
func capability(name string) string {
	return strings.TrimPrefix(strings.ToLower(name), "cap_")
}

// knownCapability tells whether KubeArmor has a number for the capability. It lacks
// checkpoint_restore.
func knownCapability(name string) bool {
	switch name {
	case "audit_control", "audit_read", "audit_write", "block_suspend", "bpf", "chown", "dac_override",
		"dac_read_search", "fowner", "fsetid", "ipc_lock", "ipc_owner", "kill", "lease", "linux_immutable",
		"mac_admin", "mac_override", "mknod", "net_admin", "net_bind_service", "net_broadcast", "net_raw",
		"perfmon", "setfcap", "setgid", "setpcap", "setuid", "sys_admin", "sys_boot", "sys_chroot",
		"sys_module", "sys_nice", "sys_pacct", "sys_ptrace", "sys_rawio", "sys_resource", "sys_time",
		"sys_tty_config", "syslog", "wake_alarm":
		return true
	}
	return false
}
