package alerts_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sink holds what a folder told: the latest of each ID, as scan.State does.
type sink struct {
	alerts map[string]*scan.Alert
	lost   map[string]*scan.Lost
	order  []string
	tells  int
}

func newSink() *sink { return &sink{alerts: map[string]*scan.Alert{}, lost: map[string]*scan.Lost{}} }

func (s *sink) emit(e scan.Event) error {
	s.tells++
	switch {
	case e.Alert != nil:
		if s.alerts[e.Alert.ID] == nil {
			s.order = append(s.order, e.Alert.ID)
		}
		s.alerts[e.Alert.ID] = e.Alert
	case e.Lost != nil:
		if s.lost[e.Lost.ID] == nil {
			s.order = append(s.order, e.Lost.ID)
		}
		s.lost[e.Lost.ID] = e.Lost
	}
	return nil
}

// told is how many alerts the sink was told of.
func (s *sink) told() (n uint64) {
	for _, a := range s.alerts {
		n += uint64(a.Count)
	}
	return n
}

func (s *sink) missing() (n uint64) {
	for _, l := range s.lost {
		n += uint64(l.Alerts)
	}
	return n
}

// sums checks the counts against each other and against what was told.
func sums(tb testing.TB, f *alerts.Folder, s *sink) alerts.Counts {
	tb.Helper()
	c := f.Counts()
	if c.Raised != c.Told+c.Waiting+c.Dropped {
		tb.Errorf("%d raised are not %d told, %d waiting and %d dropped", c.Raised, c.Told, c.Waiting, c.Dropped)
	}
	if s != nil && s.told() != c.Told {
		tb.Errorf("%d alerts were told of, %d counted", s.told(), c.Told)
	}
	return c
}

func only(tb testing.TB, s *sink) *scan.Alert {
	tb.Helper()
	if len(s.alerts) != 1 {
		tb.Fatalf("%d folds were told", len(s.alerts))
	}
	for _, a := range s.alerts {
		return a
	}
	return nil
}

