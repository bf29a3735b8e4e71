package report

import (
	"html/template"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// htmlFuncs are what templates may call.
func htmlFuncs() template.FuncMap {
	return template.FuncMap{
		"clean":    cleanValue,
		"verdict":  verdictPill,
		"severity": severityPill,
		"bite":     bitePill,
		"plural":   plural,
		"place":    place,
		"join":     strings.Join,
		// Words of this package that a template needs as another type, or as a text.
		"severityOf":   func(name string) scan.Severity { return scan.Severity(name) },
		"severityWord": severityWord,
		"tone":         toneClass,
		"stops":        stopsClass,
		"pathClass":    pathClass,
		"cell":         func(c scan.Cell) string { return cellText(&c) },
		"anchor":       ruleAnchor,
		"aggravation":  func() string { return aggravationNote },
		"noSteps":      func() string { return noStepsNote },
	}
}

// pill is a word that stands out. Its class is one of the style sheet's, never a text
// of the run.
type pill struct{ Class, Text string }

func verdictPill(v scan.Verdict) pill {
	switch {
	case v == "":
		return pill{string(scan.VerdictUnknown), "no verdict"}
	case slices.Contains(scan.Verdicts(), v):
		return pill{string(v), string(v)}
	}
	return pill{"unknown", string(v)}
}

func severityPill(s scan.Severity) pill {
	if slices.Contains(scan.Severities(), s) {
		return pill{string(s), string(s)}
	}
	return pill{"low", string(s)}
}

func bitePill(b scan.Bite) pill {
	switch b {
	case scan.BitesYes:
		return pill{"good", "bites"}
	case scan.BitesPartly:
		return pill{"poor", "partly"}
	case scan.BitesNo:
		return pill{"bad", "does not bite"}
	case scan.BitesUnknown:
	}
	return pill{"unknown", "unknown"}
}

func pathClass(s scan.PathState) string {
	switch s {
	case scan.PathOpen:
		return string(ToneBad)
	case scan.PathStopped:
		return string(ToneGood)
	case scan.PathUnknown:
	}
	return string(ToneUnknown)
}

// toneClass and stopsClass are classes of the style sheet.
func toneClass(t Tone) string {
	switch t {
	case ToneGood, TonePoor, ToneBad:
		return string(t)
	case ToneUnknown:
	}
	return string(ToneUnknown)
}

func stopsClass(s scan.Stops) string {
	switch s {
	case scan.StopsYes:
		return string(ToneGood)
	case scan.StopsNo:
		return string(ToneBad)
	case scan.StopsUnknown:
	}
	return string(ToneUnknown)
}
