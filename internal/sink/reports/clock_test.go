package reports_test

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
	"github.com/escape-scanner/escape-scanner/scan"
)

// shelf is a Store in memory, for tests of time: it counts writes, and fails as it is told.
type shelf struct {
	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
	version int
	writes  int
	// fail is asked before each write.
	fail func(n int, object *unstructured.Unstructured) error
	// lost is what a write ends with although it is made, if not nil.
	lost error
}

func newShelf() *shelf { return &shelf{objects: map[string]*unstructured.Unstructured{}} }

func nameOf(kind schema.GroupVersionKind, namespace, name string) string {
	return kind.String() + " " + namespace + "/" + name
}

func (s *shelf) Serves(_ context.Context, kind schema.GroupVersionKind) (bool, error) {
	return kind.Group == "openreports.io", nil
}

func (s *shelf) List(_ context.Context, kind schema.GroupVersionKind, namespace, _ string, visit func(*unstructured.Unstructured) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.GroupVersionKind() == kind && (namespace == "" || namespace == o.GetNamespace()) {
			if err := visit(o.DeepCopy()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shelf) Get(_ context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[nameOf(kind, namespace, name)]; o != nil {
		return o.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: kind.Kind}, name)
}

func (s *shelf) Create(_ context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return s.write(o, func(before *unstructured.Unstructured) error {
		if before != nil {
			return apierrors.NewAlreadyExists(schema.GroupResource{}, o.GetName())
		}
		return nil
	})
}

func (s *shelf) Update(_ context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return s.write(o, func(before *unstructured.Unstructured) error {
		switch {
		case before == nil:
			return apierrors.NewNotFound(schema.GroupResource{}, o.GetName())
		case before.GetResourceVersion() != o.GetResourceVersion():
			return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), nil)
		}
		return nil
	})
}

func (s *shelf) write(o *unstructured.Unstructured, check func(before *unstructured.Unstructured) error) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fail != nil {
		if err := s.fail(s.writes, o); err != nil {
			return nil, err
		}
	}
	name := nameOf(o.GroupVersionKind(), o.GetNamespace(), o.GetName())
	if err := check(s.objects[name]); err != nil {
		return nil, err
	}
	s.version++
	kept := o.DeepCopy()
	kept.SetUID(types.UID(name))
	kept.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[name] = kept
	if s.lost != nil {
		return nil, s.lost
	}
	return kept.DeepCopy(), nil
}

func (s *shelf) Delete(_ context.Context, o *unstructured.Unstructured) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	delete(s.objects, nameOf(o.GroupVersionKind(), o.GetNamespace(), o.GetName()))
	return s.lost
}

// all are copies of what is kept.
func (s *shelf) all() (all []*unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		all = append(all, o.DeepCopy())
	}
	return all
}

func (s *shelf) counts() (objects, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects), s.writes
}

// pass lets the clock of a bubble run on.
func pass(d time.Duration) { <-time.After(d) }

// inBubble tests with a clock of its own. Goroutines that are left behind fail it.
func inBubble(t *testing.T, o reports.Options, test func(t *testing.T, r *running, s *shelf)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		r := &running{notices: &notices{}}
		o.Store, o.Notify = s, r.notices.take
		r.Sink = reports.New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		test(t, r, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A row that changes a hundred times in five seconds is written once or twice, and the
// last write is right.
func TestChangesAreJoined(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		w := deployment("shop", "web")
		r.tell(t, picture(w)...)
		pass(time.Minute)
		_, before := s.counts()
		for i := range 100 {
			r.tell(t, exposed(w, fmt.Sprintf("reason %d", i), scan.VerdictExposed))
			pass(50 * time.Millisecond)
		}
		pass(time.Minute)
		objects, after := s.counts()
		if before != 1 || objects != 1 || after-before > 2 {
			t.Errorf("%d writes of the first, %d of the changes, %d reports", before, after-before, objects)
		}
		for _, o := range s.all() {
			if !strings.Contains(decode(t, o).Results[0].Description, "reason 99") {
				t.Errorf("%+v", o)
			}
		}
		// What is told again, counts, and what is there and back again are no changes.
		recount := exposed(w, "reason 99 of 7 pods", "")
		recount.Verdict.Recount = true
		r.tell(t, exposed(w, "reason 99", scan.VerdictExposed))
		pass(time.Minute)
		r.tell(t, recount)
		pass(time.Minute)
		r.tell(t, exposed(w, "another", scan.VerdictExposed), exposed(w, "reason 99", scan.VerdictExposed))
		pass(time.Minute)
		if _, now := s.counts(); now != after {
			t.Errorf("%d writes of nothing", now-after)
		}
	})
}