func at(a armor.Alert, t time.Time) armor.Alert {
	a.Time = t
	return a
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestRepeatsAreFolded(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	f, s := alerts.NewFolder(alerts.Options{}), newSink()
	a := asks("SYS_ADMIN", "/usr/bin/find", "/usr/bin/dash")
	a.Pod = "plain-66ff6989d4-vgdqc"
	for i := range 341 {
		f.Add(at(a, noon.Add(time.Duration(i)*time.Millisecond)), noon)
	}
	must(t, f.Flush(noon, w.place, s.emit))
	got := only(t, s)
	if got.Count != 341 || !got.First.Equal(noon) || !got.Last.Equal(noon.Add(340*time.Millisecond)) || got.Incident || got.Severity != scan.SeverityLow {
		t.Errorf("got %+v", got)
	}
	if got.Workload.String() != "shop/Deployment/plain" || got.Verdict != scan.VerdictClosed {
		t.Errorf("in %s, which is %s", got.Workload, got.Verdict)
	}
	// Within the window nothing is told again, after it the new count under the same ID.
	f.Add(at(a, noon.Add(time.Second)), noon.Add(time.Second))
	must(t, f.Flush(noon.Add(9*time.Second), w.place, s.emit))
	if s.tells != 1 {
		t.Errorf("told %d times", s.tells)
	}
	must(t, f.Flush(noon.Add(10*time.Second), w.place, s.emit))
	if got := only(t, s); got.Count != 342 || s.tells != 2 {
		t.Errorf("%d alerts, told %d times", got.Count, s.tells)
	}
	// What is closed is closed: the same deed later is another fold.
	must(t, f.Flush(noon.Add(10*time.Minute), w.place, s.emit))
	f.Add(at(a, noon.Add(11*time.Minute)), noon.Add(11*time.Minute))
	must(t, f.Close(noon.Add(11*time.Minute), w.place, s.emit))
	if len(s.alerts) != 2 || s.tells != 3 {
		t.Errorf("%d folds, told %d times", len(s.alerts), s.tells)
	}
	if c := sums(t, f, s); c.Raised != 343 || c.Folded != 341 || c.Folds != 0 || c.Waiting != 0 {
		t.Errorf("counts %+v", c)
	}
}

// What differs in a way that matters is told apart.
func TestWhatIsNotFolded(t *testing.T) {
	t.Parallel()
	base := asks("SYS_ADMIN", "/bin/busybox", "")
	for _, test := range []struct {
		name  string
		other func(a *armor.Alert)
		folds int
	}{
		{"the same", func(*armor.Alert) {}, 1},
		{"another command line of a program", func(a *armor.Alert) { a.Operation, a.Process, a.Resource = "Process", "/usr/bin/curl", "curl x" }, 2},
		{"another node", func(a *armor.Alert) { a.Node = "node2" }, 2},
		{"another pod", func(a *armor.Alert) { a.Pod = "q" }, 2},
		{"another container", func(a *armor.Alert) { a.Container = "other" }, 2},
		{"another policy", func(a *armor.Alert) { a.Policy = "other" }, 2},
		{"another capability", func(a *armor.Alert) { a.Resource = "CAP_SYS_MODULE" }, 2},
		{"another program", func(a *armor.Alert) { a.Process = "/bin/cat" }, 2},
		{"not stopped", func(a *armor.Alert) { a.Result = "Passed" }, 2},
		{"a parent inside, which the runtime's own never has", func(a *armor.Alert) { a.Parent = "/bin/sh" }, 2},
		{"another name of a BusyBox", func(a *armor.Alert) { a.Command = "nsenter" }, 2},
	} {
		f, s := alerts.NewFolder(alerts.Options{}), newSink()
		a, b := base, base
		test.other(&b)
		f.Add(a, noon)
		f.Add(b, noon)
		must(t, f.Close(noon, nil, s.emit))
		if len(s.alerts) != test.folds {
			t.Errorf("%s: %d folds, want %d", test.name, len(s.alerts), test.folds)
		}
	}
	// What the caller likes to write on a command line makes no difference.
	f, s := alerts.NewFolder(alerts.Options{}), newSink()
	for i := range 50 {
		f.Add(runs("/usr/bin/curl", fmt.Sprintf("/usr/bin/curl http://x/%d", i)), noon)
	}
	must(t, f.Close(noon, nil, s.emit))
	if got := only(t, s); got.Count != 50 {
		t.Errorf("%d alerts", got.Count)
	}
}

// A container that raises what is always new is bounded, and nothing bad hides in it.
func TestVarietyOfOneContainer(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	f, s := alerts.NewFolder(alerts.Options{PerContainer: 20}), newSink()
	add := func(a armor.Alert) {
		a.Pod = "plain-66ff6989d4-vgdqc"
		f.Add(a, noon)
	}
	for i := range 5000 {
		add(opens(fmt.Sprintf("/usr/bin/p%d", i), fmt.Sprintf("/srv/%d", i)))
	}
	add(runs("/usr/sbin/chroot", "chroot /host"))
	add(passed(opens("/usr/bin/dash", "/proc/sys/kernel/core_pattern")))
	add(asks("SYS_ADMIN", "/usr/bin/nsenter", "/bin/sh"))
	add(asks("SYS_ADMIN", "/usr/bin/find", "/bin/sh"))
	if c := f.Counts(); c.Folds > 30 {
		t.Errorf("%d folds", c.Folds)
	}
	must(t, f.Close(noon, w.place, s.emit))
	incidents := map[scan.AlertClass]int{}
	for _, a := range s.alerts {
		if a.Incident {
			incidents[a.Class]++
		}
	}
	if incidents[scan.ClassChroot] != 1 || incidents[scan.ClassEscape] != 1 || incidents[scan.ClassCapability] != 1 {
		t.Errorf("incidents %v", incidents)
	}
	if c := sums(t, f, s); c.Told != 5004 {
		t.Errorf("%d alerts told", c.Told)
	}
}

// Nor does a file of the host hide among files of the container: what is joined is
// weighed as the worst that it may be.
func TestVarietyHidesNoFileOfTheHost(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	f, s := alerts.NewFolder(alerts.Options{PerContainer: 20}), newSink()
	for i := range 100 {
		a := in(opens("/usr/bin/dash", fmt.Sprintf("/srv/%d", i)), "c")
		a.Pod = "hostroot"
		f.Add(a, noon)
	}
	a := in(opens("/usr/bin/dash", "/host/root/pwn"), "c")
	a.Pod = "hostroot"
	f.Add(a, noon)
	must(t, f.Close(noon, w.place, s.emit))
	incidents := 0
	for _, a := range s.alerts {
		if a.Incident {
			incidents++
			if a.Count != 81 || !strings.Contains(a.Reason, "counted with it") {
				t.Errorf("got %+v", a)
			}
		}
	}
	if incidents != 1 {
		t.Errorf("%d incidents", incidents)
	}
	sums(t, f, s)
}

// Whoever varies every field has bounded memory, and what cannot be told is told as a gap.
func TestVarietyOfEveryField(t *testing.T) {
	t.Parallel()
	const most, all = 100, 5000
	f, s := alerts.NewFolder(alerts.Options{Most: most}), newSink()
	long := strings.Repeat("é", 1<<11)
	for i := range all {
		a := asks("SYS_ADMIN", fmt.Sprintf("/usr/bin/%d%s", i, long), long)
		a.Pod, a.Container, a.Node = fmt.Sprint(i, long), long, long
		f.Add(a, noon)
		if c := sums(t, f, nil); c.Folds > most {
			t.Fatalf("%d folds", c.Folds)
		}
	}
	must(t, f.Close(noon, nil, s.emit))
	c := sums(t, f, s)
	if c.Dropped != all-2*most || s.missing() != c.Dropped || c.Told != 2*most {
		t.Errorf("counts %+v, and %d missing in gaps", c, s.missing())
	}
	for _, a := range s.alerts {
		for _, text := range []string{a.Reason, a.Pod, a.Container, a.Node, a.Process, a.Resource, a.Parent, a.Workload.Name} {
			if len(text) > 1000 {
				t.Fatalf("a text of %d bytes", len(text))
			}
		}
	}
}

func TestTimesThatAreNone(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]time.Time{"none": {}, "1970": time.Unix(0, 0), "a node without a battery": time.Unix(3600, 0), "the far future": noon.AddDate(40, 0, 0)} {
		f, s := alerts.NewFolder(alerts.Options{}), newSink()
		f.Add(at(runs("/usr/bin/curl", ""), when), noon)
		must(t, f.Close(noon, nil, s.emit))
		if got := only(t, s); !got.First.Equal(noon) || !got.Last.Equal(noon) {
			t.Errorf("%s: from %s to %s", name, got.First, got.Last)
		}
	}
	// A clock that is a little fast is taken at its word, and so is a recording of last year.
	for _, when := range []time.Time{noon.Add(time.Minute), noon.AddDate(-1, 0, 0)} {
		f, s := alerts.NewFolder(alerts.Options{}), newSink()
		f.Add(at(runs("/usr/bin/curl", ""), when), noon)
		must(t, f.Close(noon, nil, s.emit))
		if got := only(t, s); !got.First.Equal(when) {
			t.Errorf("first %s, want %s", got.First, when)
		}
	}
}

