package scan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// sideOf is the picture that events draw.
func sideOf(events []scan.Event) *scan.DiffSide {
	s := scan.NewDiffSide()
	for _, e := range events {
		// It never fails.
		_ = s.Handle(e)
	}
	return s
}

// ended adds an end to events, and a start where they have none.
func ended(events []scan.Event, change func(*scan.Start, *scan.End)) []scan.Event {
	start, end := scan.Start{Source: scan.SourceCluster, Cluster: "prod", Level: "baseline"}, scan.End{}
	if len(events) > 0 && events[0].Start != nil {
		start, events = *events[0].Start, events[1:]
	}
	if change != nil {
		change(&start, &end)
	}
	return slices.Concat([]scan.Event{{Start: &start}}, events, []scan.Event{{End: &end}})
}

// texts are what a list is of, for comparison.
func texts[T any](list []T, text func(*T) string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = text(&list[i])
	}
	slices.Sort(out)
	return out
}

func findingText(f *scan.Finding) string {
	return fmt.Sprint(f.Workload, f.Claims, f.Fingerprint(), f.Severity, f.Excepted != nil)
}

func verdictText(v *scan.WorkloadVerdict) string { return fmt.Sprint(v.Workload, v.Claims, v.Verdict) }

func sameTexts(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d and %d differ:\n%s\nand\n%s", what, len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The same picture twice is no change, whatever it lacks.
func TestDiffOfTheSameIsEmpty(t *testing.T) {
	t.Parallel()
	demo := demoEvents(t)
	for name, change := range map[string]func(*scan.Start, *scan.End){
		"whole":       nil,
		"interrupted": func(_ *scan.Start, e *scan.End) { e.Interrupted, e.Incomplete = true, true },
		"scope":       func(s *scan.Start, _ *scan.End) { s.Namespaces, s.Selector = []string{"shop"}, "a=b" },
		"manifests":   func(s *scan.Start, _ *scan.End) { s.Source = scan.SourceManifests },
		"baseline":    func(_ *scan.Start, e *scan.End) { e.Known = 3 },
	} {
		events := ended(append(slices.Clone(demo), scan.Event{Failure: &scan.Failure{Subject: "pods", Namespace: "shop"}}), change)
		side := sideOf(events)
		if d := scan.Compare(side, side); !d.Empty() || len(d.Differences) > 0 {
			t.Errorf("%s: something changed", name)
		}
		if findings, verdicts := scan.Compare(side, sideOf(events)).AtLeast(scan.SeverityLow); findings+verdicts > 0 {
			t.Errorf("%s: %d findings and %d verdicts at the gate", name, findings, verdicts)
		}
	}
	if empty := scan.NewDiffSide(); !scan.Compare(empty, empty).Empty() {
		t.Error("nothing differs from nothing")
	}
}

// altered is the demo with some things left out and some changed.
func altered(events []scan.Event, random *rand.Rand) []scan.Event {
	var out []scan.Event
	severities, verdicts := scan.Severities(), scan.Verdicts()
	for _, e := range events {
		dice := random.IntN(20)
		switch {
		case e.Start == nil && dice == 0:
			continue
		case e.Finding != nil && dice == 1:
			f := *e.Finding
			f.Severity = severities[random.IntN(len(severities))]
			e.Finding = &f
		case e.Finding != nil && dice == 2:
			f := *e.Finding
			f.Excepted = &scan.Excepted{Reason: "known"}
			e.Finding = &f
		case e.Finding != nil && dice == 3:
			out = append(out, e)
		case e.Verdict != nil && dice < 4:
			v := *e.Verdict
			v.Verdict, v.Pods = verdicts[random.IntN(len(verdicts))], v.Pods+1
			e.Verdict = &v
		case e.Policy != nil && dice < 4:
			p := *e.Policy
			p.Bites = []scan.Bite{scan.BitesNo, scan.BitesYes, scan.BitesPartly, scan.BitesUnknown}[dice]
			e.Policy = &p
		case e.Node != nil && dice < 8:
			n := *e.Node
			weak := *n.Enforcement
			weak.Capabilities = kernel.Unknown
			n.Enforcement = &weak
			e.Node = &n
		}
		out = append(out, e)
	}
	return out
}

// renamed gives the cluster of a run another name.
func renamed(events []scan.Event, name string) []scan.Event {
	out := make([]scan.Event, len(events))
	for i, e := range events {
		if e.Finding != nil {
			f := *e.Finding
			f.Workload.Cluster = name
			e.Finding = &f
		}
		if e.Verdict != nil {
			v := *e.Verdict
			v.Workload.Cluster = name
			e.Verdict = &v
		}
		out[i] = e
	}
	return out
}

// What opened one way closed the other way, and what is doubtful is so both ways.
func TestDiffBothWays(t *testing.T) {
	t.Parallel()
	demo := demoEvents(t)
	gaps := []func(*scan.Start, *scan.End){
		nil, nil, nil,
		func(s *scan.Start, _ *scan.End) { s.Namespaces = []string{"shop", "ci", "kube-system"} },
		func(s *scan.Start, _ *scan.End) { s.Selector = "app=web" },
		func(s *scan.Start, _ *scan.End) { s.Level = "restricted" },
		func(_ *scan.Start, e *scan.End) { e.Known = 2 },
		func(_ *scan.Start, e *scan.End) { e.Interrupted, e.Incomplete = true, true },
		func(s *scan.Start, _ *scan.End) { s.Source = scan.SourceManifests },
	}
	failures := []string{"pods", "nodes", "namespaces", "persistent volumes", "KubeArmorPolicy.security.kubearmor.com", "server version", "something new"}
	opened, doubted := 0, 0
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 7))
		run := func() []scan.Event {
			events := altered(demo, random)
			if random.IntN(3) == 0 {
				events = append(events, scan.Event{Failure: &scan.Failure{
					Subject: failures[random.IntN(len(failures))], Namespace: []string{"", "ci"}[random.IntN(2)], Reason: scan.FailureForbidden,
				}})
			}
			return ended(events, gaps[random.IntN(len(gaps))])
		}
		a, b := run(), run()
		there, back := scan.Compare(sideOf(a), sideOf(b)), scan.Compare(sideOf(b), sideOf(a))
		bothWays(t, there, back)
		bothWays(t, back, there)
		moved := scan.Compare(sideOf(a), sideOf(renamed(b, "another")))
		if len(moved.Opened) != len(there.Opened) || len(moved.Came) != len(there.Came) {
			t.Errorf("seed %d: another name of the cluster makes a difference", seed)
		}
		opened += len(there.Opened)
		doubted += len(there.NotKnown.Findings)
		applies(t, a, b, there)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if opened < 300 || doubted < 200 {
		t.Errorf("only %d opened and %d not known: this tries nothing", opened, doubted)
	}
}