// Nothing is written, nor taken away, before the picture is whole.
func TestNothingBeforeThePicture(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		events := picture(deployment("shop", "web"), deployment("shop", "db"))
		r.tell(t, events[:2]...)
		pass(time.Hour)
		if _, writes := s.counts(); writes != 0 {
			t.Errorf("%d writes", writes)
		}
		r.tell(t, events[2:]...)
		pass(time.Minute)
		if objects, _ := s.counts(); objects != 2 {
			t.Errorf("%d reports", objects)
		}
	})
}

// The first picture of a large cluster is written no faster than it may be.
func TestRate(t *testing.T) {
	inBubble(t, reports.Options{QPS: 10}, func(t *testing.T, r *running, s *shelf) {
		var all []scan.Workload
		for i := range 500 {
			all = append(all, deployment("shop", fmt.Sprint("web-", i)))
		}
		r.tell(t, picture(all...)...)
		pass(20 * time.Second)
		if _, writes := s.counts(); writes < 200 || writes > 215 {
			t.Errorf("%d writes in 20 s, want 10 a second", writes)
		}
		pass(time.Minute)
		if objects, writes := s.counts(); objects != 500 || writes != 500 {
			t.Errorf("%d reports, %d writes", objects, writes)
		}
	})
}

// What etcd calls too large is made smaller until it fits, and nobody is bothered.
func TestTooLarge(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		s.fail = func(_ int, o *unstructured.Unstructured) error {
			if text, err := o.MarshalJSON(); err != nil || len(text) > 40<<10 {
				return apierrors.NewInternalError(fmt.Errorf("etcdserver: request is too large"))
			}
			return nil
		}
		w := deployment("shop", "web")
		events := picture(w)
		r.tell(t, events[0])
		for i := range 300 {
			r.tell(t, scan.Event{Finding: &scan.Finding{Workload: w, Rule: fmt.Sprint("rule-", i), Category: scan.CategoryPSS, Severity: scan.SeverityLow, Field: "spec", Message: strings.Repeat("m", 500)}})
		}
		r.tell(t, events[1:]...)
		pass(time.Minute)
		if objects, _ := s.counts(); objects != 1 || len(r.notices.texts()) > 0 {
			t.Errorf("%d reports, notices %q", objects, r.notices.texts())
		}
	})
}

// A server that is away is asked ever more seldom, by one request at a time, for however
// many reports there are.
func TestBackoff(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		s.fail = func(int, *unstructured.Unstructured) error { return apierrors.NewServiceUnavailable("away") }
		var all []scan.Workload
		for i := range 100 {
			all = append(all, deployment("shop", fmt.Sprint("web-", i)))
		}
		r.tell(t, picture(all...)...)
		pass(30 * time.Minute)
		if _, writes := s.counts(); writes < 5 || writes > 30 {
			t.Errorf("%d attempts in half an hour", writes)
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		pass(10 * time.Minute)
		if objects, _ := s.counts(); objects != 100 {
			t.Errorf("%d reports", objects)
		}
		if texts := r.notices.texts(); len(texts) != 2 || texts[1] != "well" {
			t.Errorf("notices %q", texts)
		}
	})
}

// A write whose answer is lost may have been made: what is there is read before the next,
// so that nothing is left behind or believed to be there.
func TestAnswerLost(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		lose := func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lost = err
		}
		a := deployment("shop", "a")
		lose(io.ErrUnexpectedEOF)
		r.tell(t, picture(a)...)
		pass(time.Second)
		if objects, _ := s.counts(); objects != 1 {
			t.Fatalf("%d reports", objects)
		}
		gone := scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &a}}
		r.tell(t, gone)
		lose(nil)
		pass(10 * time.Minute)
		if objects, _ := s.counts(); objects != 0 {
			t.Errorf("created without an answer: %d reports are left", objects)
		}
		r.tell(t, exposed(a, "privileged", ""))
		pass(time.Minute)
		lose(io.ErrUnexpectedEOF)
		r.tell(t, gone)
		pass(3 * time.Second)
		r.tell(t, exposed(a, "privileged", ""))
		lose(nil)
		pass(10 * time.Minute)
		if objects, _ := s.counts(); objects != 1 {
			t.Errorf("deleted without an answer: %d reports", objects)
		}
		if texts := r.notices.texts(); len(texts) != 4 || texts[1] != "well" || texts[3] != "well" {
			t.Errorf("notices %q", texts)
		}
	})
}