// The verdict is that of the time of telling.
func TestLaterTellingsKnowMore(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	f, s := alerts.NewFolder(alerts.Options{Cluster: "c1"}), newSink()
	a := asks("SYS_ADMIN", "/usr/bin/find", "/usr/bin/dash")
	a.Pod, a.OwnerKind, a.OwnerName = "caps-6f8dc5c6db-8bq25", "Deployment", "caps"
	f.Add(a, noon)
	nowhere := func(string, string) (scan.Place, bool) { return scan.Place{}, false }
	must(t, f.Flush(noon, nowhere, s.emit))
	if got := only(t, s); got.Incident || got.Severity != scan.SeverityMedium || got.Verdict != "" || got.Workload != (scan.Workload{Cluster: "c1", Namespace: "shop", Kind: "Deployment", Name: "caps"}) {
		t.Errorf("got %+v", got)
	}
	// Once the pod is known it is told again, though nothing else is new.
	must(t, f.Flush(noon.Add(5*time.Second), w.place, s.emit))
	if s.tells != 1 {
		t.Errorf("told %d times", s.tells)
	}
	must(t, f.Flush(noon.Add(10*time.Second), w.place, s.emit))
	if got := only(t, s); !got.Incident || got.Verdict != scan.VerdictGuarded || got.Count != 1 {
		t.Errorf("got %+v", got)
	}
	must(t, f.Flush(noon.Add(20*time.Second), w.place, s.emit))
	if s.tells != 2 {
		t.Errorf("told %d times", s.tells)
	}
	f.Add(a, noon.Add(21*time.Second))
	exposed := func(ns, pod string) (scan.Place, bool) {
		p, ok := w.place(ns, pod)
		v := *p.Verdict
		v.Verdict = scan.VerdictExposed
		p.Verdict = &v
		return p, ok
	}
	must(t, f.Flush(noon.Add(21*time.Second), exposed, s.emit))
	if got := only(t, s); got.Verdict != scan.VerdictExposed || got.Count != 2 {
		t.Errorf("got %+v", got)
	}
	sums(t, f, s)
}

// What could not be told is told the next time.
func TestAnErrorOfTheSinkLosesNothing(t *testing.T) {
	t.Parallel()
	f, s := alerts.NewFolder(alerts.Options{Most: 3}), newSink()
	full := errors.New("full")
	n := 0
	failing := func(e scan.Event) error {
		if n++; n%2 == 0 {
			return full
		}
		return s.emit(e)
	}
	failed := 0
	for i := range 40 {
		f.Add(runs(fmt.Sprintf("/usr/bin/p%d", i%7), ""), noon.Add(time.Duration(i)*time.Second))
		f.Lost(scan.Lost{Reason: scan.LostDeaf, From: noon.Add(time.Duration(i) * time.Second), To: noon.Add(time.Duration(i+1) * time.Second)})
		if err := f.Flush(noon.Add(time.Duration(i)*time.Second), nil, failing); err != nil {
			if !errors.Is(err, full) {
				t.Fatal(err)
			}
			failed++
		}
		sums(t, f, nil)
	}
	must(t, f.Close(noon.Add(time.Hour), nil, s.emit))
	if c := sums(t, f, s); failed == 0 || c.Raised != 40 || c.Waiting != 0 || s.missing() != c.Dropped || len(s.lost) < 40 {
		t.Errorf("%d failures, counts %+v, %d gaps", failed, c, len(s.lost))
	}
}

