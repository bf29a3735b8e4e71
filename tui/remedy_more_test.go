package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/scan"
)

func TestRemedyCopies(t *testing.T) {
	t.Parallel()
	var copied []string
	f := &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return refusedPlan(), nil }}
	s := newStage(t, 80, 24, eventsOf(t, layersRun), func(o *Options) {
		o.Remedy = f
		o.Copy = func(_ context.Context, _ io.Writer, text string) error {
			copied = append(copied, text)
			return nil
		}
	})
	for _, c := range []struct {
		keys []string
		want []string
	}{
		{[]string{"6", "right", "y"}, []string{"escape-scanner remediate plan -A --level restricted --action block"}},
		{[]string{"p", "y"}, []string{"+ create", "KubeArmorPolicy shop/escape-to-host-tools", "shop/Deployment/cart has curl", "+   action: Audit"}},
		{[]string{"Y"}, []string{"kind: KubeArmorPolicy\n", "  action: Audit\n"}},
		{[]string{"G", "Y"}, []string{"ask who runs the webhook"}},
		{[]string{"y"}, []string{"! BLOCKED", "by admission: admission webhook", "mend: ask who runs the webhook"}},
		{[]string{"b", "down", "down", "down", "down", "down", "down", "down", "down", "down", "Y"}, []string{"use an httpGet probe\nkubectl debug still works"}},
		{[]string{"y"}, []string{"shop/Deployment/cart", "3 pods, accepted", "accepted: exception", "mend  use an httpGet probe"}},
		{[]string{"s", "y"}, []string{"escape-scanner remediate apply -A \\x1b[2J"}},
		{[]string{"a", "y"}, []string{"Not applied\n", "three ways on"}},
	} {
		copied = nil
		for _, k := range c.keys {
			s.press(k)
			s.text()
		}
		if len(copied) != 1 {
			t.Fatalf("%v: %d copies:\n%s", c.keys, len(copied), s.text())
		}
		for _, want := range c.want {
			if !strings.Contains(copied[0], want) {
				t.Errorf("%v: %q is not in\n%s", c.keys, want, copied[0])
			}
		}
		if strings.ContainsAny(copied[0], "\x1b\x07\u202e▸▾") {
			t.Errorf("%v: not clean: %q", c.keys, copied[0])
		}
	}
	s.press("esc", "d", "g", "y")
	s.wants("nothing here to copy")
}

func TestRemedyExports(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 80, 24, &fakeRemedy{})
	if part, note := s.remedy().selection(s.desk); note != "" || len(part.Rows) != len(s.desk.snap.Rows) {
		t.Errorf("%d rows, %q", len(part.Rows), note)
	}
	s.press("down", "down", "down", " ", "down", " ")
	part, note := s.remedy().selection(s.desk)
	if note != "namespaces batch" || len(part.Rows) == 0 || slices.ContainsFunc(part.Rows, func(r *Row) bool { return r.Ref.Workload.Namespace != "batch" }) {
		t.Errorf("%d rows, %q", len(part.Rows), note)
	}
}

func TestRemedyNone(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 80, 24, nil)
	for _, k := range []string{"p", "r", "a", "d", "b", "s", "x", "esc"} {
		s.press(k)
		s.wantStage(remedyForm)
	}
	s.wants("Nothing can be changed here: there is no cluster here", "escape-scanner remediate plan -A --level baseline --action block")
	s.press("p")
	s.wants("Nothing can be changed here")
	s.press("right", "down", "right")
	s.wants("escape-scanner remediate plan -A --level restricted --action audit", "KubeArmor audits none")
}

// The view is there at any state of the run.
func TestRemedyAnyRun(t *testing.T) {
	t.Parallel()
	reading := newStage(t, 80, 24, nil, func(o *Options) {
		o.Remedy, o.Feed = &fakeRemedy{}, NewFeed(func() time.Time { return testTime })
		for _, e := range eventsOf(t, layersRun)[:3] {
			_ = o.Feed.Handle(e)
		}
	})
	reading.press("6", "p")
	reading.wantStage(remedyPlanned)
	reading.press("esc", "down", "down", "down", " ")
	reading.text()
	broken := newStage(t, 80, 24, nil, func(o *Options) {
		o.Remedy, o.Feed = &fakeRemedy{}, NewFeed(func() time.Time { return testTime })
		o.Feed.Close(errors.New("the stream ended: " + nasty))
	})
	broken.press("6", "p", "a", "prod-eu")
	broken.wantHarmless()
	broken.wants("Type prod-eu")
}

