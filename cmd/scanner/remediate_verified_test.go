package main

import (
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// What a later stage proves, an earlier one need not have known; the other way round
// it counts.
func TestVerifiedByTheLastCheck(t *testing.T) {
	t.Parallel()
	check := func(subject string, answer kernel.Answer) remediate.Check {
		return remediate.Check{Subject: subject, Answer: answer}
	}
	for name, test := range map[string]struct {
		checks []remediate.Check
		want   bool
	}{
		"nothing to verify": {nil, true},
		"known in the end":  {[]remediate.Check{check("a", kernel.Unknown), check("b", kernel.Yes), check("a", kernel.Yes)}, true},
		"lost in the end":   {[]remediate.Check{check("a", kernel.Yes), check("a", kernel.Unknown)}, false},
		"one never known":   {[]remediate.Check{check("a", kernel.Yes), check("b", kernel.Unknown)}, false},
		"wrong":             {[]remediate.Check{check("a", kernel.No)}, false},
	} {
		if got := verified(test.checks); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