func bothWays(t *testing.T, there, back *scan.Diff) {
	t.Helper()
	now := func(p *scan.FindingPair) string { return findingText(p.Either()) }
	var certain, doubtful []scan.FindingPair
	for _, p := range there.Opened {
		if p.Doubt == "" {
			certain = append(certain, p)
		} else {
			doubtful = append(doubtful, p)
		}
	}
	sameTexts(t, "opened, and closed the other way", texts(certain, now), texts(back.Closed, now))
	sameTexts(t, "opened perhaps, and not known the other way", texts(doubtful, now), texts(back.NotKnown.Findings, now))
	was := func(p *scan.FindingPair) string { return findingText(p.Was) }
	then := func(p *scan.FindingPair) string { return findingText(p.Now) }
	sameTexts(t, "excepted, and not the other way", texts(there.Excepted, then), texts(back.Unexcepted, was))
	sameTexts(t, "severities", texts(there.Severities, then), texts(back.Severities, was))
	sameTexts(t, "verdicts", texts(there.Verdicts, func(p *scan.VerdictPair) string { return verdictText(p.Now) }), texts(back.Verdicts, func(p *scan.VerdictPair) string { return verdictText(p.Was) }))
	if len(there.Came) != len(back.Went)+len(back.NotKnown.Workloads) {
		t.Errorf("%d came, %d went the other way", len(there.Came), len(back.Went)+len(back.NotKnown.Workloads))
	}
	if len(there.Policies)+len(there.NotKnown.Policies) != len(back.Policies)+len(back.NotKnown.Policies) || len(there.Nodes)+len(there.NotKnown.Nodes) != len(back.Nodes)+len(back.NotKnown.Nodes) {
		t.Error("policies or nodes differ by the way")
	}
}

