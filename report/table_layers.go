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

// layerSpans are the three columns of a workload: would admission take its like
// again, what of its open paths do runtime policies stop, and do the nodes enforce.
// Of a workload without open paths they say what would keep it so.
func layerSpans(l *scan.Layers) []span {
	adm, run, krn := admissionSpan(l), runtimeSpan(l), kernelSpan(&l.Kernel)
	adm.text, adm.pad = "ADM "+adm.text, padAdmission
	run.text, run.pad = "RUN "+run.text, padRuntime
	krn.text, krn.pad = "KRN "+krn.text, padKernel
	return []span{adm, run, krn}
}

func admissionSpan(l *scan.Layers) span {
	if len(l.Paths) > 0 {
		switch l.Admission.Answer {
		case admission.Refuses:
			return span{text: "refuses", style: green}
		case admission.Admits:
			return span{text: "admits", style: red}
		case admission.Unknown:
		}
		return span{text: "unknown", style: doubtful}
	}
	switch l.Reopen {
	case admission.Refuses:
		return span{text: "keeps shut", style: green}
	case admission.Admits:
		if n := len(l.Reopens); n > 0 {
			return span{text: fmt.Sprintf("lets in %d", n), style: yellow}
		}
		return span{text: "lets in", style: yellow}
	case admission.Unknown:
	}
	return span{text: "unknown", style: doubtful}
}

func runtimeSpan(l *scan.Layers) span {
	if len(l.Paths) == 0 {
		switch l.Runtime.Set {
		case kernel.Yes:
			return span{text: "full set", style: green}
		case kernel.No:
			return span{text: "no full set", style: yellow}
		case kernel.Unknown:
		}
		return span{text: "unknown", style: doubtful}
	}
	stops, unknown := 0, 0
	for i := range l.Paths {
		switch l.Paths[i].Runtime.Answer {
		case scan.StopsYes:
			stops++
		case scan.StopsNo:
		case scan.StopsUnknown:
			unknown++
		default:
			unknown++
		}
	}
	s := span{text: fmt.Sprintf("stops %d/%d", stops, len(l.Paths)), style: red}
	if unknown > 0 {
		s.text += fmt.Sprintf(", %d unknown", unknown)
	}
	switch len(l.Paths) {
	case stops:
		s.style = green
	case stops + unknown:
		s.style = doubtful
	}
	return s
}

func kernelSpan(k *scan.KernelLayer) span {
	switch {
	case k.Capabilities == kernel.Yes && k.Processes == kernel.Yes:
		return gradeSpan(k.Grade)
	case k.Capabilities == kernel.No && k.Processes == kernel.No:
		return span{text: "none", style: red}
	case k.Capabilities == kernel.No:
		return span{text: "no caps", style: red}
	case k.Capabilities == kernel.Yes:
		return span{text: "caps only", style: yellow}
	}
	return span{text: "unknown", style: doubtful}
}

// gradeSpan is how well it is founded that a kernel enforces.
func gradeSpan(g kernel.Grade) span {
	switch g {
	case kernel.Proven:
		return span{text: "proven", style: green}
	case kernel.Claimed:
		return span{text: "claimed", style: green}
	case kernel.Hinted:
	}
	// What is only hinted carries no verdict.
	return span{text: strings.TrimSpace("unknown " + Clean(string(g))), style: doubtful}
}

// decides is the sentence that decides a verdict: of an exposed workload that of
// the worst path, which says what is missing. It is clean.
func decides(v *scan.WorkloadVerdict) string {
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
	t.row(at, at, append(layerSpans(v.Layers), span{text: decides(v), style: dim})...)
}

// reasons are the verdict's own sentence and that of the worst path, empty where the
// first has it already.
func reasons(v *scan.WorkloadVerdict) (verdict, worst string) {
	verdict, worst = Clean(v.Reason), decides(v)
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
	spans := []span{verdictSpan(v), {text: plural(len(groups), "workload") + " without findings"}}
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
