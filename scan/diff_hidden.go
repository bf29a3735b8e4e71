package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// hidden says what cannot be seen where something could not be read.
type hidden int

const (
	// hidesRows: workloads, and findings in any of them.
	hidesRows hidden = 1 << iota
	hidesPSS
	hidesEscape
	// hidesLayers: what is wrong with policies and nodes, and whether policies bite.
	hidesLayers
	hidesPolicies
	hidesNodes

	hidesPods       = hidesRows | hidesPSS | hidesEscape | hidesLayers
	hidesEverything = hidesPods | hidesPolicies | hidesNodes
)

// hides is what the failure leaves in the dark. What this version does not know the
// subject of hides everything.
func (f *Failure) hides() hidden {
	subject, _ := strings.CutPrefix(f.Subject, "watch of ")
	switch subject {
	case "pods", "templates":
		return hidesPods
	case "nodes":
		return hidesNodes | hidesLayers
	case "namespaces", "pods of KubeArmor", "checks of the nodes":
		return hidesLayers
	case "server version":
		return hidesPSS | hidesLayers
	case "runtime classes", "persistent volumes":
		return hidesEscape
	case "alerts", "pods of alerts":
		return 0
	}
	for _, kind := range ObjectKinds() {
		if subject == kind.String() {
			return hidesPolicies | hidesLayers
		}
	}
	switch {
	case strings.HasPrefix(subject, "alerts of "):
		return 0
	case f.optional():
		return hidesLayers
	}
	return hidesEverything
}

// optional reports whether only a run that was allowed to look closer reads such a thing.
func (f *Failure) optional() bool {
	for _, prefix := range []string{"probe data of ", "checks of the nodes", "check of node ", "image of ", "dry run of ", "alerts"} {
		if strings.HasPrefix(f.Subject, prefix) {
			return true
		}
	}
	return f.Subject == "pods of alerts"
}

// missed says of a run that it could not read that.
func (f *Failure) missed() string {
	text := f.Subject
	if f.Namespace != "" && f.Subject != "namespace "+f.Namespace {
		text += " in " + f.Namespace
	}
	return fmt.Sprintf("could not read %s (%s)", text, f.Reason)
}

// What these return goes on after "the old run" or "the new run".

// hidesRow says why the run may have missed a row, or a part of it, that the other has;
// empty where it would have seen it.
func (s *DiffSide) hidesRow(ref RowRef, other *DiffSide) string {
	return s.hidesFrom(ref, hidesRows, nil, other)
}

// hides says why the run may have missed a finding in a row of the other.
func (s *DiffSide) hides(ref RowRef, f *Finding, other *DiffSide) string {
	if s.absent != "" {
		return s.absent
	}
	what := hidesRows
	switch f.Category {
	case CategoryPSS:
		what |= hidesPSS
	case CategoryEscape:
		what |= hidesEscape
	case CategoryPolicy, CategoryKernel:
		what |= hidesLayers | hidesPolicies
	case CategoryException:
		// Whether one is used is only said where all was read.
		if s.Incomplete() {
			return "could not read everything, so it does not say which exceptions are used"
		}
		if why := s.unvisited(other); why != "" {
			return why
		}
	}
	row := s.rows[ref]
	switch {
	case (row == nil || row.verdict == nil) && other.judged(ref):
		// The workload itself is not there: what is said of it goes with it.
		return s.hidesRow(ref, other)
	case f.Category == CategoryPSS && s.Start().Level != other.Start().Level:
		// The controls of the levels stand in for each other.
		return "judged by the level " + s.Start().Level
	}
	if why := s.hidesFrom(ref, what, f, other); why != "" {
		return why
	}
	switch end := s.End(); {
	case s.Start().RuleSet != other.Start().RuleSet:
		// It may have no such rule.
		return "judged by " + cmp.Or(prefixed("rule set ", s.Start().RuleSet), "a rule set without a name")
	case end.Known > 0:
		return fmt.Sprintf("left out %d findings that its baseline has", end.Known)
	case row != nil && row.verdict != nil && row.verdict.Verdict == VerdictUnknown && f.Category == CategoryEscape:
		return "does not know the verdict: " + row.verdict.Reason
	case f.Category == CategoryPolicy || f.Category == CategoryKernel:
		return s.otherKind(other)
	}
	return ""
}

// judged reports whether there is a verdict on the row.
func (s *DiffSide) judged(ref RowRef) bool { return s.rows[ref] != nil && s.rows[ref].verdict != nil }