// applies checks that the old findings without those that are not there any more, and
// with those that opened, are the new ones.
func applies(t *testing.T, a, b []scan.Event, d *scan.Diff) {
	t.Helper()
	counts := map[string]int{}
	count := func(f *scan.Finding, n int) { counts[f.Workload.String()+f.Claims+f.Fingerprint()] += n }
	for _, e := range a {
		if e.Finding != nil {
			count(e.Finding, 1)
		}
	}
	for _, e := range b {
		if e.Finding != nil {
			count(e.Finding, -1)
		}
	}
	for _, list := range [][]scan.FindingPair{d.Closed, d.NotKnown.Findings} {
		for _, p := range list {
			count(p.Was, -1)
		}
	}
	for _, p := range d.Opened {
		count(p.Now, 1)
	}
	for k, n := range counts {
		if n != 0 {
			t.Errorf("%s: %+d left over", k, n)
		}
	}
}

// shop is a workload with findings, as a run tells it.
func shopWorkload() scan.Workload {
	return scan.Workload{Cluster: "prod", Namespace: "shop", Kind: "Deployment", Name: "web"}
}

func shopFinding(rule string, category scan.Category, severity scan.Severity) *scan.Finding {
	return &scan.Finding{Rule: rule, Category: category, Severity: severity, Workload: shopWorkload(), Container: "c", Field: "spec.containers[0].x", Open: category == scan.CategoryEscape}
}

func shopVerdict(v scan.Verdict) scan.Event {
	return scan.Event{Verdict: &scan.WorkloadVerdict{Workload: shopWorkload(), Verdict: v, Severity: scan.SeverityCritical, Reason: "because"}}
}

// Nothing closed where the new run could not have seen it.
func TestDiffSaysClosedOnlyOfWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	pss, escape, policy := shopFinding("privileged", scan.CategoryPSS, "high"), shopFinding("escape-privileged", scan.CategoryEscape, "critical"), shopFinding("policy-x", scan.CategoryPolicy, "medium")
	old := ended([]scan.Event{{Finding: pss}, {Finding: escape}, {Finding: policy}, shopVerdict(scan.VerdictExposed)}, nil)
	failure := func(subject, namespace string) scan.Event {
		return scan.Event{Failure: &scan.Failure{Subject: subject, Namespace: namespace, Reason: scan.FailureForbidden}}
	}
	here := shopVerdict(scan.VerdictClosed)
	unread := scan.Event{Verdict: &scan.WorkloadVerdict{Workload: scan.Workload{Namespace: "shop", Kind: "Namespace", Name: "shop"}, Verdict: scan.VerdictUnknown}}
	for name, c := range map[string]struct {
		events []scan.Event
		change func(*scan.Start, *scan.End)
		// closed are the rules that are gone for certain, why begins the doubt of the rest.
		closed, why string
	}{
		"all was read":                {[]scan.Event{here}, nil, "escape-privileged policy-x privileged", ""},
		"the workload is gone":        {nil, nil, "escape-privileged policy-x privileged", ""},
		"interrupted":                 {[]scan.Event{here}, func(_ *scan.Start, e *scan.End) { e.Interrupted = true }, "", "the new run was stopped before its end"},
		"incomplete, unsaid":          {[]scan.Event{here}, func(_ *scan.Start, e *scan.End) { e.Incomplete = true }, "", "the new run is incomplete, and does not say where"},
		"pods of the namespace":       {[]scan.Event{here, failure("pods", "shop")}, nil, "", "the new run could not read pods in shop (forbidden)"},
		"pods everywhere":             {[]scan.Event{failure("pods", "")}, nil, "", "the new run could not read pods (forbidden)"},
		"pods of another namespace":   {[]scan.Event{here, failure("pods", "ci")}, nil, "escape-privileged policy-x privileged", ""},
		"owners":                      {[]scan.Event{here, failure("ReplicaSet", "shop")}, nil, "", "the new run could not read ReplicaSet in shop (forbidden)"},
		"a watch that is stale":       {[]scan.Event{here, failure("watch of pods", "")}, nil, "", "the new run could not read watch of pods (forbidden)"},
		"nodes":                       {[]scan.Event{here, failure("nodes", "")}, nil, "escape-privileged privileged", "the new run could not read nodes"},
		"policies":                    {[]scan.Event{here, failure("KubeArmorPolicy.security.kubearmor.com", "")}, nil, "escape-privileged privileged", "the new run could not read KubeArmorPolicy"},
		"volumes":                     {[]scan.Event{here, failure("persistent volumes", "")}, nil, "policy-x privileged", "the new run could not read persistent volumes"},
		"the server's version":        {[]scan.Event{here, failure("server version", "")}, nil, "escape-privileged", "the new run could not read server version"},
		"alerts":                      {[]scan.Event{here, failure("alerts of 10.0.0.1:32767", "")}, nil, "escape-privileged policy-x privileged", ""},
		"a subject of a time to come": {[]scan.Event{here, failure("moods", "")}, nil, "", "the new run could not read moods (forbidden)"},
		"another namespace":           {nil, func(s *scan.Start, _ *scan.End) { s.Namespaces = []string{"ci"} }, "", "the new run did not look at namespace shop"},
		"this namespace":              {nil, func(s *scan.Start, _ *scan.End) { s.Namespaces = []string{"shop"} }, "escape-privileged policy-x privileged", ""},
		"a selector":                  {[]scan.Event{here}, func(s *scan.Start, _ *scan.End) { s.Selector = "a=b" }, "", "the new run looked only at pods that match a=b"},
		"the namespace unread":        {[]scan.Event{unread}, nil, "", "the new run could not read the pods in shop"},
		"a baseline":                  {[]scan.Event{here}, func(_ *scan.Start, e *scan.End) { e.Known = 1 }, "", "the new run left out 1 findings that its baseline has"},
		"another level":               {[]scan.Event{here}, func(s *scan.Start, _ *scan.End) { s.Level = "restricted" }, "escape-privileged policy-x", "the new run judged by the level restricted"},
		"an unknown verdict":          {[]scan.Event{shopVerdict(scan.VerdictUnknown)}, nil, "policy-x privileged", "the new run does not know the verdict: because"},
		"other rules":                 {[]scan.Event{here}, func(s *scan.Start, _ *scan.End) { s.RuleSet = "2" }, "", "the new run judged by rule set 2"},
		"manifests":                   {nil, func(s *scan.Start, _ *scan.End) { s.Source = scan.SourceManifests }, "", "the new run read manifests"},
	} {
		t.Run(name, func(t *testing.T) {
			d := scan.Compare(sideOf(old), sideOf(ended(c.events, c.change)))
			var closed []string
			for _, p := range d.Closed {
				closed = append(closed, p.Was.Rule)
			}
			slices.Sort(closed)
			if got := strings.Join(closed, " "); got != c.closed {
				t.Errorf("closed %q, want %q", got, c.closed)
			}
			if len(closed)+len(d.NotKnown.Findings) != 3 {
				t.Errorf("%d are not known", len(d.NotKnown.Findings))
			}
			for _, p := range d.NotKnown.Findings {
				if c.why == "" || !strings.HasPrefix(p.Doubt, c.why) {
					t.Errorf("%s: %q, want %q", p.Was.Rule, p.Doubt, c.why)
				}
			}
			if certain := c.closed != ""; len(d.Went) > 0 && !certain {
				t.Error("the workload is said to be gone")
			}
		})
	}
}

