package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/scan"
)

// preview writes what breaks workload by workload, what may break and what is not
// covered by reason, and how many are safe. In a pipe every effect is a line.
func (t *planText) preview(r *preview.Report) {
	t.unread(r.Failures)
	for _, outcome := range preview.Outcomes() {
		var list []preview.Workload
		for _, w := range r.Workloads {
			if w.Outcome == outcome {
				list = append(list, w)
			}
		}
		if len(list) == 0 {
			continue
		}
		t.outcome(outcome, list)
	}
}

// unread says above all else what is missing.
func (t *planText) unread(failures []scan.Failure) {
	if len(failures) == 0 {
		return
	}
	t.newline()
	t.row(0, 2, span{text: "INCOMPLETE", style: alarm},
		span{text: plural(len(failures), "thing") + " could not be read. What is not listed here is not proven safe."})
	for i := range failures {
		f := &failures[i]
		if i == 2*maxListed && !t.lineEach() {
			t.row(t.indent(), 4, span{text: fmt.Sprintf("and %d more that could not be read", len(failures)-i), style: bold})
			return
		}
		t.row(t.indent(), 4, unreadSpans(f)...)
	}
}

// outcome writes the workloads of one outcome.
func (t *planText) outcome(o preview.Outcome, list []preview.Workload) {
	title := fmt.Sprintf("%s: %s", strings.ToUpper(Clean(string(o))), plural(len(list), "workload"))
	t.newline()
	t.row(0, 2, span{text: title, style: outcomeStyle(o)}, span{text: outcomeMeans(o), style: dim})
	switch {
	case t.lineEach():
		for i := range list {
			t.affected(&list[i])
		}
	case o == preview.Breaks:
		for i := range list {
			t.affected(&list[i])
		}
	case o != preview.Safe:
		t.reasons(list)
	}
}

func outcomeMeans(o preview.Outcome) string {
	switch o {
	case preview.Breaks:
		return "stops working, or does not start again"
	case preview.MayBreak:
		return "depends on what it does, which its spec does not tell"
	case preview.NotCovered:
		return "the set has no effect there, so it protects nothing"
	case preview.Safe:
		return "nothing speaks against it"
	}
	return ""
}

func outcomeStyle(o preview.Outcome) style {
	switch o {
	case preview.Breaks:
		return alarm
	case preview.MayBreak:
		return yellow
	case preview.Safe:
		return green
	case preview.NotCovered:
		return doubtful
	}
	return doubtful
}

// affected writes one workload with everything that would happen to it.
func (t *planText) affected(w *preview.Workload) {
	name := Clean(w.Workload.String())
	if t.width > 0 || len(w.Effects) == 0 {
		spans := []span{{text: name, style: bold}}
		if t.width == 0 {
			spans = []span{{text: strings.ToUpper(Clean(string(w.Outcome)))}, {text: name}}
		}
		if w.Pods > 0 {
			spans = append(spans, span{text: plural(w.Pods, "pod")})
		}
		t.row(t.indent(), t.indent()+2, append(spans, acceptedSpan(w))...)
	}
	effects := slices.Clone(w.Effects)
	slices.SortStableFunc(effects, func(a, b preview.Effect) int {
		return cmp.Compare(slices.Index(preview.Outcomes(), a.Outcome), slices.Index(preview.Outcomes(), b.Outcome))
	})
	if t.lineEach() {
		for i := range effects {
			t.effect(w, &effects[i])
		}
		return
	}
	lesser := slices.IndexFunc(effects, func(e preview.Effect) bool { return e.Outcome != w.Outcome })
	if lesser < 0 {
		lesser = len(effects)
	}
	t.worst(effects[:lesser])
	t.also(effects[lesser:])
}

// worst writes the worst effects on a workload. What is said of several fields is said
// once.
func (t *planText) worst(effects []preview.Effect) {
	var said distinct
	for _, x := range GroupEffects(effects) {
		t.row(t.indent()+2, t.indent()+4,
			span{text: Clean(string(x.Outcome)), style: outcomeStyle(x.Outcome), pad: len(preview.NotCovered)},
			span{text: cmp.Or(Clean(x.Element), Clean(string(x.Part))), style: bold},
			span{text: effectContainer(x.Effect)}, span{text: t.few(x.Places)}, span{text: Clean(x.What)})
		for _, why := range x.Whys {
			if !said.has[why] {
				said.add(why)
				t.detail(why, "")
			}
		}
		for i, mend := range x.Mends {
			if i == maxMends && len(x.Mends) > maxMends+1 {
				t.detail(fmt.Sprintf("and alike for %d more (--verbose)", len(x.Mends)-i), "")
				break
			}
			t.detail(mend, "mend: ")
		}
	}
}