func TestRemedyHostileNamespaces(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := newStage(t, 40, 12, nil, func(o *Options) { o.Remedy = f })
	verdict := scan.WorkloadVerdict{Workload: scan.Workload{Namespace: nasty, Kind: "Pod", Name: "x"}, Verdict: scan.VerdictExposed}
	s.feed(eventsOf(t, layersRun)[0], scan.Event{Verdict: &verdict})
	s.press("6", "down", "down", "down", " ", "down", " ")
	s.wantHarmless()
	s.press("p")
	s.wantHarmless()
	if f.asks[0].Namespaces[0] != nasty {
		t.Errorf("asked for %q", f.asks[0].Namespaces)
	}
}

// A difference of very many and very long lines is drawn by what is seen of it.
func TestRemedyLongDiff(t *testing.T) {
	t.Parallel()
	big := plainPlan()
	values := map[string]any{"long": strings.Repeat("size(object.spec.containers) ", 200), "evil": nasty}
	for i := range 5_000 {
		values[fmt.Sprintf("key-%04d", i)] = "value"
	}
	big.View.Plan.Changes[0].After.Object["spec"] = values
	s := remedyStageOf(t, 80, 24, &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return big, nil }})
	s.press("p", "enter", "pgdown")
	s.wants("key-000")
	s.press("end", "pgup")
	s.wantHarmless()
	if n := len(s.remedy().plan.changes.lines); n < 5_000 {
		t.Errorf("%d lines", n)
	}
	began := time.Now()
	for range 50 {
		s.press("up")
		s.View()
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("50 keys took %s", took)
	}
	s.send(tea.WindowSizeMsg{Width: 40, Height: 12})
	s.wantHarmless()
	s.text()
}

func TestRemedyManyWorkloads(t *testing.T) {
	t.Parallel()
	many := plainPlan()
	many.View.Preview = manyWorkloads(300)
	many.View.Preview.Counts[preview.Safe] = 75
	s := remedyStageOf(t, 80, 24, &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return many, nil }})
	s.press("p", "b")
	s.wants("75 breaks, 75 may break, 75 not covered, 75 safe", "BREAKS  75 workloads")
	s.press("enter")
	s.wants("why   its command does", "mend  use a library")
	s.press("end")
	s.wants("team-4/Deployment/service-074")
	s.press("enter")
	s.wants("safe        curl: calls curl")
}

// What breaks can be accepted where it is seen. The plan is made anew, and says so; other
// choices begin with nothing accepted.
func TestRemedyTolerate(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{plan: func(_ context.Context, ask RemedyAsk) (*RemedyPlan, error) {
		p := plainPlan()
		p.Refused = "1 workload would break"
		for i := range p.View.Preview.Workloads {
			w := &p.View.Preview.Workloads[i]
			if w.Accepted = ""; slices.Contains(ask.Accept, w.Workload.String()) {
				w.Accepted, p.Refused = "--accept", ""
			}
		}
		return p, nil
	}}
	s := remedyStageOf(t, 120, 40, f)
	s.press("p", "t")
	if asked, _, _ := f.state(); asked != 1 {
		t.Errorf("something was accepted that was not seen: %d plans", asked)
	}
	s.press("b")
	s.click("shop/Deployment/api")
	s.press("t")
	s.wants("nothing has to be accepted")
	s.click("shop/Deployment/cart")
	s.press("t")
	v, _ := s.screens[viewRemediate].(*remedyView)
	if got := f.asks[len(f.asks)-1].Accept; !slices.Equal(got, []string{"shop/Deployment/cart"}) || v.plan.Refused != "" || v.plan.pane != paneBreaks {
		t.Fatalf("accepted %q, refused %q, pane %d", got, v.plan.Refused, v.plan.pane)
	}
	if at, _ := v.plan.breaks.where(); at < 0 || v.plan.broken[at] == nil || v.plan.broken[at].Workload.Name != "cart" {
		t.Error("the cursor has left the workload")
	}
	s.wants("accepted")
	s.press("t")
	if got := f.asks[len(f.asks)-1].Accept; len(got) != 0 || v.plan.Refused == "" {
		t.Errorf("accepted no more: %q, refused %q", got, v.plan.Refused)
	}
	s.press("t", "esc", "g", " ", "p")
	if got := f.asks[len(f.asks)-1].Accept; len(got) != 0 {
		t.Errorf("after another choice %q is accepted", got)
	}
}
