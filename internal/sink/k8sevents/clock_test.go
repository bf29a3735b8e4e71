package k8sevents_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/sink/k8sevents"
	"github.com/escape-scanner/escape-scanner/scan"
)

// notebook is a Writer that writes down, for tests of time.
type notebook struct {
	mu       sync.Mutex
	events   []*eventsv1.Event
	repeats  []int32
	lookedUp int
	fail     error
	// unheard has what was written go without an answer.
	unheard error
	expired bool
	uid     types.UID
	noUID   error
}

func (n *notebook) UID(context.Context, *corev1.ObjectReference) (types.UID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookedUp++
	return n.uid, n.noUID
}

func (n *notebook) CreateEvent(_ context.Context, e *eventsv1.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail == nil {
		n.events = append(n.events, e)
		return n.unheard
	}
	return n.fail
}

func (n *notebook) RepeatEvent(_ context.Context, _, name string, series eventsv1.EventSeries) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.expired {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, name)
	}
	n.repeats = append(n.repeats, series.Count)
	return n.unheard
}

func (n *notebook) setFail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// notes are what was written, as "reason: note".
func (n *notebook) notes() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		all = append(all, e.Reason+": "+e.Note)
	}
	return all
}

func (n *notebook) len() int { return len(n.notes()) }

var web = scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}

// pass lets the clock of a bubble run on.
func pass(d time.Duration) { <-time.After(d) }

// inBubble tests with a clock of its own. Goroutines that are left behind fail it.
func inBubble(t *testing.T, o k8sevents.Options, test func(t *testing.T, s *k8sevents.Sink, n *notebook, said *notices)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &notebook{uid: "uid"}
		o.Writer = n
		s, said, stop := run(t, o)
		tell(t, s, begin...)
		test(t, s, n, said)
		stop()
	})
}

func TestManyFindingsAreOneEvent(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		for i := range 8 {
			tell(t, s, finding(web, fmt.Sprintf("r%d", i), scan.SeverityHigh))
		}
		excepted := finding(web, "excepted", scan.SeverityCritical)
		excepted.Finding.Excepted = &scan.Excepted{Reason: "known"}
		recount := finding(web, "recount", scan.SeverityCritical)
		recount.Finding.Recount = true
		tell(t, s, excepted, recount)
		pass(time.Minute)
		if all := n.notes(); len(all) != 1 || strings.Count(all[0], "title of") != 5 || !strings.HasSuffix(all[0], "; and 3 more") {
			t.Errorf("events %q", all)
		}
		// They are known now, until they are gone.
		tell(t, s, finding(web, "r1", scan.SeverityHigh))
		pass(time.Minute)
		if n.len() != 1 {
			t.Errorf("events %q", n.notes())
		}
		f := finding(web, "r1", scan.SeverityHigh).Finding
		ref := f.Ref()
		tell(t, s, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &web, Finding: &ref}}, scan.Event{Finding: f})
		pass(time.Minute)
		if all := n.notes(); len(all) != 2 || !strings.HasSuffix(all[1], "found: high: title of r1 (r1)") {
			t.Errorf("events %q", all)
		}
	})
}

