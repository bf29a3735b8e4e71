package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// The least widths of the three columns, so that they stand below each other.
const (
	padAdmission = len("ADM keeps shut")
	padRuntime   = len("RUN stops 1/2")
	padKernel    = len("KRN proven")
)

// layerSpans are the three columns of a workload.
func layerSpans(l *scan.Layers) []span {
	pads := [3]int{padAdmission, padRuntime, padKernel}
	spans := make([]span, 0, len(pads))
	for i, c := range LayerCells(l) {
		spans = append(spans, span{text: c.Short + " " + c.Text, style: toneStyle(c.Tone), pad: pads[i]})
	}
	return spans
}

func toneStyle(t Tone) style {
	switch t {
	case ToneGood:
		return green
	case TonePoor:
		return yellow
	case ToneBad:
		return red
	case ToneUnknown:
	}
	return doubtful
}

// Decides is the sentence that decides a verdict: of an exposed workload that of
// the worst path, which says what is missing. It is clean.
func Decides(v *scan.WorkloadVerdict) string {
	if v.Layers == nil || v.Verdict != scan.VerdictExposed || len(v.Layers.Paths) == 0 {
		return Clean(v.Reason)
	}
	worst := &v.Layers.Paths[0]
	for i := range v.Layers.Paths {
		if p := &v.Layers.Paths[i]; stateRank(p.State) < stateRank(worst.State) {
			worst = p
		}
	}
	if worst.Reason == "" {
		return Clean(v.Reason)
	}
	text := worst.Reason
	if len(v.Layers.Paths) > 1 && !strings.Contains(text, worst.Path) {
		text = worst.Path + ": " + text
	}
	return Clean(text)
}

// layers writes the second line of a block: the columns and what decides.
func (t *table) layers(v *scan.WorkloadVerdict) {
	t.columned = true
	at := 2
	if t.width >= 60 {
		at = len("EXPOSED") + gap
	}
	t.row(at, at, append(layerSpans(v.Layers), span{text: Decides(v), style: dim})...)
}

// reasons are the verdict's own sentence and that of the worst path, empty where the
// first has it already.
func reasons(v *scan.WorkloadVerdict) (verdict, worst string) {
	verdict, worst = Clean(v.Reason), Decides(v)
	if _, after, ok := strings.Cut(worst, ": "); strings.Contains(verdict, worst) || ok && strings.Contains(verdict, after) {
		worst = ""
	}
	return verdict, worst
}

// quietLine stands for the workloads without findings that have one verdict. Of
// closed ones it says what keeps them from being sealed.
func (t *table) quietLine(v scan.Verdict, groups []*group) {
	reopen, unset, judged := 0, 0, 0
	for _, g := range groups {
		for _, row := range g.verdicts {
			if row.Layers == nil {
				continue
			}
			judged++
			if row.Layers.Reopen != admission.Refuses {
				reopen++
			}
			if row.Layers.Runtime.Set != kernel.Yes {
				unset++
			}
		}
	}
	spans := []span{verdictSpan(v), t.clusterSpan(groups[0].workload.Cluster), {text: plural(len(groups), "workload") + " without findings"}}
	if v == scan.VerdictClosed && judged > 0 {
		spans = append(spans,
			span{text: "not sealed:"},
			span{text: fmt.Sprintf("ADM may reopen %d,", reopen)},
			span{text: fmt.Sprintf("RUN no full set on %d", unset)})
	}
	t.row(0, 2, spans...)
}

// legend says what the columns mean, once.
func (t *table) legend() {
	t.row(0, summaryHang,
		span{text: "LAYERS", style: bold, pad: len("VERDICTS")},
		span{text: "ADM what admission would do with its like"},
		span{text: "RUN open paths that policies stop, else whether the whole set is in force"},
		span{text: "KRN what the nodes enforce, and how sure that is"})
}
