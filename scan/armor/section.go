package armor

import (
	"path"
	"slices"
	"strings"
)

// section is what a policy says of processes, files or capabilities.
type section struct {
	// loaded is what an enforcer puts into the kernel, the Allow and Block rules;
	// audited is what only the monitor looks for.
	loaded, audited book
	// patterns are matchPatterns, which BPF-LSM does not load.
	patterns []pattern
	// named are the paths of files that rules block or audit, as the policy lists them.
	named []string
	// sources are the callers that rules are limited to.
	sources []string
	// rules counts those that have an effect somewhere.
	rules int
	// allows tells that a rule turns the container over to whitelist handling.
	allows bool
}

// book holds rules by what they match. The last rule of a policy on a key wins, as
// in the agent's own map.
type book struct {
	exact map[ruleKey]value
	dirs  map[ruleKey]value
}

// ruleKey is a path, a program's name, a directory ending in a slash or a
// capability; and the caller that the rule is limited to, empty for all.
type ruleKey struct{ match, source string }

// value is what a rule asks for.
type value struct {
	action    Action
	recursive bool
	ownerOnly bool
	readOnly  bool
	terminal  bool
	args      bool
}

// pattern is one entry of matchPatterns.
type pattern struct {
	glob   string
	action Action
}

// maxPath is the length of KubeArmor's path keys. The kernel side keeps one byte for
// the terminator, so a path that fills the key never matches.
const maxPath = 200

// add enters a rule for all of its sources.
func (s *section) add(match string, dir bool, sources []string, v value) {
	b := &s.loaded
	switch v.action {
	case Allow:
		s.allows = true
	case Block:
		if !dir && strings.HasPrefix(match, "/") {
			s.named = append(s.named, match)
		}
	case Audit:
		b = &s.audited
		if !dir && strings.HasPrefix(match, "/") {
			s.named = append(s.named, match)
		}
	default:
		return
	}
	s.rules++
	if len(sources) == 0 {
		sources = []string{""}
	}
	for _, source := range sources {
		b.add(match, source, dir, v)
		if source != "" && !slices.Contains(s.sources, source) {
			s.sources = append(s.sources, source)
		}
	}
}

func (b *book) add(match, source string, dir bool, v value) {
	if b.exact == nil {
		b.exact, b.dirs = map[ruleKey]value{}, map[ruleKey]value{}
	}
	if dir {
		b.dirs[ruleKey{match, source}] = v
		// The agent enters a directory as a file, too.
		match = strings.TrimSuffix(match, "/")
	}
	if len(match) < maxPath {
		b.exact[ruleKey{match, source}] = v
	}
}

// has tells whether a rule asks for the action.
func (s *section) has(a Action) bool {
	for _, b := range []*book{&s.loaded, &s.audited} {
		for _, v := range b.exact {
			if v.action == a {
				return true
			}
		}
	}
	return slices.ContainsFunc(s.patterns, func(p pattern) bool { return p.action == a })
}

// entries bounds what the section takes of the agent's map in the kernel: one for
// each rule, and for a directory one for each that it lies in.
func (s *section) entries() int {
	n := len(s.loaded.exact) + len(s.loaded.dirs)
	for key := range s.loaded.dirs {
		n += max(0, strings.Count(key.match, "/")-1)
	}
	return n
}

// collect enters the same into a set, so that what policies share counts once.
func (s *section) collect(keys map[ruleKey]bool) {
	for key := range s.loaded.exact {
		keys[key] = true
	}
	for key := range s.loaded.dirs {
		for i := range len(key.match) {
			if key.match[i] == '/' {
				keys[ruleKey{key.match[:i+1], key.source}] = true
			}
		}
	}
}

// hit is a rule that speaks of what is asked about.
type hit struct {
	policy *Policy
	value  value
}

// which picks a section of a policy.
type which func(*Policy) *section

func processSection(p *Policy) *section    { return &p.process }
func fileSection(p *Policy) *section       { return &p.file }
func capabilitySection(p *Policy) *section { return &p.capabilities }

func loadedBook(s *section) *book  { return &s.loaded }
func auditedBook(s *section) *book { return &s.audited }

// rules is what all policies on a container say of one kind of thing.
type rules struct {
	policies []*Policy
	section  which
	book     func(*section) *book
}

// exact are the rules of all policies on one key.
func (r rules) exact(match, source string) []hit {
	var hits []hit
	for _, p := range r.policies {
		if v, ok := r.book(r.section(p)).exact[ruleKey{match, source}]; ok {
			hits = append(hits, hit{p, v})
		}
	}
	return hits
}

// maxDirs is how far into a path the kernel side looks for directories.
const maxDirs = 64

// directory are the rules that hold for a path by its directories: the innermost
// recursive one, else one for the file's own directory.
func (r rules) directory(file, source string) []hit {
	if !slices.ContainsFunc(r.policies, func(p *Policy) bool { return len(r.book(r.section(p)).dirs) > 0 }) {
		return nil
	}
	var recursive, direct []hit
	for i := 0; i < len(file) && i < maxDirs; i++ {
		if file[i] != '/' {
			continue
		}
		own := !strings.Contains(file[i+1:], "/")
		var found []hit
		for _, p := range r.policies {
			v, ok := r.book(r.section(p)).dirs[ruleKey{file[:i+1], source}]
			switch {
			case ok && v.recursive:
				found = append(found, hit{p, v})
			case ok && own:
				direct = append(direct, hit{p, v})
			}
		}
		if len(found) > 0 {
			recursive = found
		}
	}
	if len(recursive) > 0 {
		return recursive
	}
	return direct
}

// file finds the rules that decide on a file for one caller, in the order in which
// the kernel side looks: the caller's own rules before those for all, the path
// before the program's name before its directories.
func (r rules) file(file, source string) []hit {
	if source != "" {
		if hits := r.exact(file, source); len(hits) > 0 {
			return hits
		}
		if hits := r.directory(file, source); len(hits) > 0 {
			return hits
		}
	}
	if hits := r.exact(file, ""); len(hits) > 0 {
		return hits
	}
	if hits := r.exact(path.Base(file), ""); len(hits) > 0 {
		return hits
	}
	return r.directory(file, "")
}

// capability finds the rules that decide on a capability for one caller.
func (r rules) capability(name, source string) []hit {
	if source != "" {
		if hits := r.exact(name, source); len(hits) > 0 {
			return hits
		}
	}
	return r.exact(name, "")
}

// sources are the callers that any rule is limited to, sorted.
func (r rules) sources() []string {
	var all []string
	for _, p := range r.policies {
		all = append(all, r.section(p).sources...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// allowing are the policies that turn the container over to whitelist handling.
func (r rules) allowing() []*Policy {
	var all []*Policy
	for _, p := range r.policies {
		if r.section(p).allows {
			all = append(all, p)
		}
	}
	return all
}