// One report that is refused does not keep the others waiting; causes are told apart.
func TestOneRefused(t *testing.T) {
	inBubble(t, reports.Options{Parallel: 1}, func(t *testing.T, r *running, s *shelf) {
		refused := true
		s.fail = func(_ int, o *unstructured.Unstructured) error {
			switch {
			case refused && o.GetNamespace() == "full":
				return apierrors.NewForbidden(schema.GroupResource{Resource: "reports"}, o.GetName(), fmt.Errorf("exceeded quota: reports"))
			case refused && o.GetNamespace() == "odd":
				return apierrors.NewBadRequest("no")
			}
			return nil
		}
		r.tell(t, picture(deployment("full", "a"), deployment("full", "b"), deployment("odd", "c"), deployment("shop", "d"))...)
		pass(20 * time.Minute)
		if objects, writes := s.counts(); objects != 1 || writes > 50 || len(r.notices.texts()) != 2 {
			t.Errorf("%d reports, %d attempts, notices %q", objects, writes, r.notices.texts())
		}
		s.mu.Lock()
		refused = false
		s.mu.Unlock()
		pass(10 * time.Minute)
		if objects, _ := s.counts(); objects != 4 || len(r.notices.texts()) != 3 {
			t.Errorf("%d reports, notices %q", objects, r.notices.texts())
		}
	})
}

// What others did to our reports is put right when they are read again.
func TestReread(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		w := deployment("shop", "web")
		r.tell(t, picture(w, deployment("shop", "db"))...)
		pass(time.Minute)
		s.mu.Lock()
		for name, o := range s.objects {
			if strings.Contains(name, "-db-") {
				delete(s.objects, name)
				continue
			}
			o.Object["results"] = []any{map[string]any{"policy": "p", "result": "pass", "source": "escape-scanner"}}
			o.SetResourceVersion("x")
		}
		s.mu.Unlock()
		pass(2 * time.Hour)
		if objects, writes := s.counts(); objects != 2 || writes != 4 {
			t.Errorf("%d reports after %d writes", objects, writes)
		}
		for _, o := range s.all() {
			if got := decode(t, o).Results[0].Rule; got != "verdict" {
				t.Errorf("the first result is %q", got)
			}
		}
	})
}

// What could not be read is a report of its own, as long as that holds.
func TestFailures(t *testing.T) {
	inBubble(t, reports.Options{}, func(t *testing.T, r *running, s *shelf) {
		failure := scan.Failure{Subject: "nodes", Reason: scan.FailureForbidden, Message: "list nodes: forbidden", Affects: "what kernels enforce"}
		r.tell(t, scan.Event{Start: &scan.Start{}}, scan.Event{Failure: &failure}, scan.Event{Picture: &scan.End{}})
		pass(time.Minute)
		for _, o := range s.all() {
			report := decode(t, o)
			if report.Namespace != "" || o.GetKind() != "ClusterReport" || report.Summary.Error != 1 || report.Results[0].Result != "error" || report.Results[0].Properties["affects"] != "what kernels enforce" {
				t.Errorf("%+v", report)
			}
		}
		if objects, _ := s.counts(); objects != 1 {
			t.Errorf("%d reports", objects)
		}
		ref := failure.Ref()
		r.tell(t, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &ref}})
		pass(time.Minute)
		if objects, _ := s.counts(); objects != 0 {
			t.Errorf("%d reports", objects)
		}
	})
}

// BenchmarkRestart is what a restart costs that finds ten thousand reports as they should
// be: all are read, built and compared, and none is written.
func BenchmarkRestart(b *testing.B) {
	s := newShelf()
	var all []scan.Workload
	for i := range 10_000 {
		all = append(all, deployment("shop", fmt.Sprint("web-", i)))
	}
	events := picture(all...)
	once := func(done func(objects, writes int) bool) {
		r := reports.New(reports.Options{Store: s, QPS: 1e9, Settle: time.Millisecond, Every: time.Millisecond, Parallel: 1})
		for _, e := range events {
			if err := r.Handle(e); err != nil {
				b.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		// The last in the queue shows that all others were looked at.
		last := exposed(deployment("shop", "web-9999"), fmt.Sprint("at ", time.Now().UnixNano()), scan.VerdictExposed)
		if err := r.Handle(last); err != nil {
			b.Fatal(err)
		}
		for !done(s.counts()) {
			<-time.After(time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	once(func(objects, _ int) bool { return objects == 10_000 })
	_, before := s.counts()
	b.ResetTimer()
	for range b.N {
		want := before + 1
		once(func(_, writes int) bool { return writes >= want })
		if _, before = s.counts(); before != want {
			b.Errorf("%d writes, want one", before-want+1)
		}
	}
}
