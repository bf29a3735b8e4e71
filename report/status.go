package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Standings are what there is of the sets of a cluster.
type Standings struct {
	Tool, Version          string
	Time                   time.Time
	Cluster, ServerVersion string
	// Records is the namespace where records were looked for.
	Records string
	Sets    []Standing
	// Failures are what could not be read of the layers.
	Failures []scan.Failure
	// Next are commands that could follow, each with what it does.
	Next []string
}

// Standing is what there is of one set, and what it does.
type Standing struct {
	Status *remediate.Status
	// Bites says of each object of the set, by Ref.String, whether it has its effect.
	Bites map[string]Bite
}

// Bite is whether an object of the set has its effect on what it selects, and why not.
type Bite struct {
	Bites     scan.Bite `json:"bites"`
	Workloads int       `json:"workloads"`
	Pods      int       `json:"pods"`
	Reasons   []string  `json:"reasons,omitempty"`
}

// WriteStatus writes for people what there is of the sets.
func WriteStatus(w io.Writer, all *Standings, opts PlanOptions) error {
	t := newPlanText(opts)
	t.tool(all.Tool, all.Version, all.Cluster, all.ServerVersion)
	t.unread(all.Failures)
	if len(all.Sets) == 0 {
		t.row(0, 2, span{text: "no set: namespace " + Clean(all.Records) + " has no record of one"})
	}
	for i := range all.Sets {
		t.oneSet(&all.Sets[i], len(all.Sets) > 1 || len(all.Failures) > 0)
	}
	t.next(all.Next)
	return t.write(w)
}

func (t *planText) oneSet(s *Standing, apart bool) {
	if apart {
		t.newline()
	}
	st := s.Status
	spans := []span{{text: "set " + Clean(st.Set), style: bold}, {text: Clean(string(st.Phase))}}
	if st.By != "" {
		spans = append(spans, span{text: "by " + Clean(st.By)})
	}
	if !st.Since.IsZero() {
		spans = append(spans, span{text: "since " + st.Since.UTC().Format(time.RFC3339)})
	}
	t.row(0, 2, spans...)
	if st.Options.Name != "" {
		t.options(&st.Options)
	}
	if st.Unfinished != "" {
		t.row(0, 2, span{text: "UNFINISHED", style: alarm}, span{text: Clean(st.Unfinished)})
	}
	t.notes(st.Notes)
	if len(st.Objects) > 0 {
		t.newline()
	}
	for i := range st.Objects {
		t.standing(&st.Objects[i], s.Bites)
	}
	t.row(0, 2, append([]span{{text: "status:", style: bold}}, standingCounts(s)...)...)
}

// standing writes one object with its state, its drift and its effect.
func (t *planText) standing(o *remediate.ObjectStatus, bites map[string]Bite) {
	t.row(t.indent(), t.indent()+4, t.standingSpans(o, bites)...)
	if b, ok := bites[o.Object.String()]; ok && t.width > 0 {
		for _, reason := range b.Reasons {
			t.row(t.indent()+4, t.indent()+6, span{text: Clean(reason), style: dim})
		}
	}
	if t.Diffs != DiffsNone {
		t.diff(o.Diff)
	}
}

func (t *planText) standingSpans(o *remediate.ObjectStatus, bites map[string]Bite) []span {
	state := span{text: strings.ToUpper(Clean(string(o.State))), style: stateStyle(o.State), pad: len(remediate.StateAuditing)}
	spans := []span{state, {text: Clean(o.Object.String()), style: bold}, {text: Clean(string(o.Part)), style: dim}}
	if len(o.By) > 0 {
		spans = append(spans, span{text: "changed by " + Clean(strings.Join(o.By, ", "))})
	}
	if o.Message != "" {
		spans = append(spans, span{text: Clean(o.Message)})
	}
	b, ok := bites[o.Object.String()]
	if !ok {
		return spans
	}
	spans = append(spans, span{text: "bites: " + Clean(string(b.Bites)), style: biteStyle(b.Bites)},
		span{text: "on " + plural(b.Workloads, "workload") + ", " + plural(b.Pods, "pod")})
	if t.width == 0 {
		spans = append(spans, span{text: Clean(strings.Join(b.Reasons, "; "))})
	}
	return spans
}

func stateStyle(s remediate.State) style {
	switch s {
	case remediate.StateInPlace:
		return green
	case remediate.StateAuditing, remediate.StateRestored, remediate.StateNotBegun:
		return yellow
	case remediate.StateDrifted, remediate.StateMissing:
		return alarm
	case remediate.StateUnreadable:
		return doubtful
	}
	return doubtful
}

func biteStyle(b scan.Bite) style {
	switch b {
	case scan.BitesYes:
		return green
	case scan.BitesPartly:
		return yellow
	case scan.BitesNo:
		return alarm
	case scan.BitesUnknown:
		return doubtful
	}
	return doubtful
}

// standingCounts counts objects by state, and those that do not bite.
func standingCounts(s *Standing) []span {
	var order []remediate.State
	counts := map[remediate.State]int{}
	for i := range s.Status.Objects {
		state := s.Status.Objects[i].State
		if counts[state]++; counts[state] == 1 {
			order = append(order, state)
		}
	}
	slices.SortFunc(order, func(a, b remediate.State) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	var spans []span
	for _, state := range order {
		spans = append(spans, span{text: fmt.Sprintf("%d %s", counts[state], Clean(string(state))), style: stateStyle(state)})
	}
	if len(spans) == 0 {
		spans = append(spans, span{text: "no objects of this set"})
	}
	dull := 0
	for _, b := range s.Bites {
		if b.Bites != scan.BitesYes {
			dull++
		}
	}
	if dull > 0 {
		spans = append(spans, span{text: plural(dull, "object") + " not known to bite everywhere", style: yellow})
	}
	return spans
}
