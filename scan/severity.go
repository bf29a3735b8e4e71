package scan

// Severity grades a finding by what an attacker gains from it.
type Severity string

// The severities, worst first. SeverityNone is no finding's severity: it is the
// gate that nothing reaches.
const (
	SeverityCritical Severity = "critical"
	SeverityHigh     Severity = "high"
	SeverityMedium   Severity = "medium"
	SeverityLow      Severity = "low"
	SeverityNone     Severity = "none"
)

// Severities lists the severities a finding can have, worst first.
func Severities() []Severity {
	return []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow}
}

// Rank orders severities: a higher rank is worse, and SeverityNone is above all
// so that no finding reaches it. An unknown severity ranks below low.
func (s Severity) Rank() int {
	switch s {
	case SeverityNone:
		return 5
	case SeverityCritical:
		return 4
	case SeverityHigh:
		return 3
	case SeverityMedium:
		return 2
	case SeverityLow:
		return 1
	default:
		return 0
	}
}

// AtLeast reports whether s is as bad as gate, or worse.
func (s Severity) AtLeast(gate Severity) bool { return s.Rank() >= gate.Rank() }

// securitySeverity is the score of GitHub code scanning (0.1 to 10.0) in the
// middle of the band that carries the severity's name there.
func (s Severity) securitySeverity() float64 {
	switch s {
	case SeverityCritical:
		return 9.5
	case SeverityHigh:
		return 8.0
	case SeverityMedium:
		return 5.5
	default:
		return 2.5
	}
}
