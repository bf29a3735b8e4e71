package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate"
)

// maxDiffLines is how many lines of one difference stand on a terminal unless all are
// asked for.
const maxDiffLines = 40

// changes writes what would become of every object, stage by stage.
func (t *planText) changes(r *Remediation) {
	whom := whys(r)
	var stage remediate.Stage
	said, made, unchanged := map[remediate.Ref]bool{}, map[remediate.Ref]bool{}, 0
	for i := range r.Plan.Changes {
		c := &r.Plan.Changes[i]
		if i == 0 || c.Stage != stage {
			t.unchanged(unchanged)
			stage, unchanged = c.Stage, 0
			t.section(stageTitle(stage))
		}
		if c.Action == remediate.Unchanged && len(c.Notes) == 0 && len(c.Warnings) == 0 && !t.lineEach() {
			unchanged++
			continue
		}
		t.change(c, made[c.Object])
		if !said[c.Object] {
			t.why(whom[c.Object])
		}
		said[c.Object] = true
		made[c.Object] = made[c.Object] || c.Action == remediate.Created
	}
	t.unchanged(unchanged)
}

// unchanged counts the objects of a stage that stay as they are.
func (t *planText) unchanged(n int) {
	if n > 0 {
		t.row(t.indent(), t.indent()+4, deedUnchanged.mark(), span{text: plural(n, "object"), style: dim})
	}
}

// whys are for whom the objects of a precise set are.
func whys(r *Remediation) map[remediate.Ref][]string {
	m := map[remediate.Ref][]string{}
	if r.Set != nil {
		for i := range r.Set.Objects {
			o := &r.Set.Objects[i]
			m[remediate.RefOf(o.Final())] = o.Why
		}
	}
	return m
}

func (t *planText) why(lines []string) {
	const most = 3
	for i, line := range lines {
		if i == most && !t.lineEach() && len(lines) > most+1 {
			t.row(t.indent()+4, t.indent()+6, span{text: fmt.Sprintf("and %d reasons more", len(lines)-i), style: dim})
			return
		}
		t.row(t.indent()+4, t.indent()+6, span{text: Clean(line), style: dim})
	}
}

func stageTitle(s remediate.Stage) string {
	switch s {
	case remediate.StageAudit:
		return "STAGE audit: what only reports"
	case remediate.StageEnforce:
		return "STAGE enforce: what refuses"
	case "":
		return "CHANGES"
	}
	return "STAGE " + Clean(string(s))
}

// change writes one change. Of an object that an earlier stage of the same plan
// creates, the difference to that is shown only where all are.
func (t *planText) change(c *remediate.Change, again bool) {
	spans := []span{deedOf(c).mark(), {text: Clean(c.Object.String()), style: bold}, {text: Clean(string(c.Part)), style: dim}}
	lines := t.diffOf(c)
	if len(lines) > 0 && t.Diffs != DiffsFull && (c.Before == nil || c.After == nil || again) {
		text := plural(differing(lines), "line")
		if again {
			text = "from the stage before"
		}
		spans = append(spans, span{text: text, style: dim})
		lines = nil
	}
	if b := c.Block; b != nil {
		spans = append(spans, span{text: "by " + Clean(string(b.By)) + ":", style: alarm}, span{text: Clean(b.Message)})
		if b.Mend != "" {
			spans = append(spans, span{text: labelled("mend:", Clean(b.Mend))})
		}
	}
	t.row(t.indent(), t.indent()+4, spans...)
	for _, w := range c.Warnings {
		t.row(t.indent()+4, t.indent()+6, span{text: "warning of the API server:", style: yellow}, span{text: Clean(w)})
	}
	for _, note := range c.Notes {
		t.row(t.indent()+4, t.indent()+6, span{text: "note:", style: bold}, span{text: Clean(note)})
	}
	t.diff(lines)
}

// diffOf are the lines that differ, none where they are not asked for.
func (t *planText) diffOf(c *remediate.Change) []remediate.Line {
	if t.Diffs == DiffsNone || c.Action == remediate.Unchanged || c.Action == remediate.Blocked {
		return nil
	}
	return remediate.Diff(c.Before, c.After)
}

func differing(lines []remediate.Line) int {
	n := 0
	for _, line := range lines {
		if line.Op == '+' || line.Op == '-' {
			n++
		}
	}
	return n
}

// diff writes lines of a difference, which are YAML: their blanks stay.
func (t *planText) diff(lines []remediate.Line) {
	const indent = 4
	for i, line := range lines {
		if t.width > 0 && t.Diffs != DiffsFull && i == maxDiffLines {
			t.row(indent+2, indent+2, span{text: fmt.Sprintf("and %d lines more: --diff=full shows them", len(lines)-i), style: dim})
			return
		}
		s := plain
		switch line.Op {
		case '+':
			s = green
		case '-':
			s = red
		case '@':
			s = cyan
		}
		text := string(rune(line.Op)) + Clean(strings.TrimRight(line.Text, "\n"))
		for text != "" {
			head := text
			if t.width > 0 {
				head, text = cut(text, max(t.width-indent, narrowest/2))
			} else {
				text = ""
			}
			t.blanks(indent)
			t.paint(head, s)
			t.newline()
		}
	}
}

// mark is the sign and the word of a deed.
func (d deed) mark() span {
	s := span{text: "! BLOCKED", style: alarm, pad: len("= unchanged")}
	switch d {
	case deedCreate:
		s.text, s.style = "+ create", green
	case deedChange:
		s.text, s.style = "~ change", yellow
	case deedPutBack:
		s.text, s.style = "< put back", yellow
	case deedDelete:
		s.text, s.style = "- delete", red
	case deedUnchanged:
		s.text, s.style = "= unchanged", dim
	case deedBlocked:
	}
	return s
}
