package repair

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Repairer repairs documents. It may be used by many goroutines at once if Judge and
// Wanted may.
type Repairer struct {
	// Judge gives the findings of a document, those that are excepted marked.
	Judge func(*manifest.Document) []scan.Finding
	// Wanted tells which findings are to be repaired; nil means all.
	Wanted func(*scan.Finding) bool
}

// Left is a finding that is not repaired, and why.
type Left struct {
	Finding scan.Finding
	Reason  string
}

// Document is what became of one document.
type Document struct {
	Line     int
	Workload scan.Workload
	// Skipped says why the document as a whole is left alone, empty when it is not.
	Skipped string
	// Repaired are the findings that are gone, worst first; Left are those that were
	// wanted and are not.
	Repaired []scan.Finding
	Left     []Left

	// from is the text as it was, editor as it is now; nil when it did not change.
	from, editor *manifest.Editor
}

// wants tells whether a finding is to be repaired. A path that something in the spec
// shuts is none.
func (r *Repairer) wants(f *scan.Finding) bool {
	if f.Excepted != nil || f.Category != scan.CategoryPSS && f.Category != scan.CategoryEscape {
		return false
	}
	if slices.ContainsFunc(f.Lowered, func(l scan.Lowering) bool { return l.Closes }) {
		return false
	}
	return r.Wanted == nil || r.Wanted(f)
}

// Document repairs a document in its text.
func (r *Repairer) Document(d *manifest.Document) *Document {
	result := &Document{Line: d.Line, Workload: d.Workload}
	editor, err := d.Edit()
	if err != nil {
		for _, f := range r.Judge(d) {
			if r.wants(&f) {
				result.Left = append(result.Left, Left{f, err.Error()})
			}
		}
		return result
	}
	if result.Skipped = notToEdit(d, editor); result.Skipped != "" {
		return result
	}
	w := &work{Repairer: r, base: d.TemplatePath, before: editor, now: editor, reasons: map[string]string{}}
	w.findings = w.judge(editor)
	if len(w.findings) > maxFindings {
		result.Skipped = fmt.Sprintf("it has %d findings, and no more than %d are repaired in one document", len(w.findings), maxFindings)
		for _, f := range w.findings {
			result.Left = append(result.Left, Left{f, result.Skipped})
		}
		return result
	}
	w.run()
	if w.now != editor {
		result.from, result.editor = editor, w.now
	}
	result.Repaired, result.Left = w.conclude()
	return result
}

// work is the repair of one document.
type work struct {
	*Repairer
	base        string
	before, now *manifest.Editor
	// findings are those of the document as it was.
	findings []scan.Finding
	// reasons say of fields why they were left.
	reasons map[string]string
	// judged keeps what Judge said.
	judged map[*manifest.Editor][]scan.Finding
}

// maxFindings bounds the work that one document can cause: every change of it is read
// again.
const maxFindings = 2000

// maxRounds bounds how often repairs may uncover what is to be repaired as well.
const maxRounds = 5

// run repairs all at once, and where that is not proven one by one.
func (w *work) run() {
	if w.together() {
		return
	}
	w.now = w.before
	w.oneByOne()
}

// together makes all changes, and those that come to light then. What only aggravates
// is left for when nothing else can be done: it goes with what it aggravates.
func (w *work) together() bool {
	done := map[string]bool{}
	var made []scan.Finding
	for range maxRounds {
		steps := w.steps(w.now)
		count := len(made)
		for _, aggravating := range []bool{false, true} {
			if len(made) > count {
				break
			}
			for i := range steps {
				s := &steps[i]
				if done[s.field] || s.aggravates() != aggravating {
					continue
				}
				next, reason := w.make(w.now, s, steps)
				if reason != "" {
					w.reasons[s.field] = reason
					continue
				}
				delete(w.reasons, s.field)
				w.now, done[s.field] = next, true
				made = append(made, s.findings...)
			}
		}
		if len(made) == count {
			break
		}
	}
	return w.now == w.before || w.fault(w.before, w.now, made) == ""
}

// oneByOne makes the changes that can be proven each by itself, until there are no
// more.
func (w *work) oneByOne() {
	for again := true; again; {
		again = false
		steps := w.steps(w.now)
		for i := range steps {
			next, reason := w.make(w.now, &steps[i], steps)
			if reason == "" && next != w.now {
				reason = w.fault(w.now, next, steps[i].findings)
			}
			if reason != "" {
				w.reasons[steps[i].field] = reason
				continue
			}
			if next != w.now {
				w.now, again = next, true
			}
			delete(w.reasons, steps[i].field)
		}
	}
}

// steps are the changes that the findings of a text ask for, in the order of the text:
// what is set first, for what is then taken away may leave nothing behind.
func (w *work) steps(e *manifest.Editor) []step {
	d := e.Document()
	var wanted []scan.Finding
	for _, f := range w.judge(e) {
		if f.Fix != nil && w.wants(&f) {
			wanted = append(wanted, f)
		}
	}
	steps := stepsFor(w.base, wanted)
	line := func(s *step) int { return d.Locate(s.field, "", "").Line }
	slices.SortStableFunc(steps, func(a, b step) int {
		return cmp.Or(compareBools(a.value == nil, b.value == nil), cmp.Compare(line(&a), line(&b)), cmp.Compare(a.field, b.field))
	})
	return steps
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// make makes one change in the text, and compares the object with what it should then
// be. The others are changes that may come with it, where places are shared. The
// reason says why it is not made.
func (w *work) make(e *manifest.Editor, s *step, others []step) (*manifest.Editor, string) {
	tree, err := decode(e.Object())
	if err != nil {
		return nil, err.Error()
	}
	if s.done(tree) {
		return e, ""
	}
	reason := ""
	for _, way := range s.ways(tree) {
		next, err := e.Apply(way.Change)
		if err != nil {
			reason = cmp.Or(reason, err.Error())
			continue
		}
		after, err := decode(next.Object())
		if err != nil {
			return nil, err.Error()
		}
		if asMeant(way.object(tree), after, others) {
			return next, ""
		}
		reason = "what it changes stands for other fields too, through an anchor or a merge key"
	}
	return nil, cmp.Or(reason, "it is not written in the file")
}

// asMeant tells whether an object is what it should be after a change, or after that
// and others of the changes that are meant, all of which leave as much behind.
func asMeant(want, have any, others []step) bool {
	if same(want, have) {
		return true
	}
	for _, least := range []bool{false, true} {
		meant := want
		for i := range others {
			o := &others[i]
			if !o.done(have) || o.done(meant) {
				continue
			}
			ways := o.ways(meant)
			if least {
				slices.Reverse(ways)
			}
			meant = ways[0].object(meant)
		}
		if same(meant, have) {
			return true
		}
	}
	return false
}

// conclude sorts the findings into those that are gone and those that are left.
func (w *work) conclude() (repaired []scan.Finding, left []Left) {
	remaining := countPrints(w.judge(w.now))
	for _, f := range w.findings {
		if !w.wants(&f) {
			continue
		}
		if remaining[f.Fingerprint()] == 0 {
			repaired = append(repaired, f)
			continue
		}
		reason := w.reasons[f.Field]
		if f.Fix == nil {
			reason = "no change of a single field is known to help"
		}
		left = append(left, Left{f, cmp.Or(reason, "no repair of it could be proven")})
	}
	return repaired, left
}

func countPrints(findings []scan.Finding) map[string]int {
	counts := make(map[string]int, len(findings))
	for i := range findings {
		counts[findings[i].Fingerprint()]++
	}
	return counts
}
