package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// Diffs says how much of the differences a plan shows.
type Diffs string

// The choices. Auto shows what changes of objects that are there, and counts the
// lines of those that are not.
const (
	DiffsAuto Diffs = "auto"
	DiffsFull Diffs = "full"
	DiffsNone Diffs = "none"
)

// Remediation is a plan with what led to it and, once it was carried out, what came
// of it. Only Plan is always there.
type Remediation struct {
	Tool, Version string
	Time          time.Time
	// Cluster is its name for people, ServerVersion that of its API server.
	Cluster, ServerVersion string
	// Set is what is brought in, and Admission why its mechanism was chosen; nil for
	// a rollback.
	Set       *set.Set
	Admission string
	Plan      *remediate.Plan
	Preview   *preview.Report
	Result    *remediate.Result
	// Next are commands that could follow, each with what it does.
	Next []string
}

// PlanOptions are the choices of the text that plans are written as.
type PlanOptions struct {
	// Width and Color are as those of the table.
	Width int
	Color bool
	Diffs Diffs
	// Verbose spells out what is otherwise counted.
	Verbose bool
}

// planText writes plans for people.
type planText struct {
	layout
	PlanOptions
}

func newPlanText(opts PlanOptions) *planText {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, narrowest)
	}
	return &planText{layout: layout{width: opts.Width, color: opts.Color}, PlanOptions: opts}
}

// WritePlan writes a plan for people: what was chosen and why, what would become of
// each object, and what that would do to workloads.
func WritePlan(w io.Writer, r *Remediation, opts PlanOptions) error {
	t := newPlanText(opts)
	t.head(r)
	t.changes(r)
	if r.Preview != nil {
		t.preview(r.Preview)
	}
	if r.Set != nil {
		t.spared(r.Set)
	}
	t.planSummary(r)
	t.next(r.Next)
	return t.write(w)
}

func (t *planText) write(w io.Writer) error {
	if _, err := w.Write(t.out.Bytes()); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return nil
}

// head says what is planned where, and what a reader has to know of it.
func (t *planText) head(r *Remediation) {
	t.tool(r.Tool, r.Version, r.Cluster, r.ServerVersion)
	notes := r.Plan.Notes
	if r.Set == nil {
		t.row(0, 2, span{text: "set " + Clean(r.Plan.Set), style: bold})
	} else {
		t.row(0, 2, span{text: "set " + Clean(r.Set.Options.Name), style: bold})
		t.options(&r.Set.Options)
		if slices.ContainsFunc(r.Set.Objects, func(o set.Object) bool { return o.Part == set.PartAdmission }) {
			t.row(0, 2, span{text: "admission " + Clean(string(r.Set.Options.Admission)) + ":", style: bold}, span{text: Clean(r.Admission)})
		}
		notes = slices.Concat(r.Set.Notes, notes)
	}
	t.notes(notes)
	if u := r.Plan.Unfinished; u != "" {
		t.row(0, 2, span{text: "UNFINISHED", style: alarm}, span{text: Clean(u)})
	}
}

// tool says who writes, and of which cluster.
func (t *planText) tool(tool, version, cluster, server string) {
	t.row(0, 2,
		span{text: Clean(strings.TrimSpace(tool + " " + version)), style: bold},
		span{text: Clean(labelled("cluster", cluster))},
		span{text: Clean(labelled("Kubernetes", server))})
}

func (t *planText) notes(notes []string) {
	for _, note := range notes {
		t.row(0, 2, span{text: "note:", style: bold}, span{text: Clean(note)})
	}
}

// options say what was chosen, and for whom.
func (t *planText) options(o *set.Options) {
	var spans []span
	for _, text := range OptionTexts(o) {
		spans = append(spans, span{text: text})
	}
	t.row(2, 4, spans...)
}