// A recording of long ago is folded as if it were now.
func TestOldRecordingsAreFolded(t *testing.T) {
	t.Parallel()
	f, s := alerts.NewFolder(alerts.Options{}), newSink()
	then := noon.AddDate(-1, 0, 0)
	for i := range 10 {
		f.Add(at(runs("/usr/bin/curl", ""), then), then)
		must(t, f.Flush(noon.Add(time.Duration(i)*time.Minute), nil, s.emit))
	}
	if got := only(t, s); got.Count != 10 || !got.First.Equal(then) {
		t.Errorf("got %+v", got)
	}
}

// A replay tells the same, IDs and all.
func TestReplaysAreTheSame(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	all := read(t, "block-nothrottle")
	var runs [2]string
	for i := range runs {
		f := alerts.NewFolder(alerts.Options{})
		var told strings.Builder
		emit := func(e scan.Event) error {
			fmt.Fprintf(&told, "%+v\n", *e.Alert)
			return nil
		}
		for k, a := range all {
			f.Add(a.Alert, a.received)
			if k%10 == 0 {
				must(t, f.Flush(a.received, w.place, emit))
			}
		}
		must(t, f.Close(noon, w.place, emit))
		runs[i] = told.String()
	}
	if runs[0] != runs[1] || runs[0] == "" {
		t.Error("two replays differ")
	}
}

// Streams add while the loop flushes: the counts hold at every moment.
func TestAddBesideFlush(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 5000
	f, s := alerts.NewFolder(alerts.Options{Most: 50}), newSink()
	var group sync.WaitGroup
	for n := range writers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			for i := range each {
				a := runs(fmt.Sprintf("/usr/bin/p%d", random.IntN(30)), "")
				a.Pod = fmt.Sprint(random.IntN(8))
				f.Add(a, noon.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		group.Wait()
	}()
	for now := noon; ; now = now.Add(200 * time.Millisecond) {
		must(t, f.Flush(now, nil, s.emit))
		sums(t, f, nil)
		select {
		case <-done:
			must(t, f.Close(now, nil, s.emit))
			if c := sums(t, f, s); c.Raised != writers*each || c.Waiting != 0 || s.missing() != c.Dropped {
				t.Errorf("counts %+v, %d missing in gaps", c, s.missing())
			}
			return
		default:
		}
	}
}

// What was an incident when it was done is one, whatever becomes of the workload; what
// was one only because nothing was known of its pod is judged anew.
func TestIncidentsStay(t *testing.T) {
	t.Parallel()
	open := scan.Place{
		Workload: scan.Workload{Namespace: "shop", Kind: "Pod", Name: "p"},
		Verdict:  &scan.WorkloadVerdict{Verdict: scan.VerdictExposed, Paths: []string{"escape-cap-sys-admin"}},
	}
	shut := open
	shut.Verdict = &scan.WorkloadVerdict{Verdict: scan.VerdictClosed}
	a := asks("SYS_ADMIN", "/usr/bin/find", "/usr/bin/dash")
	a.Namespace, a.Pod, a.Container = "shop", "p", "web"
	where := func(p *scan.Place) alerts.Places {
		return func(string, string) (scan.Place, bool) {
			if p == nil {
				return scan.Place{}, false
			}
			return *p, true
		}
	}
	for name, test := range map[string]struct {
		first, later *scan.Place
		program      string
		verdict      scan.Verdict
	}{
		"closed later":  {&open, &shut, "/usr/bin/find", scan.VerdictExposed},
		"gone later":    {&open, nil, "/usr/bin/find", scan.VerdictExposed},
		"exposed later": {&shut, &open, "/usr/bin/find", scan.VerdictExposed},
		"known later":   {nil, &shut, "/tmp/find", scan.VerdictClosed},
	} {
		f, s := alerts.NewFolder(alerts.Options{}), newSink()
		a.Process = test.program
		f.Add(at(a, noon), noon)
		must(t, f.Flush(noon, where(test.first), s.emit))
		f.Add(at(a, noon.Add(time.Minute)), noon.Add(time.Minute))
		must(t, f.Close(noon.Add(time.Minute), where(test.later), s.emit))
		got := only(t, s)
		if !got.Incident || got.Count != 2 || got.Verdict != test.verdict || got.Workload != open.Workload {
			t.Errorf("%s: told as %+v", name, got)
		}
	}
}