func TestVerdictsThatFlap(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		exposed, closed := verdict(web, scan.VerdictClosed, scan.VerdictExposed, "open"), verdict(web, scan.VerdictExposed, scan.VerdictClosed, "shut")
		// There and back again, at once: nothing to tell.
		tell(t, s, exposed, closed)
		pass(time.Minute)
		if n.len() != 0 {
			t.Errorf("events %q", n.notes())
		}
		// On the way only: where it came from and where it is.
		tell(t, s, verdict(web, scan.VerdictClosed, scan.VerdictUnknown, "?"), verdict(web, scan.VerdictUnknown, scan.VerdictExposed, "open"))
		pass(time.Minute)
		if all := n.notes(); len(all) != 1 || all[0] != "VerdictWorse: was closed, is exposed: open" {
			t.Errorf("events %q", all)
		}
		// Slowly: the same two Events, counted up.
		for range 3 {
			tell(t, s, closed)
			pass(time.Minute)
			tell(t, s, exposed)
			pass(time.Minute)
		}
		if all := n.notes(); len(all) != 2 || !slices.Equal(n.repeats, []int32{2, 2, 3, 3, 4}) {
			t.Errorf("events %q, repeats %v", all, n.repeats)
		}
		if n.lookedUp != 1 {
			t.Errorf("the workload was looked up %d times", n.lookedUp)
		}
		// The API server forgets an Event after its time: it is made anew.
		n.mu.Lock()
		n.expired = true
		n.mu.Unlock()
		tell(t, s, closed)
		pass(time.Minute)
		if n.len() != 3 {
			t.Errorf("events %q", n.notes())
		}
	})
}

// What was written without an answer is counted up like what was answered, and made where
// it turns out not to be there.
func TestAnswersThatAreLost(t *testing.T) {
	for name, wrong := range map[string]error{
		"the connection broke":      io.ErrUnexpectedEOF,
		"the store took too long":   apierrors.NewTimeoutError("etcd", 1),
		"the server could not tell": apierrors.NewInternalError(io.ErrUnexpectedEOF),
		"its time was up":           context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
				unheard := func(err error) {
					n.mu.Lock()
					defer n.mu.Unlock()
					n.unheard = err
				}
				happens := func(count int) {
					tell(t, s, incident(web, "same", count))
					pass(2 * time.Minute)
				}
				unheard(wrong)
				happens(1)
				happens(2)
				unheard(nil)
				happens(3)
				if n.len() != 1 || !slices.Equal(n.repeats, []int32{2, 3}) {
					t.Errorf("events %q, repeats %v: want one, that happened 3 times", n.notes(), n.repeats)
				}
				n.setFail(wrong)
				tell(t, s, incident(web, "not made", 1))
				pass(2 * time.Minute)
				n.setFail(nil)
				n.mu.Lock()
				n.expired = true
				n.mu.Unlock()
				tell(t, s, incident(web, "not made", 2))
				pass(2 * time.Minute)
				if n.len() != 2 || n.events[1].Series.Count != 2 {
					t.Errorf("events %q: what was not made is still missing", n.notes())
				}
			})
		})
	}
}

// A gap of which nobody knows whether it was told is told when it is told of again.
func TestGapWithoutAnAnswer(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		gap := scan.Event{Lost: &scan.Lost{ID: "gap", Reason: scan.LostThrottled, Workload: &web, From: time.Now()}}
		n.setFail(io.ErrUnexpectedEOF)
		tell(t, s, gap)
		pass(2 * time.Minute)
		n.setFail(nil)
		tell(t, s, gap)
		pass(2 * time.Minute)
		if n.len() != 1 {
			t.Errorf("events %q", n.notes())
		}
	})
}

// A new workload has no verdict before, and a recount is no change.
func TestVerdictsThatAreNoChange(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		recount := verdict(web, scan.VerdictClosed, scan.VerdictExposed, "r")
		recount.Verdict.Recount = true
		tell(t, s, verdict(web, "", scan.VerdictExposed, "r"), verdict(web, scan.VerdictExposed, scan.VerdictExposed, "another"), recount)
		pass(time.Minute)
		if n.len() != 0 {
			t.Errorf("events %q", n.notes())
		}
	})
}

// An hour of alerts about one workload is some Events, the last with the right count.
func TestLoudWorkload(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		for i := range 3600 {
			tell(t, s, incident(web, "same", i+1))
			pass(time.Second)
		}
		pass(time.Minute)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.events) != 1 || len(n.repeats) > 3600/10+10 || n.repeats[len(n.repeats)-1] != 3600 {
			t.Errorf("%d events, %d repeats, the last %d", len(n.events), len(n.repeats), n.repeats[len(n.repeats)-1])
		}
	})
}

