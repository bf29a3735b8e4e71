package scan

import (
	"strings"
	"testing"
	"time"
)

func TestWildcard(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "anything", true},
		{"web", "web", true},
		{"web", "web-1", false},
		{"*", "", true},
		{"web*", "web", true},
		{"web*", "web-1", true},
		{"*web", "my-web", true},
		{"*web", "webs", false},
		{"a*b", "ab", true},
		{"a*b", "a-b-b", true},
		{"a*b", "a", false},
		{"ab*ba", "aba", false},
		{"*a*b*", "xaxbx", true},
		{"*a*b*", "xbxax", false},
		{"a**b", "ab", true},
		{"registry.example.com/*@sha256:*", "registry.example.com/app@sha256:1f", true},
		{"w.b", "web", false},
	} {
		if got := wildcard(test.pattern, test.s); got != test.want {
			t.Errorf("wildcard(%q, %q) is %v", test.pattern, test.s, got)
		}
	}
}

func sampleFinding() *Finding {
	return &Finding{
		Rule: "escape-privileged", Category: CategoryEscape, Severity: SeverityCritical, Container: "app", Image: "registry.example.com/app:1.0",
		Workload: Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}, Field: "spec.containers[0].securityContext.privileged",
	}
}

func TestExceptionMatches(t *testing.T) {
	for name, test := range map[string]struct {
		x    Exception
		want bool
	}{
		"rule":                {Exception{Rule: "escape-privileged"}, true},
		"another rule":        {Exception{Rule: "privileged"}, false},
		"no wildcard in rule": {Exception{Rule: "*"}, false},
		"namespace":           {Exception{Rule: "escape-privileged", Namespace: "sh*"}, true},
		"another namespace":   {Exception{Rule: "escape-privileged", Namespace: "lab"}, false},
		"name":                {Exception{Rule: "escape-privileged", Workload: "web"}, true},
		"kind and name":       {Exception{Rule: "escape-privileged", Workload: "Deployment/web"}, true},
		"any of a kind":       {Exception{Rule: "escape-privileged", Workload: "Deployment/*"}, true},
		"another kind":        {Exception{Rule: "escape-privileged", Workload: "DaemonSet/web"}, false},
		"container":           {Exception{Rule: "escape-privileged", Container: "app"}, true},
		"another container":   {Exception{Rule: "escape-privileged", Container: "ap"}, false},
		"image":               {Exception{Rule: "escape-privileged", Image: "registry.example.com/*"}, true},
		"another image":       {Exception{Rule: "escape-privileged", Image: "*:2.0"}, false},
		"cluster":             {Exception{Rule: "escape-privileged", Cluster: "prod-*"}, true},
		"another cluster":     {Exception{Rule: "escape-privileged", Cluster: "test"}, false},
		"all but one":         {Exception{Rule: "escape-privileged", Namespace: "shop", Workload: "web", Container: "app", Image: "other"}, false},
	} {
		f := sampleFinding()
		f.Workload.Cluster = "prod-eu"
		if got := test.x.Matches(f); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestExceptionMatchesWorkload(t *testing.T) {
	w := Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}
	images := map[string]string{"app": "registry.example.com/app:1.0", "log": "registry.example.com/log:1.0"}
	for name, test := range map[string]struct {
		x    Exception
		want bool
	}{
		"any rule":                     {Exception{Rule: "escape-host-pid", Namespace: "shop", Workload: "Deployment/web"}, true},
		"another namespace":            {Exception{Rule: "escape-host-pid", Namespace: "lab"}, false},
		"another workload":             {Exception{Namespace: "shop", Workload: "api"}, false},
		"a container of it":            {Exception{Namespace: "shop", Container: "log"}, true},
		"no container of it":           {Exception{Namespace: "shop", Container: "db"}, false},
		"an image of it":               {Exception{Image: "*/log:*"}, true},
		"another container's image":    {Exception{Container: "app", Image: "*/log:*"}, false},
		"an image of another workload": {Exception{Namespace: "lab", Image: "*/log:*"}, false},
	} {
		if got := test.x.MatchesWorkload(w, images); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// excepted sends one finding and the end through the stage.
func excepted(t *testing.T, now string, end End, exceptions ...Exception) *recorder {
	t.Helper()
	r := &recorder{}
	stage := Except(exceptions, day(t, now), NewTally(r))
	for _, e := range []Event{{Finding: sampleFinding()}, {End: &end}} {
		if err := stage.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func day(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestExceptionCoversUntilItsLastDay(t *testing.T) {
	x := Exception{Rule: "escape-privileged", Reason: "being replaced", Expires: day(t, "2026-11-22T00:00:00Z"), File: "c.yaml", Line: 7}
	r := excepted(t, "2026-11-22T23:59:59Z", End{}, x)
	f := r.events[0].Finding
	if f.Excepted == nil || f.Excepted.Reason != "being replaced" || f.Excepted.Expires != "2026-11-22" {
		t.Errorf("excepted is %+v", f.Excepted)
	}
	if end := r.end(t); len(r.events) != 2 || end.Excepted != 1 || end.AtLeast(SeverityLow) > 0 {
		t.Errorf("%d events, end %+v", len(r.events), end)
	}

	r = excepted(t, "2026-11-23T00:00:00Z", End{}, x)
	if r.events[0].Finding.Excepted != nil {
		t.Error("the exception covers the day after its last")
	}
	f = r.events[1].Finding
	if f == nil || f.Rule != ruleExceptionExpired || f.Category != CategoryException || f.Location.File != "c.yaml" || f.Location.Line != 7 ||
		!strings.Contains(f.Message, "2026-11-22") || !strings.Contains(f.Message, "1 finding") || strings.Contains(f.Message, "1 findings") || f.Title == "" {
		t.Errorf("the expired exception is reported as %+v", f)
	}
	if end := r.end(t); end.Excepted != 0 || end.AtLeast(SeverityCritical) == 0 || end.Findings[SeverityMedium] != 1 {
		t.Errorf("end %+v", end)
	}
}

func TestExceptionWithoutExpiry(t *testing.T) {
	r := excepted(t, "2099-01-01T00:00:00Z", End{}, Exception{Rule: "escape-privileged", Reason: "by design"})
	if x := r.events[0].Finding.Excepted; x == nil || x.Expires != "" {
		t.Errorf("excepted is %+v", x)
	}
}

func TestExceptionThatMatchesNothing(t *testing.T) {
	x := Exception{Rule: "escape-privileged", Namespace: "lab", Workload: "web"}
	r := excepted(t, "2026-11-22T00:00:00Z", End{}, x)
	f := r.events[1].Finding
	if f == nil || f.Rule != ruleExceptionUnused || f.Severity != SeverityLow || f.Location.Line != 1 || string(f.Now) != `"rule escape-privileged, namespace lab, workload web"` {
		t.Errorf("it is reported as %+v", f)
	}
	// What was not read may be what it is for.
	r = excepted(t, "2026-11-22T00:00:00Z", End{Incomplete: true}, x)
	if len(r.events) != 2 {
		t.Errorf("an incomplete run reports %+v", r.events[1].Finding)
	}
}

// Of a fleet the exceptions are judged at its end, and those for clusters that it does
// not have are not.
func TestExceptionsOfAFleet(t *testing.T) {
	r := &recorder{}
	stage := Except([]Exception{
		{Rule: "escape-privileged", Cluster: "a", Namespace: "shop"}, {Rule: "escape-privileged", Cluster: "b", Namespace: "lab"},
		{Rule: "escape-privileged", Cluster: "elsewhere", Namespace: "shop"},
	}, time.Time{}, r)
	inA, inB := sampleFinding(), sampleFinding()
	inA.Workload.Cluster, inB.Workload.Cluster = "a", "b"
	for _, e := range []Event{
		{Start: &Start{Source: SourceFleet, Clusters: []string{"a", "b"}}}, {Finding: inA}, {Cluster: &ClusterRun{Name: "a"}},
		{Finding: inB}, {Cluster: &ClusterRun{Name: "b"}}, {End: &End{}},
	} {
		if err := stage.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	if r.events[1].Finding.Excepted == nil || r.events[3].Finding.Excepted != nil {
		t.Error("the exception for one cluster does not cover its finding, or covers that of another")
	}
	var about []string
	for _, e := range r.events[5:] {
		if e.Finding != nil {
			about = append(about, e.Finding.Workload.Name)
		}
	}
	wantLines(t, about, "rule escape-privileged, cluster b, namespace lab")
}

// TestExceptionsThatOverlap: both are used, the first that is valid gives the
// reason.
func TestExceptionsThatOverlap(t *testing.T) {
	old := Exception{Rule: "escape-privileged", Reason: "old", Expires: day(t, "2020-01-01T00:00:00Z")}
	first, second := Exception{Rule: "escape-privileged", Reason: "first"}, Exception{Rule: "escape-privileged", Reason: "second", Namespace: "shop"}
	r := excepted(t, "2026-11-22T00:00:00Z", End{}, old, first, second)
	if x := r.events[0].Finding.Excepted; x == nil || x.Reason != "first" {
		t.Errorf("excepted is %+v", x)
	}
	if len(r.events) != 3 || r.events[1].Finding.Rule != ruleExceptionExpired {
		t.Errorf("%d events", len(r.events))
	}
}

// TestExceptDoesNotTouchItsInput: another handler may hold the same finding.
func TestExceptDoesNotTouchItsInput(t *testing.T) {
	f := sampleFinding()
	if err := Except([]Exception{{Rule: f.Rule}}, time.Time{}, &recorder{}).Handle(Event{Finding: f}); err != nil {
		t.Fatal(err)
	}
	if f.Excepted != nil {
		t.Error("the finding that was handed in is marked")
	}
}
