package tui

import (
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

func TestFilterMatches(t *testing.T) {
	t.Parallel()
	checkout := &filtered{
		workload: scan.Workload{Cluster: "prod", Namespace: "shop", Kind: "Deployment", Name: "Checkout"},
		verdict:  scan.VerdictExposed, severity: scan.SeverityHigh, paths: []string{"escape-cap-sys-admin", "escape-host-root"},
	}
	for text, want := range map[string]bool{
		"": true, "   ": true,
		"check": true, "SHOP/deployment/checkout": true, "cart": false, "shop check": true, "shop cart": false, "prod": false,
		"!check": false, "!cart": true,
		"verdict:exposed": true, "verdict:e": true, "verdict:guarded": false, "verdict:guarded,exposed": true,
		"!verdict:exposed": false, "!verdict:guarded,closed": true, "VERDICT:Exposed": true,
		"ns:shop": true, "ns:sho": false, "ns:SHOP": true, "ns:-": false, "ns:web,shop": true,
		"kind:deployment": true, "kind:Pod": false,
		"sev:critical": false, "sev:high": true, "sev:low": true, "sev:crit": false, "!sev:critical": true,
		"path:escape-host-root": true, "path:sys-admin": true, "path:escape-privileged": false, "!path:escape-privileged": true,
		"verdict:exposed ns:shop !cart": true, "verdict:exposed ns:web": false,
	} {
		f, err := parseFilter(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := f.matches(checkout); got != want {
			t.Errorf("%q matches: %v", text, got)
		}
		if f.empty() != (strings.TrimSpace(text) == "") {
			t.Errorf("%q is empty: %v", text, f.empty())
		}
	}
}

// TestFilterOfNothing: what has no verdict, severity or namespace matches no value of it.
func TestFilterOfNothing(t *testing.T) {
	t.Parallel()
	node := &filtered{workload: scan.Workload{Kind: "Node", Name: "node-1"}}
	for text, want := range map[string]bool{
		"verdict:exposed": false, "sev:low": false, "path:escape": false, "ns:-": true, "-/node/node-1": true, "!sev:low": true,
	} {
		f, err := parseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.matches(node); got != want {
			t.Errorf("%q matches: %v", text, got)
		}
	}
}

func TestFilterOfAView(t *testing.T) {
	t.Parallel()
	more := []filterKey{{name: "class", values: []string{"capability", "chroot"}}, {name: "node"}}
	s := &filtered{text: "xyz", more: func(key string) string {
		return map[string]string{"class": "chroot", "node": "Node-1"}[key]
	}}
	for text, want := range map[string]bool{"class:chroot": true, "class:cap": false, "node:node-1": true, "node:node-2": false, "y": true, "shop": false} {
		f, err := parseFilter(text, more...)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.matches(s); got != want {
			t.Errorf("%q matches: %v", text, got)
		}
	}
	if _, err := parseFilter("class:x", more...); err == nil || err.Error() != `class: "x" is none of capability, chroot` {
		t.Error(err)
	}
	if _, err := parseFilter("class:chroot"); err == nil {
		t.Error("a key of another view is known")
	}
}

func TestFilterSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"colour:red":   `no key "colour": there are verdict, ns, kind, sev, path`,
		"verdict:":     "verdict: is one of exposed, unknown, guarded, closed, sealed",
		"verdict:bad":  `verdict: "bad" is none of exposed, unknown, guarded, closed, sealed`,
		"sev:none":     `sev: "none" is none of critical, high, medium, low`,
		"path:nowhere": `path: no escape path is called "nowhere"`,
		"ns:":          "ns: wants a value",
		"ns:a,":        "ns: wants a value",
		"shop !":       "! wants a term behind it",
		"\x1b:x":       `no key "\x1b": there are verdict, ns, kind, sev, path`,
	} {
		if _, err := parseFilter(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestFilterValuesAreSet(t *testing.T) {
	t.Parallel()
	text := "ns:shop !verdict:closed  cart"
	if got := setFilterValue(text, keyVerdict, "exposed"); got != "ns:shop cart verdict:exposed" || filterValue(got, keyVerdict) != "exposed" {
		t.Error(got)
	}
	if got := setFilterValue("verdict:exposed", keyVerdict, ""); got != "" || filterValue(got, keyVerdict) != "" {
		t.Error(got)
	}
}

// TestFilterBarSaysWhatItCannotRead: the terms beside it go on.
func TestFilterBarSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	var b filterBar
	if !b.set("ns:shop") || b.set("ns:shop") || b.note() != "only what matches ns:shop" {
		t.Errorf("%+v", b)
	}
	if !b.set("verdict:x ns:shop") || b.failed == "" || len(b.filter.terms) != 1 {
		t.Errorf("%+v", b)
	}
	if !b.set("ns:shop  foo:bar !kind:Pod") || b.failed == "" || b.note() != "only what matches ns:shop !kind:Pod" {
		t.Errorf("a term that cannot be read is said to hold: %s", b.note())
	}
	if !b.set("") || b.failed != "" || b.seen() || b.note() != "" {
		t.Errorf("%+v", b)
	}
}

// TestFilterIsSeenWhileTyped: from its first letter, where there is room for it, and to
// its last, where there is not.
func TestFilterIsSeenWhileTyped(t *testing.T) {
	t.Parallel()
	s, _ := workloadsStage(t, 80, 24, eventsOf(t, layersRun))
	s.press("/")
	for _, r := range "verdict:exposed path:privileged kind:x" {
		s.press(string(r))
		s.text()
	}
	s.wants("/verdict:exposed path:privileged kind:x ")
	s.press(strings.Repeat("y", 60))
	s.wants("yyy ")
	if strings.Contains(s.text(), "/verdict") {
		t.Error("the end of a long filter is not seen")
	}
	s.send(tea.WindowSizeMsg{Width: 300, Height: 24})
	s.wants("/verdict:exposed path:privileged kind:xyyy")
}

func FuzzFilter(f *testing.F) {
	f.Add("verdict:exposed !ns:shop a")
	f.Add("!::,, \x00")
	f.Fuzz(func(_ *testing.T, text string) {
		got, err := parseFilter(text)
		if err == nil {
			got.matches(&filtered{paths: []string{"escape-x"}})
		}
	})
}