// What is severe is not drowned by what is not, nor one workload by another.
func TestTheWorstAreKept(t *testing.T) {
	inBubble(t, k8sevents.Options{Most: 50, MostEach: 5}, func(t *testing.T, s *k8sevents.Sink, n *notebook, said *notices) {
		n.setFail(apierrors.NewServiceUnavailable("away"))
		tell(t, s, incident(web, "first", 1))
		synctest.Wait()
		for i := range 200 {
			a := incident(scan.Workload{Namespace: "shop", Kind: "Deployment", Name: fmt.Sprint("w", i%20)}, fmt.Sprint(i), 1)
			a.Alert.Severity = scan.SeverityLow
			tell(t, s, a)
		}
		worst := incident(web, "worst", 1)
		worst.Alert.Severity, worst.Alert.Reason = scan.SeverityCritical, "the worst"
		tell(t, s, worst)
		n.setFail(nil)
		pass(time.Hour)
		all := n.notes()
		if len(all) != 50 || !strings.Contains(all[0], "the worst") {
			t.Errorf("%d events, the first %q", len(all), all[0])
		}
		// The first failed, and was told as trouble and as left out.
		if said.dropped() != 202-50 {
			t.Errorf("%d left out, want %d", said.dropped(), 202-50)
		}
		if last := said.last(); last.Err != nil {
			t.Errorf("the last notice is %v, want the end of trouble", last.Err)
		}
	})
}

// Without the right to Events there is one notice, and few attempts.
func TestForbiddenEvents(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, said *notices) {
		n.setFail(apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", nil))
		for i := range 600 {
			tell(t, s, incident(scan.Workload{Namespace: "shop", Kind: "Deployment", Name: fmt.Sprint("w", i)}, fmt.Sprint(i), 1))
			pass(time.Second)
		}
		forbidden := slices.DeleteFunc(said.errors(), func(s string) bool { return !strings.Contains(s, "forbidden") })
		if len(forbidden) != 1 {
			t.Errorf("notices %q", said.errors())
		}
		if n.lookedUp > 20 {
			t.Errorf("%d attempts in ten minutes", n.lookedUp)
		}
	})
}

// An Event of a pod that is gone does not stand for one that has its name.
func TestSameNameIsNotSameObject(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, _ *notices) {
		pod := scan.Workload{Namespace: "shop", Kind: "Pod", Name: "db-0"}
		for _, uid := range []types.UID{"first", "second"} {
			n.mu.Lock()
			n.uid = uid
			n.mu.Unlock()
			tell(t, s, finding(pod, "r", scan.SeverityHigh))
			pass(time.Minute)
			tell(t, s, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &pod}})
		}
		if len(n.repeats) > 0 || len(n.events) != 2 || n.events[1].Regarding.UID != "second" {
			t.Errorf("%d events, repeats %v: want one on each pod", len(n.events), n.repeats)
		}
	})
}

// Without the right to UIDs Events are told, but where nobody looks for them: that is said
// once, and when it is over.
func TestForbiddenUIDs(t *testing.T) {
	inBubble(t, k8sevents.Options{}, func(t *testing.T, s *k8sevents.Sink, n *notebook, said *notices) {
		set := func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.noUID = err
		}
		set(apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "web", nil))
		for i := range 3 {
			tell(t, s, finding(web, fmt.Sprint(i), scan.SeverityHigh))
			pass(2 * time.Minute)
		}
		if e := said.errors(); n.len() != 3 || len(e) != 1 || !strings.Contains(e[0], "forbidden") || !strings.Contains(e[0], "Deployment") {
			t.Errorf("%d events, notices %q", n.len(), e)
		}
		set(nil)
		tell(t, s, finding(web, "after", scan.SeverityHigh))
		pass(2 * time.Minute)
		if last := said.last(); last.Err != nil {
			t.Errorf("its end is not told: %v", last)
		}
	})
}
