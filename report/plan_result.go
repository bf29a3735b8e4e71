package report

import (
	"cmp"
	"fmt"
	"io"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// WriteResult writes for people what came of carrying a plan out: what was not done,
// what was checked, and what it all comes to.
func WriteResult(w io.Writer, r *Remediation, opts PlanOptions) error {
	t := newPlanText(opts)
	for i := range r.Result.Changes {
		if c := &r.Result.Changes[i]; c.Action == remediate.Blocked {
			t.change(c, false)
		}
	}
	if len(r.Result.Checks) > 0 {
		t.section("CHECKS")
	}
	for i := range r.Result.Checks {
		t.row(t.indent(), t.indent()+4, checkSpans(&r.Result.Checks[i])...)
	}
	t.newline()
	spans := []span{{text: "done:", style: bold}, {text: cmp.Or(changeCounts(r.Result.Changes, deed.done), "nothing")}}
	if n := countBlocked(r.Result.Changes); n > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d BLOCKED", n), style: alarm})
	}
	if r.Result.Left > 0 {
		spans = append(spans, span{text: plural(r.Result.Left, "change") + " not made", style: alarm})
	}
	t.row(0, 2, append(spans, checkCounts(r.Result.Checks)...)...)
	t.next(r.Next)
	return t.write(w)
}

func checkSpans(c *remediate.Check) []span {
	mark := span{text: "unknown", style: doubtful, pad: len("unknown")}
	switch c.Answer {
	case kernel.Yes:
		mark.text, mark.style = "yes", green
	case kernel.No:
		mark.text, mark.style = "NO", alarm
	case kernel.Unknown:
	}
	return []span{mark, {text: Clean(c.Subject), style: bold}, {text: Clean(c.Message)}}
}

func checkCounts(checks []remediate.Check) []span {
	if len(checks) == 0 {
		return nil
	}
	yes, no := 0, 0
	for i := range checks {
		switch checks[i].Answer {
		case kernel.Yes:
			yes++
		case kernel.No:
			no++
		case kernel.Unknown:
		}
	}
	spans := []span{{text: plural(yes, "thing") + " verified"}}
	if no > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d wrong", no), style: alarm})
	}
	if open := len(checks) - yes - no; open > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d could not be verified", open), style: doubtful})
	}
	return spans
}

// ProgressLine is one change or check as a line of progress, clean.
func ProgressLine(p *remediate.Progress) string {
	head := fmt.Sprintf("%d/%d", p.Done, p.Total)
	if p.Stage != "" {
		head += " " + Clean(string(p.Stage))
	}
	switch {
	case p.Change != nil && p.Change.Block != nil:
		return fmt.Sprintf("%s: %s blocked by %s: %s", head, Clean(p.Change.Object.String()), Clean(string(p.Change.Block.By)), Clean(p.Change.Block.Message))
	case p.Change != nil:
		return fmt.Sprintf("%s: %s %s", head, Clean(p.Change.Object.String()), deedOf(p.Change).done())
	case p.Check != nil:
		return fmt.Sprintf("%s: %s: %s", head, Clean(p.Check.Subject), Clean(string(p.Check.Answer)))
	}
	return head
}