// few are texts in a row, of which many become a number.
func (t *planText) few(texts []string) string {
	if len(texts) > maxNamed+1 {
		return strings.Join(texts[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(texts)-maxNamed)
	}
	return strings.Join(texts, ", ")
}

// also names the lesser things that would happen to a workload.
func (t *planText) also(effects []preview.Effect) {
	var spans []span
	for _, outcome := range []preview.Outcome{preview.MayBreak, preview.NotCovered} {
		var elements distinct
		for i := range effects {
			if e := &effects[i]; e.Outcome == outcome {
				elements.add(cmp.Or(Clean(e.Element), Clean(string(e.Part))))
			}
		}
		if len(elements.list) > 0 {
			spans = append(spans, span{text: Clean(string(outcome)) + ": " + strings.Join(elements.list, ", "), style: outcomeStyle(outcome)})
		}
	}
	if len(spans) > 0 {
		t.row(t.indent()+2, t.indent()+4, append([]span{{text: "also", style: dim, pad: len(preview.NotCovered)}}, spans...)...)
	}
}

// acceptedSpan says by what it is accepted that a workload breaks.
func acceptedSpan(w *preview.Workload) span {
	if w.Outcome != preview.Breaks {
		return span{}
	}
	return span{text: Clean(labelled("accepted:", w.Accepted)), style: green}
}

// effect writes one thing that would happen; in a pipe its line names the workload.
func (t *planText) effect(w *preview.Workload, e *preview.Effect) {
	spans := []span{
		{text: Clean(string(e.Outcome)), style: outcomeStyle(e.Outcome), pad: len(preview.NotCovered)},
		{text: cmp.Or(Clean(e.Element), Clean(string(e.Part))), style: bold},
	}
	if t.width == 0 {
		spans = slices.Insert(spans, 1, span{text: Clean(w.Workload.String())})
		spans[0].text = strings.ToUpper(spans[0].text)
	}
	spans = append(spans, span{text: effectContainer(e)}, span{text: Clean(e.Field)}, span{text: Clean(e.What)})
	if t.width == 0 {
		spans = append(spans, span{text: Clean(labelled("why:", e.Why))}, span{text: Clean(labelled("mend:", e.Mend))},
			acceptedSpan(w))
		t.row(0, 0, spans...)
		return
	}
	t.row(t.indent()+2, t.indent()+4, spans...)
	t.detail(e.Why, "")
	t.detail(e.Mend, "mend: ")
}

// detail writes a line below an effect.
func (t *planText) detail(text, label string) {
	if text != "" {
		t.row(t.indent()+4, t.indent()+6, span{text: label + Clean(text), style: dim})
	}
}

// effectContainer is the container that an effect is about.
func effectContainer(e *preview.Effect) string {
	if e.ContainerKind == "" || e.ContainerKind == scan.KindContainer {
		return Clean(e.Container)
	}
	return strings.TrimSpace(Clean(e.Container) + " (" + Clean(string(e.ContainerKind)) + ")")
}

// reasons writes what would happen to several workloads once, with their names.
func (t *planText) reasons(list []preview.Workload) {
	type reason struct {
		effect                 *preview.Effect
		workloads, whys, mends distinct
	}
	var all []*reason
	at := map[string]*reason{}
	for i := range list {
		w := &list[i]
		for j := range w.Effects {
			e := &w.Effects[j]
			if e.Outcome != w.Outcome {
				continue
			}
			k := key(string(e.Part), e.Element, e.What)
			r := at[k]
			if r == nil {
				r = &reason{effect: e}
				at[k] = r
				all = append(all, r)
			}
			r.workloads.add(Clean(w.Workload.String()))
			r.whys.add(e.Why)
			r.mends.add(e.Mend)
		}
	}
	slices.SortStableFunc(all, func(a, b *reason) int { return cmp.Compare(len(b.workloads.list), len(a.workloads.list)) })
	for _, r := range all {
		e := r.effect
		t.row(t.indent(), t.indent()+2, span{text: cmp.Or(Clean(e.Element), Clean(string(e.Part))), style: bold}, span{text: Clean(e.What)})
		t.row(t.indent()+2, t.indent()+4, span{text: t.onWorkloads(r.workloads.list)})
		first := r.workloads.list[0]
		t.detail(e.Why, asIn(first, len(r.whys.list)))
		t.detail(e.Mend, asIn(first, len(r.mends.list))+"mend: ")
	}
}

// asIn begins what is said of one workload out of several that differ.
func asIn(workload string, texts int) string {
	if texts <= 1 {
		return ""
	}
	return "as in " + workload + ": "
}

// outcomeCounts counts workloads by outcome, and those that stand in the way.
func outcomeCounts(r *preview.Report) []span {
	var spans []span
	for _, o := range preview.Outcomes() {
		if n := r.Counts[o]; n > 0 {
			spans = append(spans, span{text: fmt.Sprintf("%d %s", n, Clean(string(o))), style: outcomeStyle(o)})
		}
	}
	if len(spans) == 0 {
		spans = append(spans, span{text: "none in scope"})
	}
	if accepted := r.Counts[preview.Breaks] - len(r.Refused()); accepted > 0 {
		spans = append(spans, span{text: fmt.Sprintf("(%d of those that break are accepted)", accepted)})
	}
	return spans
}
