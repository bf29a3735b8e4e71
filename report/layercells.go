package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Tone says how an answer sounds to who wants nothing to get out. It is for colours; the
// text says the same.
type Tone string

// The tones. Unknown is no good answer.
const (
	ToneGood    Tone = "good"
	TonePoor    Tone = "poor"
	ToneBad     Tone = "bad"
	ToneUnknown Tone = "unknown"
)

// LayerCell is what one layer comes to for a workload, in a word or two.
type LayerCell struct {
	Layer scan.Layer
	// Short is the layer's name in three letters: ADM, RUN, KRN. Text is clean.
	Short, Text string
	Tone        Tone
}

// LayerCells are the three layers of a workload: would admission take its like again,
// what of its open paths do runtime policies stop, and do the nodes enforce. Of a
// workload without open paths they say what would keep it so.
func LayerCells(l *scan.Layers) [3]LayerCell {
	adm, run, krn := admissionCell(l), runtimeCell(l), kernelCell(&l.Kernel)
	adm.Layer, adm.Short = scan.LayerAdmission, "ADM"
	run.Layer, run.Short = scan.LayerRuntime, "RUN"
	krn.Layer, krn.Short = scan.LayerKernel, "KRN"
	return [3]LayerCell{adm, run, krn}
}

func admissionCell(l *scan.Layers) LayerCell {
	if len(l.Paths) > 0 {
		switch l.Admission.Answer {
		case admission.Refuses:
			return LayerCell{Text: "refuses", Tone: ToneGood}
		case admission.Admits:
			return LayerCell{Text: "admits", Tone: ToneBad}
		case admission.Unknown:
		}
		return LayerCell{Text: "unknown", Tone: ToneUnknown}
	}
	switch l.Reopen {
	case admission.Refuses:
		return LayerCell{Text: "keeps shut", Tone: ToneGood}
	case admission.Admits:
		if n := len(l.Reopens); n > 0 {
			return LayerCell{Text: fmt.Sprintf("lets in %d", n), Tone: TonePoor}
		}
		return LayerCell{Text: "lets in", Tone: TonePoor}
	case admission.Unknown:
	}
	return LayerCell{Text: "unknown", Tone: ToneUnknown}
}

func runtimeCell(l *scan.Layers) LayerCell {
	if len(l.Paths) == 0 {
		switch l.Runtime.Set {
		case kernel.Yes:
			return LayerCell{Text: "full set", Tone: ToneGood}
		case kernel.No:
			return LayerCell{Text: "no full set", Tone: TonePoor}
		case kernel.Unknown:
		}
		return LayerCell{Text: "unknown", Tone: ToneUnknown}
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
	c := LayerCell{Text: fmt.Sprintf("stops %d/%d", stops, len(l.Paths)), Tone: ToneBad}
	if unknown > 0 {
		c.Text += fmt.Sprintf(", %d unknown", unknown)
	}
	switch len(l.Paths) {
	case stops:
		c.Tone = ToneGood
	case stops + unknown:
		c.Tone = ToneUnknown
	}
	return c
}

func kernelCell(k *scan.KernelLayer) LayerCell {
	switch {
	case k.Capabilities == kernel.Yes && k.Processes == kernel.Yes:
		return gradeCell(k.Grade)
	case k.Capabilities == kernel.No && k.Processes == kernel.No:
		return LayerCell{Text: "none", Tone: ToneBad}
	case k.Capabilities == kernel.No:
		return LayerCell{Text: "no caps", Tone: ToneBad}
	case k.Capabilities == kernel.Yes:
		return LayerCell{Text: "caps only", Tone: TonePoor}
	}
	return LayerCell{Text: "unknown", Tone: ToneUnknown}
}

// gradeCell is how well it is founded that a kernel enforces.
func gradeCell(g kernel.Grade) LayerCell {
	switch g {
	case kernel.Proven:
		return LayerCell{Text: "proven", Tone: ToneGood}
	case kernel.Claimed:
		return LayerCell{Text: "claimed", Tone: ToneGood}
	case kernel.Hinted:
	}
	// What is only hinted carries no verdict.
	return LayerCell{Text: strings.TrimSpace("unknown " + Clean(string(g))), Tone: ToneUnknown}
}
