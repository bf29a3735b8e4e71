package scan

import (
	"cmp"
	"slices"
	"strings"
)

// Declaration is a document that declares a workload.
type Declaration interface {
	// Locate finds a field of the pod (or of its template) in the document. A
	// container that is named is found by its name, whatever the index in the path,
	// and so is the volume named item.
	Locate(field, container, item string) *Location
	// Place is where the document begins.
	Place() *Location
}

// Declarations finds the document that declares a workload.
type Declarations interface {
	Find(Workload) (Declaration, bool)
}

// rows collects what was judged of one workload: usually one spec, several while
// it is rolled out.
type rows struct {
	workload Workload
	claims   string
	pods     int
	findings []Finding
	index    map[string]int
	allowed  bool
	controls []string
	paths    []string
	severity Severity
	// exposed is true when a path is open for certain; unsure says what would
	// decide otherwise and is not known.
	exposed bool
	unsure  string
	// more is why further paths may be open than are seen, empty when none may.
	more string
	// layers is what the layers say, the worst of all that was added; nil where they
	// were not asked. nodes are those where the pods run.
	layers  *Layers
	layered map[layerSource]bool
	nodes   map[*nodeState]bool
	// decl is where the workload is declared, as far as the source itself knows.
	decl Declaration
}

// layerSource is where an answer of the layers comes from.
type layerSource struct {
	layers   *Layers
	admitted *admitted
}

func newRows(w Workload, claims string) *rows {
	return &rows{workload: w, claims: claims, allowed: true}
}

// add joins a judgement that holds for so many pods. Findings that are the same
// by their fingerprints become one, the worst of them: what lowers a finding in one
// of the specs does not in the others.
func (r *rows) add(j *Judgement, pods int) {
	r.pods += pods
	r.allowed = r.allowed && j.Allowed
	r.controls = union(r.controls, j.Controls)
	r.paths = union(r.paths, j.Paths)
	r.exposed = r.exposed || (len(j.Paths) > 0 && j.Unsure == "")
	r.unsure = cmp.Or(r.unsure, j.Unsure)
	r.more = cmp.Or(r.more, j.more)
	if j.Severity.Rank() > r.severity.Rank() {
		r.severity = j.Severity
	}
	first := r.findings == nil
	for i := range j.Findings {
		f := j.Findings[i]
		// The workload enters the fingerprint by which equal findings are joined.
		f.Workload, f.Claims, f.Pods = r.workload, r.claims, pods
		if first {
			r.findings = append(r.findings, f)
			continue
		}
		if r.index == nil {
			r.index = make(map[string]int, len(r.findings))
			for k := range r.findings {
				r.index[r.findings[k].Fingerprint()] = k
			}
		}
		key := f.Fingerprint()
		if at, ok := r.index[key]; ok {
			f.Pods += r.findings[at].Pods
			if f.worse(&r.findings[at]) {
				r.findings[at] = f
			}
			r.findings[at].Pods = f.Pods
			continue
		}
		r.index[key] = len(r.findings)
		r.findings = append(r.findings, f)
	}
}

// addLayers joins what the layers say of some of the pods, which run on the node.
func (r *rows) addLayers(l *Layers, a *admitted, n *nodeState) {
	if r.nodes == nil {
		r.nodes, r.layered = map[*nodeState]bool{}, map[layerSource]bool{}
	}
	if n.name != "" {
		r.nodes[n] = true
	}
	source := layerSource{l, a}
	if r.layered[source] {
		return
	}
	r.layered[source] = true
	with := l.withAdmission(a)
	with.on(n)
	if r.layers == nil {
		r.layers = with
	} else {
		r.layers.merge(with)
	}
	r.layers.mergeAdmission(a)
}

func (f *Finding) worse(than *Finding) bool {
	if f.Open != than.Open {
		return f.Open
	}
	return f.Severity.Rank() > than.Severity.Rank()
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(slices.Clip(a), s)
		}
	}
	return a
}

// emit sends the findings, worst first, and then the verdict. incomplete says why
// not all of the workload's pods are known, empty when they are.
func (r *rows) emit(decl Declaration, incomplete string, rules *ruleIndex, next Handler) error {
	if r.layers != nil {
		// Where not all is known, nothing is taken from what is found.
		if incomplete == "" && r.unsure == "" && r.more == "" {
			r.guard()
		}
		r.findings = append(r.findings, r.toothless(rules)...)
	}
	slices.SortStableFunc(r.findings, compareFindings)
	for i := range r.findings {
		f := r.findings[i]
		if decl != nil {
			f.Location = decl.Locate(f.Field, f.Container, f.Item)
		}
		if err := next.Handle(Event{Finding: &f}); err != nil {
			return err
		}
	}
	v := r.verdict(incomplete)
	if decl != nil {
		v.Location = decl.Place()
	}
	return next.Handle(Event{Verdict: v})
}

// compareFindings sorts the worst first, and the same way in every run.
func compareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
		strings.Compare(string(a.Category), string(b.Category)),
		strings.Compare(a.Rule, b.Rule),
		strings.Compare(a.Container, b.Container),
		strings.Compare(a.Field, b.Field),
		strings.Compare(a.Item, b.Item),
	)
}

// DocumentEvents are the events of one document of a manifest: what was judged of
// its pod, each finding with its place.
func DocumentEvents(w Workload, j *Judgement, decl Declaration) []Event {
	r := newRows(w, "")
	r.add(j, 0)
	return r.events(decl, nil)
}

// events are what emit sends.
func (r *rows) events(decl Declaration, rules *ruleIndex) []Event {
	events := make([]Event, 0, len(r.findings)+1)
	// Appending cannot fail.
	_ = r.emit(decl, "", rules, HandlerFunc(func(e Event) error {
		events = append(events, e)
		return nil
	}))
	return events
}
