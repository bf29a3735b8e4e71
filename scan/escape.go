package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// escapePath is one way out of a container: a row of the table of escape paths.
type escapePath struct {
	Rule
	// find lists where the pod's spec leaves the path open.
	find func(*draft) []hit
	lowerings
}

// lowerings say what a property of the pod does to an escape path; nil where it
// does nothing.
type lowerings struct {
	userNamespace *effect
	// sandbox is what a kernel in user space does, and guest a virtual machine; a
	// nil guest means that it does the same.
	sandbox, guest *effect
	// nonRoot is what a user other than root does, and bounded what such a user
	// does who cannot gain privileges either (no_new_privs).
	nonRoot, bounded *effect
}

// effect is what a property of the pod takes from an escape path.
type effect struct {
	to     Severity
	closes bool
	reason string
}

// hit is one place where an escape path is open. Its repair closes the path.
type hit struct {
	repair
	message string
	// severity overrides the rule's.
	severity Severity
	// shut says why the path is not open here after all.
	shut *effect
	// by names the property behind shut.
	by string
	// nonRoot overrides the row's.
	nonRoot *effect
	// among are the containers that an aggravation reaches.
	among []string
}

// judgePaths finds the escape paths that the pod leaves open.
func (e *Engine) judgePaths(d *draft, facts Facts, j *Judgement) {
	// The names of the containers that a path leads out of; "" for one that leads
	// out of all of them.
	var open []string
	box := facts.sandbox(d)
	inSandbox := true
	for i := range e.paths {
		p := &e.paths[i]
		if p.Aggravates && len(open) == 0 {
			continue
		}
		hits := p.find(d)
		if len(hits) == 0 {
			continue
		}
		p.prove(d, hits)
		for k := range hits {
			if p.Aggravates && !slices.Contains(open, "") && !slices.ContainsFunc(hits[k].among, func(name string) bool { return slices.Contains(open, name) }) {
				continue
			}
			f := d.found()
			p.report(f, d, &hits[k], box)
			if f.Open {
				open = append(open, f.Container)
				j.open(f)
				inSandbox = inSandbox && p.sandbox != nil && p.sandbox.closes
			}
		}
	}
	j.Unsure = facts.missing(d, len(j.Paths) > 0, inSandbox)
	if facts.ClaimsUnknown && hasClaims(&d.spec) {
		j.more = unreadClaims
	}
	j.boxed = box.by
	if class := d.spec.RuntimeClassName; class != nil && *class != "" && !facts.RuntimeHandlersKnown {
		j.maybeBoxed = "whether the runtime class " + *class + " is a sandbox, into which KubeArmor does not see, is not known"
	}
}

const unreadClaims = "whether its persistent volume claims lead to a path of the host could not be read"

// missing says what could not be read that would decide about the pod. exposed
// tells whether paths are open as far as is known, inSandbox whether a sandbox
// would close them all.
func (facts Facts) missing(d *draft, exposed, inSandbox bool) string {
	class := d.spec.RuntimeClassName
	switch {
	case exposed && inSandbox && !facts.RuntimeHandlersKnown && class != nil && *class != "":
		return "whether the runtime class " + *class + " is a sandbox, which would close what is open, is not known"
	case !exposed && facts.ClaimsUnknown && hasClaims(&d.spec):
		return unreadClaims
	}
	return ""
}

func (j *Judgement) open(f *Finding) {
	if !slices.Contains(j.Paths, f.Rule) {
		j.Paths = append(j.Paths, f.Rule)
	}
	if j.Severity == "" || f.Severity.Rank() > j.Severity.Rank() {
		j.Severity = f.Severity
	}
}

// prove tries the repairs of one path on one pod together: where the same place is
// found again, its fix is taken back.
func (p *escapePath) prove(d *draft, hits []hit) {
	for i := range hits {
		hits[i].do()
	}
	left := p.find(d)
	for i := range slices.Backward(hits) {
		hits[i].undo()
	}
	for i := range hits {
		h := &hits[i]
		h.unproven = slices.ContainsFunc(left, h.samePlace)
	}
}

// report fills in the finding of one hit and weighs what lowers it.
func (p *escapePath) report(f *Finding, d *draft, h *hit, box sandbox) {
	f.Rule, f.Category, f.Title = p.ID, CategoryEscape, p.Title
	f.Severity, f.Open, f.Message = cmp.Or(h.severity, p.Severity), !p.Aggravates, h.message
	h.describe(f)
	if h.shut != nil {
		f.lower(h.by, h.shut)
	}
	if d.inUserNamespace() {
		f.lower("hostUsers: false", p.userNamespace)
	}
	if box.by != "" {
		by := p.sandbox
		if box.guest && p.guest != nil {
			by = p.guest
		}
		f.lower(box.by, by)
	}
	nonRoot := p.nonRoot
	if h.nonRoot != nil {
		nonRoot = h.nonRoot
	}
	if nonRoot == nil {
		return
	}
	if by, yes := d.nonRoot(h.container); yes {
		if p.bounded != nil && h.container.noNewPrivileges() {
			by, nonRoot = by+" and allowPrivilegeEscalation: false", p.bounded
		}
		f.lower(by, nonRoot)
	}
}

func (f *Finding) lower(by string, e *effect) {
	if e == nil || (!e.closes && e.to.Rank() >= f.Severity.Rank()) {
		return
	}
	f.Lowered = append(f.Lowered, Lowering{By: by, From: f.Severity, Closes: e.closes, Reason: e.reason})
	if e.to.Rank() < f.Severity.Rank() {
		f.Severity = e.to
	}
	if e.closes {
		f.Open = false
	}
}

// sandbox is a runtime with a kernel of its own.
type sandbox struct {
	// by says how it is known; empty when there is none.
	by string
	// guest is true for a virtual machine.
	guest bool
}

// sandbox tells whether the pod's runtime class puts a kernel of its own between
// the pod and the host. The class's name proves nothing, as anyone may call a
// class "gvisor": its handler must be known.
func (facts Facts) sandbox(d *draft) sandbox {
	class := d.spec.RuntimeClassName
	if class == nil || *class == "" {
		return sandbox{}
	}
	handler := facts.RuntimeHandlers[*class]
	h := strings.ToLower(handler)
	by := fmt.Sprintf("runtimeClassName: %s (handler %s)", *class, handler)
	switch {
	case h == "gvisor", h == "gvisor-kvm", strings.HasPrefix(h, "runsc"):
		return sandbox{by: by}
	case strings.HasPrefix(h, "kata"), strings.Contains(h, "firecracker"):
		return sandbox{by: by, guest: true}
	}
	return sandbox{}
}

// escapeTable is the table of escape paths.
func escapeTable() []escapePath {
	// Aggravations come last: they are looked for only beside an open path.
	table := slices.Concat(processPaths(), capabilityPaths(), hostPathPaths(), aggravations())
	for i := range table {
		p := &table[i]
		p.Category = CategoryEscape
		p.SecuritySeverity = p.Severity.securitySeverity()
		if p.HelpURL == "" {
			p.HelpURL = rulePage(p.ID)
		}
	}
	return table
}