// With a selector a workload that does not show may have other labels now.
func TestDiffOfOneSelector(t *testing.T) {
	t.Parallel()
	selected := func(s *scan.Start, _ *scan.End) { s.Selector = "a=b" }
	old := ended([]scan.Event{{Finding: shopFinding("privileged", scan.CategoryPSS, "high")}, shopVerdict(scan.VerdictExposed)}, selected)
	if d := scan.Compare(sideOf(old), sideOf(ended([]scan.Event{shopVerdict(scan.VerdictClosed)}, selected))); len(d.Closed) != 1 || d.Verdicts[0].Doubt != "" {
		t.Errorf("%d closed, want 1", len(d.Closed))
	}
	if d := scan.Compare(sideOf(old), sideOf(ended(nil, selected))); len(d.Closed)+len(d.Went) != 0 || len(d.NotKnown.Workloads) != 1 {
		t.Error("a workload that does not show is said to be gone")
	}
}

// A broken file hides what may be in it, and not what is in others.
func TestDiffOfABrokenFile(t *testing.T) {
	t.Parallel()
	manifests := func(s *scan.Start, _ *scan.End) { s.Source, s.Cluster = scan.SourceManifests, "deploy" }
	at := func(file string) *scan.Location { return &scan.Location{File: file, Line: 1} }
	in := func(file string, f *scan.Finding) scan.Event {
		f.Location = at(file)
		return scan.Event{Finding: f}
	}
	verdict := func(file string) scan.Event {
		e := shopVerdict(scan.VerdictClosed)
		e.Verdict.Location = at(file)
		return e
	}
	volume := shopFinding("escape-hostpath", scan.CategoryEscape, "high")
	volume.Field = "spec.volumes[0].persistentVolumeClaim"
	old := ended([]scan.Event{
		in("a.yaml", shopFinding("privileged", scan.CategoryPSS, "high")), in("a.yaml", volume),
		in("a.yaml", shopFinding("policy-x", scan.CategoryPolicy, "low")), verdict("a.yaml"),
	}, manifests)
	for broken, want := range map[string]string{"a.yaml": "", "b.yaml": "privileged"} {
		failure := scan.Event{Failure: &scan.Failure{Subject: broken, Reason: scan.FailureInvalid, Location: at(broken)}}
		d := scan.Compare(sideOf(old), sideOf(ended([]scan.Event{failure, verdict("a.yaml")}, manifests)))
		var closed []string
		for _, p := range d.Closed {
			closed = append(closed, p.Was.Rule)
		}
		if got := strings.Join(closed, " "); got != want {
			t.Errorf("%s is broken: closed %q, want %q", broken, got, want)
		}
	}
}

