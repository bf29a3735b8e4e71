package tui

import (
	"github.com/charmbracelet/lipgloss"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// theme has the styles of one program. Colours are never all there is: what they say
// stands in words or letters too, so that 16 colours or none are enough.
type theme struct {
	plain, dim, bold, accent, title, selected, bar, key, errorText, note lipgloss.Style
	good, poor, bad, doubt                                               lipgloss.Style
	critical, high, medium, low                                          lipgloss.Style
	added, removed, hunk                                                 lipgloss.Style
}

// newTheme makes the styles for what a renderer knows of its terminal.
func newTheme(r *lipgloss.Renderer) *theme {
	style := func(light, dark string) lipgloss.Style {
		return r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: light, Dark: dark})
	}
	t := &theme{
		plain: r.NewStyle(), bold: r.NewStyle().Bold(true),
		dim:    style("#5f6b7a", "#8a95a5"),
		accent: style("#0550ae", "#6cb6ff"),
		title:  r.NewStyle().Bold(true),
		bar: r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: "#24292f", Dark: "#d8dee9"}).
			Background(lipgloss.AdaptiveColor{Light: "#e6eaef", Dark: "#2b303b"}),
		selected: r.NewStyle().Reverse(true),
		good:     style("#116329", "#57d38c"),
		poor:     style("#7d4e00", "#e3b341"),
		bad:      style("#b3261e", "#ff7b72"),
		doubt:    style("#8250df", "#d2a8ff"),
	}
	t.key = t.accent.Bold(true)
	t.errorText = t.bad.Bold(true)
	t.note = t.accent
	t.critical, t.high, t.medium, t.low = t.bad.Bold(true), t.bad, t.poor, t.dim
	t.added, t.removed, t.hunk = t.good, t.bad, t.accent
	return t
}

// verdict is the style of a verdict.
func (t *theme) verdict(v scan.Verdict) lipgloss.Style {
	switch v {
	case scan.VerdictExposed:
		return t.bad.Bold(true)
	case scan.VerdictUnknown:
		return t.doubt.Bold(true)
	case scan.VerdictGuarded:
		return t.poor
	case scan.VerdictClosed:
		return t.good
	case scan.VerdictSealed:
		return t.good.Bold(true)
	}
	return t.doubt
}

// severity is the style of a severity.
func (t *theme) severity(s scan.Severity) lipgloss.Style {
	switch s {
	case scan.SeverityCritical:
		return t.critical
	case scan.SeverityHigh:
		return t.high
	case scan.SeverityMedium:
		return t.medium
	case scan.SeverityLow, scan.SeverityNone:
	}
	return t.low
}

// tone is the style of an answer.
func (t *theme) tone(tone report.Tone) lipgloss.Style {
	switch tone {
	case report.ToneGood:
		return t.good
	case report.TonePoor:
		return t.poor
	case report.ToneBad:
		return t.bad
	case report.ToneUnknown:
	}
	return t.doubt
}

// verdictLetter stands for a verdict where there is no room for its word. Unknown is
// a question mark: it must not look like an answer.
func verdictLetter(v scan.Verdict) string {
	switch v {
	case scan.VerdictExposed:
		return "E"
	case scan.VerdictGuarded:
		return "G"
	case scan.VerdictClosed:
		return "C"
	case scan.VerdictSealed:
		return "S"
	case scan.VerdictUnknown:
	}
	return "?"
}

// severityLetter stands for a severity where there is no room for its word.
func severityLetter(s scan.Severity) string {
	switch s {
	case scan.SeverityCritical:
		return "C"
	case scan.SeverityHigh:
		return "H"
	case scan.SeverityMedium:
		return "M"
	case scan.SeverityLow:
		return "L"
	case scan.SeverityNone:
	}
	return "-"
}
