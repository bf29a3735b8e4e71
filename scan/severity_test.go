package scan

import (
	"testing"
)

func TestSeverityOrder(t *testing.T) {
	worst := append([]Severity{SeverityNone}, Severities()...)
	for i := range worst {
		for k := range worst {
			if got, want := worst[i].AtLeast(worst[k]), i <= k; got != want {
				t.Errorf("%s at least %s is %v", worst[i], worst[k], got)
			}
		}
	}
	if Severity("odd").AtLeast(SeverityLow) {
		t.Error("an unknown severity reaches low")
	}
}

// TestSecuritySeverity: the bands of GitHub code scanning.
func TestSecuritySeverity(t *testing.T) {
	bands := map[Severity][2]float64{SeverityCritical: {9.1, 10}, SeverityHigh: {7, 8.9}, SeverityMedium: {4, 6.9}, SeverityLow: {0.1, 3.9}}
	for _, r := range Rules() {
		if band := bands[r.Severity]; r.SecuritySeverity < band[0] || r.SecuritySeverity > band[1] {
			t.Errorf("%s: %s has score %v", r.ID, r.Severity, r.SecuritySeverity)
		}
	}
}
