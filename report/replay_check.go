package report

import (
	"errors"
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// checkEvent refuses what a handler could only misread: a schema or a word that
// this version does not know must not pass for something harmless.
func checkEvent(e scan.Event) error {
	var err error
	kind := ""
	switch {
	case e.Start != nil && e.Start.Schema > scan.SchemaVersion:
		return fmt.Errorf("start: schema %d is newer than this version reads (%d)", e.Start.Schema, scan.SchemaVersion)
	case e.Start != nil && e.Start.Schema < 1:
		return fmt.Errorf("start: schema %d: want 1 to %d", e.Start.Schema, scan.SchemaVersion)
	case e.Finding != nil && e.Finding.Rule == "":
		return errors.New("finding: no rule")
	case e.Finding != nil:
		kind, err = "finding", firstError(known("severity ", e.Finding.Severity, scan.Severities()...), checkEdits(e.Finding))
	case e.Node != nil && e.Node.Enforcement != nil:
		kind, err = "node", checkEnforcement(e.Node.Enforcement)
	case e.Policy != nil:
		kind, err = "policy", firstError(
			knownLayer(e.Policy.Layer),
			known("bites ", e.Policy.Bites, bites()...))
	case e.Verdict != nil:
		kind, err = "verdict", checkVerdict(e.Verdict)
	case e.Resolved != nil:
		kind, err = "resolved", checkResolved(e.Resolved)
	case e.Part != nil:
		kind, err = "part", checkPart(e.Part)
	case e.Alert != nil:
		kind, err = "alert", checkAlert(e.Alert)
	case e.Lost != nil:
		kind, err = "lost", checkLost(e.Lost)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

// checkEdits refuses edits that no file could take.
func checkEdits(f *scan.Finding) error {
	if f.Fix == nil {
		return nil
	}
	for i := range f.Fix.Edits {
		e := &f.Fix.Edits[i]
		if !e.Sound() {
			return fmt.Errorf("edit %d: line %d, column %d to line %d, column %d: want a place in a file", i, e.Line, e.Column, e.EndLine, e.EndColumn)
		}
		if i == 0 {
			continue
		}
		if before := &f.Fix.Edits[i-1]; e.Line < before.EndLine || e.Line == before.EndLine && e.Column < before.EndColumn {
			return fmt.Errorf("edit %d: line %d: stands before the end of the one before it", i, e.Line)
		}
	}
	return nil
}

func checkVerdict(v *scan.WorkloadVerdict) error {
	err := firstError(known("", v.Verdict, scan.Verdicts()...), knownVerdict("was ", v.Was))
	if v.Layers == nil || err != nil {
		return err
	}
	return checkLayers(v.Layers, false)
}

// checkLayers checks what the layers say. Where it is part of a shard, admission is told
// apart from them.
func checkLayers(l *scan.Layers, part bool) error {
	var err error
	if !part {
		err = knownAdmission("admission ", l.Admission.Answer)
	}
	err = firstError(
		err,
		knownReopen(l.Reopen),
		knownKernel("set ", l.Runtime.Set),
		knownKernel("kernel capabilities ", l.Kernel.Capabilities),
		knownKernel("kernel processes ", l.Kernel.Processes),
		knownGrade(l.Kernel.Grade))
	for i := range l.Admission.Rulings {
		err = firstError(err, knownAdmission("ruling ", l.Admission.Rulings[i].Answer))
	}
	for i := range l.Runtime.Containers {
		covers := l.Runtime.Containers[i].Covers
		for k := range covers {
			err = firstError(err, known("status ", covers[k].Status, armor.Blocked, armor.Audited, armor.Allowed, armor.NotCovered, armor.Unknown))
		}
	}
	for i := range l.Paths {
		p := &l.Paths[i]
		err = firstError(err, known("state ", p.State, scan.PathOpen, scan.PathUnknown, scan.PathStopped), checkCell(&p.Runtime), checkCell(&p.Kernel))
		if !part {
			err = firstError(err, checkCell(&p.Admission))
		}
	}
	return err
}

func checkCell(c *scan.Cell) error {
	return firstError(known("answer ", c.Answer, scan.StopsYes, scan.StopsNo, scan.StopsUnknown), knownGrade(c.Grade))
}

func knownReopen(a admission.Answer) error {
	return known("reopen ", a, admission.Refuses, admission.Admits, admission.Unknown, "")
}

// checkResolved refuses what does not say what is gone: it would stay in the picture.
func checkResolved(r *scan.Resolved) error {
	named := false
	switch r.What {
	case scan.ResolvedFinding:
		named = r.Workload != nil && r.Finding != nil && r.Finding.Fingerprint != ""
	case scan.ResolvedWorkload:
		named = r.Workload != nil
	case scan.ResolvedNode:
		named = r.Node != ""
	case scan.ResolvedPolicy:
		named = r.Policy != nil
	case scan.ResolvedFailure:
		named = r.Failure != nil
	default:
		return fmt.Errorf("what %q is not known to this version", Clean(string(r.What)))
	}
	if !named {
		return fmt.Errorf("%s: it does not say which", r.What)
	}
	err := knownVerdict("was ", r.Was)
	if r.Finding != nil {
		err = firstError(err, known("severity ", r.Finding.Severity, scan.Severities()...))
	}
	if r.Policy != nil {
		err = firstError(err, knownLayer(r.Policy.Layer))
	}
	return err
}

func checkAlert(a *scan.Alert) error {
	if a.ID == "" {
		return errors.New("no id")
	}
	return firstError(
		known("class ", a.Class, scan.AlertClasses()...),
		known("severity ", a.Severity, scan.Severities()...),
		knownVerdict("verdict ", a.Verdict))
}

func checkLost(l *scan.Lost) error {
	if l.ID == "" {
		return errors.New("no id")
	}
	return known("reason ", l.Reason, scan.LostThrottled, scan.LostDeaf, scan.LostDropped, scan.LostUnreadable)
}

// knownVerdict lets pass that there is none.
func knownVerdict(label string, v scan.Verdict) error {
	if v == "" {
		return nil
	}
	return known(label, v, scan.Verdicts()...)
}

func knownLayer(l scan.Layer) error {
	return known("layer ", l, scan.LayerAdmission, scan.LayerRuntime, scan.LayerKernel)
}

func checkEnforcement(e *kernel.Enforcement) error {
	err := firstError(
		knownKernel("capabilities ", e.Capabilities),
		knownKernel("processes ", e.Processes),
		knownKernel("agent ", e.Agent),
		knownGrade(e.Grade))
	for i := range e.Evidence {
		err = firstError(err, knownKernel("evidence ", e.Evidence[i].Says), knownGrade(e.Evidence[i].Grade))
	}
	return err
}

func knownAdmission(label string, a admission.Answer) error {
	return known(label, a, admission.Refuses, admission.Admits, admission.Unknown)
}

func knownKernel(label string, a kernel.Answer) error {
	return known(label, a, kernel.Yes, kernel.No, kernel.Unknown)
}

// knownGrade lets pass that there is none: what is unknown rests on nothing.
func knownGrade(g kernel.Grade) error {
	return known("grade ", g, kernel.Proven, kernel.Claimed, kernel.Hinted, "")
}

// known is an error when word is not in list.
func known[T ~string](label string, word T, list ...T) error {
	if slices.Contains(list, word) {
		return nil
	}
	return fmt.Errorf("%s%q is not known to this version", label, Clean(string(word)))
}

// firstError is the first of the errors.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// bites lists the answers in the order of the table: what does not bite first.
func bites() []scan.Bite {
	return []scan.Bite{scan.BitesNo, scan.BitesPartly, scan.BitesUnknown, scan.BitesYes}
}