// hidesFrom says why something of a row may have been missed. The finding is nil where it
// is about the row itself.
func (s *DiffSide) hidesFrom(ref RowRef, what hidden, f *Finding, other *DiffSide) string {
	namespace := ref.Workload.Namespace
	if why := cmp.Or(s.outside(namespace, other), s.unlisted(other.fileOf(ref, f), other)); why != "" {
		return why
	}
	start := s.Start()
	switch {
	case start.Selector != "" && (start.Selector != other.Start().Selector || !s.judged(ref)):
		return "looked only at pods that match " + start.Selector
	case !s.judged(ref) && other.judged(ref) && s.otherKind(other) != "":
		return s.otherKind(other)
	case s.unread[namespace]:
		return "could not read the pods in " + namespace
	}
	for _, failure := range s.Failures() {
		if failure.hides()&what != 0 && (failure.Namespace == "" || failure.Namespace == namespace || namespace == "") && !s.readBeside(failure, ref, f) {
			return failure.missed()
		}
	}
	return s.halved()
}

// readBeside reports whether a file that is broken does not concern a finding of a
// document in another one: it would have been found there.
func (s *DiffSide) readBeside(failure *Failure, ref RowRef, f *Finding) bool {
	if f == nil || failure.hides() != hidesEverything || s.Start().Source != SourceManifests || !s.judged(ref) {
		return false
	}
	// Where a volume leads may be written in the broken file.
	if f.Category != CategoryPSS && (f.Category != CategoryEscape || strings.HasPrefix(f.Field, "spec.volumes[")) {
		return false
	}
	v := s.rows[ref].verdict
	if v.Pods > 0 || v.Location == nil || f.Location == nil || v.Location.File == failure.file() {
		return false
	}
	return f.Location.File == v.Location.File || !mayBeIn(f.Location.File, failure.file())
}

// hidesThing says why the run may have missed a policy or a node, or what it does.
func (s *DiffSide) hidesThing(namespace string, what hidden, other *DiffSide) string {
	start := s.Start()
	if what == hidesNodes {
		if why := cmp.Or(s.stopped(), s.otherKind(other)); why != "" {
			return why
		}
	} else if why := cmp.Or(s.outside(namespace, other), s.otherKind(other), s.unlisted("", other)); why != "" {
		return why
	}
	if what == hidesLayers && start.Selector != "" && start.Selector != other.Start().Selector {
		return "looked only at pods that match " + start.Selector
	}
	for _, failure := range s.Failures() {
		if failure.hides()&what != 0 && (failure.Namespace == "" || failure.Namespace == namespace || namespace == "" && what == hidesLayers) {
			return failure.missed()
		}
	}
	return s.halved()
}

// stopped says that the run did not come to its end.
func (s *DiffSide) stopped() string {
	switch end := s.End(); {
	case s.absent != "":
		return s.absent
	case s.state.Start() == nil || end == nil:
		return "is not whole"
	case end.Interrupted:
		return "was stopped before its end"
	}
	return ""
}

// outside says that a run did not look at a namespace, or, for "", at all that hangs on
// the whole cluster.
func (s *DiffSide) outside(namespace string, other *DiffSide) string {
	if why := s.stopped(); why != "" {
		return why
	}
	scope := s.Start().Namespaces
	switch {
	case len(scope) == 0 || slices.Contains(scope, namespace):
		return ""
	case namespace != "":
		return "did not look at namespace " + namespace
	case len(other.Start().Namespaces) == 0 ||
		slices.ContainsFunc(other.Start().Namespaces, func(ns string) bool { return !slices.Contains(scope, ns) }):
		return "looked at fewer namespaces"
	}
	return ""
}

// otherKind says that manifests do not tell of all that is in a cluster.
func (s *DiffSide) otherKind(other *DiffSide) string {
	if s.Start().Source == SourceManifests && other.Start().Source != SourceManifests {
		return "read manifests, which do not tell of all that is in a cluster"
	}
	return ""
}

// halved says that a run is incomplete without a word why.
func (s *DiffSide) halved() string {
	if end := s.End(); end.Incomplete && len(s.state.failures) == 0 {
		return "is incomplete, and does not say where"
	}
	return ""
}

// unasked says why the run may not have tried to read what the other could not.
func (s *DiffSide) unasked(f *Failure, other *DiffSide) string {
	switch {
	case f.optional():
		return "may not have been asked to look at that"
	case strings.HasPrefix(f.Subject, "watch of ") || f.Subject == "scan" || f.Subject == "events of the watch":
		return s.stopped()
	case s.otherKind(other) != "":
		return s.otherKind(other)
	}
	return cmp.Or(s.outside(f.Namespace, other), s.unlisted(f.file(), other))
}
