package main

import (
	"runtime/debug"
	"testing"
	"time"
)

// testBuild is a build that is the same whatever the tests were built by.
func testBuild() build {
	return build{
		version: "v1.2.3", commit: "0123456789abcdef0123456789abcdef01234567", date: "2026-11-22T12:00:00Z",
		libraries: map[string]string{
			"k8s.io/client-go": "v0.37.2", "k8s.io/pod-security-admission": "v0.37.2", "github.com/cilium/ebpf": "v0.22.0",
			"example.com/decides/nothing": "v9.9.9",
		},
	}
}

func TestReadBuild(t *testing.T) {
	t.Parallel()
	const sha = "0123456789abcdef0123456789abcdef01234567"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: sha}, {Key: "vcs.time", Value: "2026-11-22T12:00:00Z"}, {Key: "vcs.modified", Value: modified}}
	}
	for _, test := range []struct {
		name string
		info debug.BuildInfo
		told build
		want build
	}{
		{"nothing is known", debug.BuildInfo{}, build{}, build{version: "devel"}},
		{"go install of a release", debug.BuildInfo{Main: debug.Module{Version: "v1.4.0"}}, build{}, build{version: "v1.4.0"}},
		{"go build in a checkout", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("false")}, build{},
			build{version: "devel-0123456789ab", commit: sha, date: "2026-11-22T12:00:00Z"}},
		{"with changes", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("true")}, build{},
			build{version: "devel-0123456789ab-dirty", commit: sha, date: "2026-11-22T12:00:00Z", modified: true}},
		{"a version of the go command's with changes", debug.BuildInfo{Main: debug.Module{Version: "v1.4.0+dirty"}, Settings: vcs("true")}, build{},
			build{version: "v1.4.0+dirty", commit: sha, date: "2026-11-22T12:00:00Z", modified: true}},
		{"the linker beats the go command", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20261122120000-0123456789ab"}, Settings: vcs("false")},
			build{version: "v1.4.0"}, build{version: "v1.4.0", commit: sha, date: "2026-11-22T12:00:00Z"}},
		{"outside of a checkout", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}},
			build{version: "v1.4.0-dirty", commit: "abc", date: "2026-11-22T12:00:00Z"},
			build{version: "v1.4.0-dirty", commit: "abc", date: "2026-11-22T12:00:00Z", modified: true}},
	} {
		got := readBuild(&test.info, test.told)
		if got.version != test.want.version || got.commit != test.want.commit || got.date != test.want.date || got.modified != test.want.modified {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestReadBuildReplaced(t *testing.T) {
	t.Parallel()
	b := readBuild(&debug.BuildInfo{Deps: []*debug.Module{
		{Path: "k8s.io/api", Version: "v0.37.2"},
		{Path: "k8s.io/client-go", Version: "v0.37.2", Replace: &debug.Module{Path: "../client-go", Version: "v0.37.3"}},
	}}, build{})
	if got := b.libraries["k8s.io/api"] + ", " + b.libraries["k8s.io/client-go"]; got != "v0.37.2, v0.37.3 (replaced)" {
		t.Errorf("got %s", got)
	}
}

// What is said to decide is really linked: a module that was renamed or dropped is
// not silently left out.
func TestDecisiveModulesAreLinked(t *testing.T) {
	t.Parallel()
	linked := linkedBuild().libraries
	if len(linked) == 0 {
		t.Skip("the go command wrote no modules into this test")
	}
	for _, path := range decisive() {
		if linked[path] == "" {
			t.Errorf("%s is not linked: take it off the list, or name what came in its place", path)
		}
	}
}

func TestBuildMade(t *testing.T) {
	t.Parallel()
	if at, ok := (build{date: "2026-11-22T13:00:00+01:00"}).made(); !ok || at.Format(time.RFC3339) != "2026-11-22T12:00:00Z" {
		t.Errorf("got %v, %v", at, ok)
	}
	if _, ok := (build{}).made(); ok {
		t.Error("a build without a date was made at a time")
	}
}
