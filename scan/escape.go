package scan

import (
	"fmt"
	"slices"
	"strings"
)

// escapePath is one way out of a container: a row of the table of escape paths.
type escapePath struct {
	Rule
	// find lists where the pod's spec leaves the path open.
	find func(*draft) []hit
	// What a property of the pod does to the path; nil where it does nothing.
	userNamespace, sandbox, nonRoot *effect
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
}

// judgePaths finds the escape paths that the pod leaves open.
func (e *Engine) judgePaths(d *draft, facts Facts, j *Judgement) {
	var aggravations []Finding
	open := map[string]bool{}
	sandboxBy, sandbox := facts.sandbox(d)
	for i := range e.paths {
		p := &e.paths[i]
		hits := p.find(d)
		for k := range hits {
			f := p.finding(d, &hits[k], sandboxBy, sandbox)
			if p.Aggravates {
				f.Open = false
				aggravations = append(aggravations, f)
				continue
			}
			if f.Open {
				open[f.Container] = true
				j.open(&f)
			}
			j.Findings = append(j.Findings, f)
		}
	}
	for _, f := range aggravations {
		// A field of the pod weakens all its containers, and a way out that belongs to
		// the pod can be gone from each of them.
		if open[f.Container] || open[""] || (f.Container == "" && len(open) > 0) {
			j.Findings = append(j.Findings, f)
		}
	}
}

func (j *Judgement) open(f *Finding) {
	if !slices.Contains(j.Paths, f.Rule) {
		j.Paths = append(j.Paths, f.Rule)
	}
	if j.Severity == "" || f.Severity.Rank() > j.Severity.Rank() {
		j.Severity = f.Severity
	}
}

// finding describes one hit, weighs what lowers it, and keeps its fix only when
// the path is closed once the fix is made.
func (p *escapePath) finding(d *draft, h *hit, sandboxBy string, sandbox bool) Finding {
	f := Finding{
		Rule: p.ID, Category: CategoryEscape, Title: p.Title, Severity: p.Severity,
		Open: true, Message: h.message,
	}
	if h.severity != "" {
		f.Severity = h.severity
	}
	h.describe(&f)
	if h.edit.do == nil || !p.closedBy(d, h) {
		f.Fix = nil
	}
	if h.shut != nil {
		f.lower(h.by, h.shut)
	}
	if d.inUserNamespace() {
		f.lower("hostUsers: false", p.userNamespace)
	}
	if sandbox {
		f.lower(sandboxBy, p.sandbox)
	}
	if h.container != nil {
		if uid, ok := d.uid(h.container); ok && uid != 0 {
			f.lower(fmt.Sprintf("runAsUser: %d", uid), p.nonRoot)
		}
	}
	return f
}

// closedBy tries the hit's repair: the same place must then be found no more.
func (p *escapePath) closedBy(d *draft, h *hit) bool {
	h.do()
	defer h.undo()
	return !slices.ContainsFunc(p.find(d), func(other hit) bool {
		return other.field == h.field && other.item == h.item && other.containerPath() == h.containerPath()
	})
}

func (r *repair) containerPath() string {
	if r.container == nil {
		return ""
	}
	return r.container.path()
}

func (f *Finding) lower(by string, e *effect) {
	if e == nil {
		return
	}
	if !e.closes && e.to.Rank() >= f.Severity.Rank() {
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

// sandbox tells whether the pod's runtime class puts a kernel of its own between
// the pod and the host, and by what that is known.
func (facts Facts) sandbox(d *draft) (by string, yes bool) {
	class := d.spec.RuntimeClassName
	if class == nil || *class == "" {
		return "", false
	}
	handler, ok := facts.RuntimeHandlers[*class]
	if !ok {
		if facts.RuntimeHandlersKnown {
			return "", false
		}
		// A name proves nothing: anyone may call a class "gvisor".
		return "", false
	}
	if !sandboxHandler(handler) {
		return "", false
	}
	return fmt.Sprintf("runtimeClassName: %s (handler %s)", *class, handler), true
}

// sandboxHandler reports whether a handler is by its name gVisor's, Kata
// Containers' or another runtime with a kernel of its own.
func sandboxHandler(handler string) bool {
	h := strings.ToLower(handler)
	return h == "gvisor" || h == "gvisor-kvm" || strings.HasPrefix(h, "runsc") ||
		strings.HasPrefix(h, "kata") || strings.Contains(h, "firecracker")
}

// escapeTable is the table of escape paths.
func escapeTable() []escapePath {
	table := slices.Concat(processPaths(), capabilityPaths(), hostPathPaths(), aggravations())
	for i := range table {
		p := &table[i]
		p.Category = CategoryEscape
		p.SecuritySeverity = p.Severity.securitySeverity()
		if p.HelpURL == "" {
			p.HelpURL = "https://attack.mitre.org/techniques/T1611/"
		}
	}
	return table
}
