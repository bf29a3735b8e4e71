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
	}
}

// pill is a word that stands out. Its class is one of the style sheet's, never a text
// of the run.
type pill struct{ Class, Text string }

func verdictPill(v scan.Verdict) pill {
	switch {
	case v == "":
		return pill{"unknown", "no verdict"}
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
