package scan

import (
	"strings"
	"testing"
)

func TestResolvePSS(t *testing.T) {
	newest := NewestPSS().String()
	for _, test := range []struct{ asked, server, want, note string }{
		{"server", "v1.33.4", "v1.33", ""},
		{"", "v1.33.4-eks-1a2b3c", "v1.33", ""},
		{"server", "1.33+", "v1.33", ""},
		{"server", "v1.33.4+k3s1", "v1.33", ""},
		{"server", "", "latest", "set --pss-version"},
		{"server", "v1.99.0", "v1.99", newest},
		{"latest", "v1.30.0", "latest", ""},
		{"v1.25", "v1.33.0", "v1.25", ""},
		{"v1.98", "v1.33.0", "v1.98", newest},
	} {
		got, notes, err := ResolvePSS(test.asked, test.server)
		if err != nil || got.String() != test.want {
			t.Errorf("%q of %q: %s, %v", test.asked, test.server, got, err)
		}
		if text := strings.Join(notes, "\n"); (text == "") != (test.note == "") || !strings.Contains(text, test.note) {
			t.Errorf("%q of %q: notes %q", test.asked, test.server, notes)
		}
	}
	for asked, server := range map[string]string{"1.25": "v1.33.0", "newest": "", "server": "unknown", "v2.1": ""} {
		if got, _, err := ResolvePSS(asked, server); err == nil {
			t.Errorf("%q of %q is %s", asked, server, got)
		}
	}
	if newest != "v1.37" {
		t.Errorf("the newest checks are of %s: the fixtures and texts speak of v1.37", newest)
	}
}