// Of two documents that declare one workload neither hides the other, and a second
// finding of a kind is new.
func TestDiffOfDocumentsTwice(t *testing.T) {
	t.Parallel()
	one := scan.Event{Finding: shopFinding("privileged", scan.CategoryPSS, "high")}
	old := ended([]scan.Event{one, shopVerdict(scan.VerdictExposed), shopVerdict(scan.VerdictClosed)}, nil)
	d := scan.Compare(sideOf(old), sideOf(ended([]scan.Event{one, one, shopVerdict(scan.VerdictClosed), shopVerdict(scan.VerdictExposed)}, nil)))
	if len(d.Opened) != 1 || len(d.Verdicts) != 0 {
		t.Errorf("%d opened, %d verdicts", len(d.Opened), len(d.Verdicts))
	}
}

// The gate knows what counts now and did not before.
func TestDiffAtLeast(t *testing.T) {
	t.Parallel()
	excepted := func(f *scan.Finding) *scan.Finding {
		f.Excepted = &scan.Excepted{Reason: "known"}
		return f
	}
	escape := func(s scan.Severity) *scan.Finding { return shopFinding("escape-x", scan.CategoryEscape, s) }
	for name, c := range map[string]struct {
		was, now           *scan.Finding
		before, after      scan.Verdict
		findings, verdicts int
	}{
		"new":                       {nil, escape("high"), "closed", "closed", 1, 0},
		"new and below":             {nil, escape("medium"), "closed", "closed", 0, 0},
		"new and excepted":          {nil, excepted(escape("critical")), "closed", "exposed", 0, 0},
		"excepted no more":          {excepted(escape("high")), escape("high"), "exposed", "exposed", 1, 0},
		"excepted":                  {escape("high"), excepted(escape("high")), "exposed", "exposed", 0, 0},
		"more severe":               {escape("medium"), escape("critical"), "exposed", "exposed", 1, 0},
		"more severe, bad before":   {escape("high"), escape("critical"), "exposed", "exposed", 0, 0},
		"less severe":               {escape("critical"), escape("low"), "exposed", "guarded", 0, 0},
		"more severe and no longer": {excepted(escape("low")), escape("critical"), "exposed", "exposed", 1, 0},
		"guarded no more":           {escape("high"), escape("high"), "guarded", "exposed", 0, 1},
		"unknown to exposed":        {escape("high"), escape("high"), "unknown", "exposed", 0, 1},
		"not known any more":        {escape("high"), escape("high"), "closed", "unknown", 0, 0},
		"exposed and excepted":      {excepted(escape("high")), excepted(escape("high")), "guarded", "exposed", 0, 0},
		"closed":                    {escape("high"), nil, "exposed", "closed", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(f *scan.Finding, v scan.Verdict) *scan.DiffSide {
				var events []scan.Event
				if f != nil {
					events = append(events, scan.Event{Finding: f})
				}
				return sideOf(ended(append(events, shopVerdict(v)), nil))
			}
			d := scan.Compare(run(c.was, c.before), run(c.now, c.after))
			findings, verdicts := d.AtLeast(scan.SeverityHigh)
			if findings != c.findings || verdicts != c.verdicts {
				t.Errorf("%d findings and %d verdicts, want %d and %d", findings, verdicts, c.findings, c.verdicts)
			}
			if findings, verdicts := d.AtLeast(scan.SeverityNone); findings+verdicts > 0 {
				t.Error("none is reached")
			}
		})
	}
}