func labelText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// spared says what a precise fit leaves out, or would.
func (t *planText) spared(s *set.Set) {
	if len(s.Spared) == 0 {
		return
	}
	title := "SPARED by --fit precise"
	if s.Options.Fit == set.FitFull {
		title = "PROTECTS NOTHING THERE (--fit precise would spare it)"
	}
	t.section(title)
	type group struct {
		reason, elements string
		workloads        distinct
	}
	var groups []*group
	at := map[string]*group{}
	for i := range s.Spared {
		x := &s.Spared[i]
		elements := make([]string, len(x.Elements))
		for i, e := range x.Elements {
			elements[i] = Clean(e.Name)
		}
		text := strings.Join(elements, ", ")
		k := key(x.Reason, text)
		if t.lineEach() {
			k = key(k, x.Workload.String())
		}
		g := at[k]
		if g == nil {
			g = &group{reason: Clean(x.Reason), elements: text}
			at[k] = g
			groups = append(groups, g)
		}
		g.workloads.add(Clean(x.Workload.String()))
	}
	for _, g := range groups {
		t.row(t.indent(), t.indent()+2,
			span{text: g.elements, style: bold},
			span{text: t.onWorkloads(g.workloads.list)},
			span{text: g.reason, style: dim})
	}
}

// lineEach is whether every line is to say what it is about by itself.
func (t *planText) lineEach() bool { return t.width == 0 || t.Verbose }

// onWorkloads names a few workloads, or all where each has a line.
func (t *planText) onWorkloads(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	text := plural(len(names), "workload") + ": "
	if len(names) > maxNamed && !t.lineEach() {
		return text + strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return text + strings.Join(names, ", ")
}

// maxNamed is how many workloads are named before the rest becomes a number.
const maxNamed = 5

func (t *planText) section(title string) {
	t.newline()
	t.row(0, 2, span{text: title, style: bold})
}

func (t *planText) indent() int {
	if t.width == 0 {
		return 0
	}
	return 2
}

// planSummary is what the plan comes to.
func (t *planText) planSummary(r *Remediation) {
	t.newline()
	spans := []span{{text: "plan:", style: bold}, {text: changeCounts(r.Plan.Changes, deed.todo)}}
	if len(r.Plan.Changes) == 0 {
		spans = append(spans, span{text: "nothing to do"})
	}
	if blocked := countBlocked(r.Plan.Changes); blocked > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d BLOCKED", blocked), style: alarm})
	}
	t.row(0, 2, spans...)
	if r.Preview != nil {
		t.row(0, 2, append([]span{{text: "workloads:", style: bold}}, outcomeCounts(r.Preview)...)...)
	}
}

// deed is what is done to an object: the action, with putting back told from deleting.
type deed string

const (
	deedCreate    deed = "create"
	deedChange    deed = "change"
	deedPutBack   deed = "put back"
	deedDelete    deed = "delete"
	deedUnchanged deed = "unchanged"
	deedBlocked   deed = "blocked"
)

func deedOf(c *remediate.Change) deed {
	switch c.Action {
	case remediate.Created:
		return deedCreate
	case remediate.Changed:
		return deedChange
	case remediate.Restored:
		if c.After == nil {
			return deedDelete
		}
		return deedPutBack
	case remediate.Unchanged:
		return deedUnchanged
	case remediate.Blocked:
	}
	return deedBlocked
}

// todo and done are the deed before and after it.
func (d deed) todo() string {
	if d == deedUnchanged {
		return string(d)
	}
	return "to " + string(d)
}

func (d deed) done() string {
	switch d {
	case deedCreate, deedDelete:
		return string(d) + "d"
	case deedChange:
		return "changed"
	case deedPutBack, deedUnchanged, deedBlocked:
	}
	return string(d)
}

// changeCounts counts changes by what is done, without those that are blocked.
func changeCounts(changes []remediate.Change, word func(deed) string) string {
	counts := map[deed]int{}
	for i := range changes {
		counts[deedOf(&changes[i])]++
	}
	var parts []string
	for _, d := range []deed{deedCreate, deedChange, deedPutBack, deedDelete, deedUnchanged} {
		if n := counts[d]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word(d)))
		}
	}
	return strings.Join(parts, ", ")
}

func countBlocked(changes []remediate.Change) int {
	n := 0
	for i := range changes {
		if changes[i].Action == remediate.Blocked {
			n++
		}
	}
	return n
}

// next lists the commands that could follow.
func (t *planText) next(commands []string) {
	for _, c := range commands {
		t.row(0, 2, span{text: "next:", style: bold}, span{text: Clean(c)})
	}
}
