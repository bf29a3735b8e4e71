package k8sevents

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// The reasons of our Events.
const (
	ReasonVerdictWorse  = "VerdictWorse"
	ReasonVerdictBetter = "VerdictBetter"
	ReasonFindings      = "NewFindings"
	ReasonIncident      = "EscapeAttempt"
	ReasonBlocked       = "EscapeAttemptBlocked"
	ReasonLost          = "EvidenceLost"
)

// words are what an Event says. They hold no counts: a text cannot be changed.
type words struct {
	warning              bool
	reason, action, note string
}

// words puts a note into words.
func (n *note) words() words {
	switch {
	case n.alert != nil:
		return alertWords(n.alert)
	case n.lost != nil:
		return lostWords(n.lost)
	case n.verdict != nil:
		return verdictWords(n.was, n.verdict)
	}
	return findingWords(n.findings, n.more)
}

func verdictWords(was scan.Verdict, v *scan.WorkloadVerdict) words {
	w := words{reason: ReasonVerdictBetter, action: "Judge"}
	if order := scan.Verdicts(); slices.Index(order, v.Verdict) < slices.Index(order, was) {
		w.warning, w.reason = true, ReasonVerdictWorse
	}
	w.note = fmt.Sprintf("was %s, is %s: %s", was, v.Verdict, v.Reason)
	if len(v.Paths) > 0 {
		w.note += "; open escape paths: " + strings.Join(v.Paths, ", ")
	}
	return w
}

func findingWords(findings []scan.FindingRef, more int) words {
	var parts []string
	for _, f := range findings {
		part := fmt.Sprintf("%s: %s (%s)", f.Severity, f.Title, f.Rule)
		if f.Container != "" {
			part += " in container " + f.Container
		}
		parts = append(parts, part)
	}
	note := "found: " + strings.Join(parts, "; ")
	if more > 0 {
		note += fmt.Sprintf("; and %d more", more)
	}
	return words{warning: true, reason: ReasonFindings, action: "Judge", note: note}
}

func alertWords(a *scan.Alert) words {
	w := words{warning: true, reason: ReasonIncident, action: "Detect"}
	done := "reported"
	if a.Blocked {
		w.reason, done = ReasonBlocked, "blocked"
	}
	parts := []string{fmt.Sprintf("%s %s, %s severity: %s", a.Class, done, a.Severity, a.Reason)}
	for _, p := range []struct{ name, value string }{
		{"process", a.Process}, {"resource", a.Resource}, {"container", a.Container}, {"pod", a.Pod}, {"node", a.Node},
		{"policy", a.Policy}, {"techniques", strings.Join(a.Techniques, ", ")},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	w.note = strings.Join(parts, "; ")
	return w
}

func lostWords(l *scan.Lost) words {
	note := fmt.Sprintf("alerts are missing from %s on (%s): %s", l.From.UTC().Format(time.RFC3339), l.Reason, l.Message)
	if !l.To.IsZero() {
		note = fmt.Sprintf("alerts are missing from %s to %s (%s): %s", l.From.UTC().Format(time.RFC3339), l.To.UTC().Format(time.RFC3339), l.Reason, l.Message)
	}
	if l.Container != "" {
		note += "; container " + l.Container
	}
	return words{warning: true, reason: ReasonLost, action: "Listen", note: note}
}