// Counts of pods, marks of a watch and another name of the cluster are no change.
func TestDiffOfCountsIsEmpty(t *testing.T) {
	t.Parallel()
	f := *shopFinding("privileged", scan.CategoryPSS, "high")
	f.Pods, f.Recount, f.Workload.Cluster = 9, true, "elsewhere"
	more := shopVerdict(scan.VerdictExposed)
	more.Verdict.Pods, more.Verdict.Recount, more.Verdict.Was = 9, true, scan.VerdictClosed
	d := scan.Compare(sideOf(ended([]scan.Event{{Finding: shopFinding("privileged", scan.CategoryPSS, "high")}, shopVerdict(scan.VerdictExposed)}, nil)),
		sideOf(ended([]scan.Event{{Finding: &f}, more}, func(s *scan.Start, _ *scan.End) { s.Cluster = "elsewhere" })))
	if !d.Empty() || len(d.Differences) != 1 || d.Differences[0] != (scan.Difference{What: "cluster", Old: "prod", New: "elsewhere"}) {
		t.Errorf("empty %v, differences %v", d.Empty(), d.Differences)
	}
}

// What could be read is told by its subject, whatever the message.
func TestDiffOfFailures(t *testing.T) {
	t.Parallel()
	failure := func(subject, namespace, message string) scan.Event {
		return scan.Event{Failure: &scan.Failure{Subject: subject, Namespace: namespace, Message: message}}
	}
	old := ended([]scan.Event{failure("pods", "ci", "one"), failure("pods", "shop", "x"), failure("nodes", "", "x"), failure("probe data of a/b", "", "x")}, nil)
	d := scan.Compare(sideOf(old), sideOf(ended([]scan.Event{failure("pods", "ci", "two"), failure("namespaces", "", "y")},
		func(s *scan.Start, _ *scan.End) { s.Namespaces = []string{"ci"} })))
	got := fmt.Sprint(len(d.Unread), len(d.Readable), len(d.NotKnown.Failures))
	if got != "1 0 3" || d.Unread[0].Subject != "namespaces" {
		t.Errorf("unread, readable, not known: %s", got)
	}
	d = scan.Compare(sideOf(old), sideOf(ended(nil, nil)))
	if got := fmt.Sprint(len(d.Unread), len(d.Readable), len(d.NotKnown.Failures)); got != "0 3 1" {
		t.Errorf("unread, readable, not known: %s", got)
	}
}

// A State gives the same picture as the events it was made of.
func TestDiffSideOfAState(t *testing.T) {
	t.Parallel()
	events := ended(demoEvents(t), nil)
	if d := scan.Compare(sideOf(events), scan.DiffSideOf(folded(events))); !d.Empty() {
		t.Error("they differ")
	}
}

// BenchmarkCompare is of two runs of 10,000 workloads with five findings each, of which
// one in ten changed.
func BenchmarkCompare(b *testing.B) {
	const workloads = 10_000
	run := func(changed int) []scan.Event {
		events := []scan.Event{{Start: &scan.Start{Source: scan.SourceCluster}}}
		for i := range workloads {
			w := scan.Workload{Namespace: fmt.Sprint("ns-", i%50), Kind: "Deployment", Name: fmt.Sprint("app-", i)}
			v := scan.VerdictExposed
			for k := range 5 {
				if i%10 == changed && k == 0 {
					v = scan.VerdictClosed
					continue
				}
				events = append(events, scan.Event{Finding: &scan.Finding{Rule: fmt.Sprint("rule-", k), Category: scan.CategoryEscape, Severity: scan.SeverityHigh, Open: true, Workload: w, Container: "app", Field: "spec.containers[0].securityContext.privileged"}})
			}
			events = append(events, scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: v, Reason: "because"}})
		}
		return append(events, scan.Event{End: &scan.End{Workloads: workloads}})
	}
	old, new := run(3), run(4)
	b.ReportAllocs()
	for b.Loop() {
		if d := scan.Compare(sideOf(old), sideOf(new)); len(d.Opened) != workloads/10 || len(d.Verdicts) != workloads/5 {
			b.Fatal(len(d.Opened), len(d.Verdicts))
		}
	}
}
