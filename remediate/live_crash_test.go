package remediate_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// Whatever the write at which an apply or a rollback ends, and however it ends there,
// status tells the truth, and both an apply and a rollback finish the job.
func TestEveryWriteMayBeTheLast(t *testing.T) {
	for _, test := range []struct {
		when moment
		// bytes go into one ConfigMap of the record; 0 has it be one.
		bytes int
	}{{refused, 0}, {diesAfter, 2500}} {
		t.Run(fmt.Sprintf("%s/%d", test.when, test.bytes), func(t *testing.T) {
			w := newWorld(t)
			w.opts = remediate.WithRecordLimit(w.opts, test.bytes)
			w.inTheWay()
			c := &crash{world: w, when: test.when, set: w.whole()}
			c.learn(test.bytes > 0)
			c.everywhere("apply", c.set, func() {})
			c.everywhere("rollback", nil, func() { w.must(c.set) })
		})
	}
}

// An apply of another set over the first one may end anywhere too: at any time the
// record tells how to get back.
func TestEveryWriteOfAnotherSetMayBeTheLast(t *testing.T) {
	w := newWorld(t)
	w.opts = remediate.WithRecordLimit(w.opts, 2500)
	w.inTheWay()
	before := w.dump()
	first := w.whole()
	second := w.setOf(w.tools(w.one), w.labelled(w.two), w.binding(), w.policy(), w.chroot(w.two), w.capabilities(w.two))
	for at, more := 1, true; more && !t.Failed(); at++ {
		for _, finish := range []*set.Set{[]*set.Set{first, second}[at%2], nil} {
			w.must(first)
			m := &mortal{Cluster: w.writer, at: at, when: diesAfter}
			_, err := w.run(m, second)
			if more = m.writes >= at; more != (err != nil) {
				t.Errorf("%d writes: %v", m.writes, err)
			}
			for _, o := range w.status().Objects {
				if o.State == remediate.StateDrifted || o.State == remediate.StateUnreadable {
					t.Errorf("at write %d: %s is %s: %v", at, o.Object, o.State, o.Diff)
				}
			}
			if finish != nil {
				w.must(finish)
				if counts := states(w.status()); counts[remediate.StateInPlace] != len(finish.Objects) || len(counts) != 1 {
					t.Errorf("at write %d: %v", at, counts)
				}
			}
			w.must(nil)
			w.wantDump(before)
		}
	}
}

// crash has an apply or a rollback end at each of its writes.
type crash struct {
	*world
	when moment
	set  *set.Set
	// before are the objects with all that is theirs, the others what is in them before,
	// when all audits and when all enforces.
	before                     map[string]string
	nothing, auditing, inForce map[string]string
}

// learn sees what each object is like in each form.
func (c *crash) learn(parts bool) {
	c.Helper()
	c.before, c.nothing = c.dump(), c.contents()
	opts := c.opts
	c.opts.Stages = []remediate.Stage{remediate.StageAudit}
	c.must(c.set)
	c.auditing = c.contents()
	c.opts = opts
	c.must(c.set)
	c.inForce = c.contents()
	records := 0
	for name := range c.inForce {
		if _, ok := c.nothing[name]; !ok && name[:len("ConfigMap")] == "ConfigMap" {
			records++
		}
	}
	if (records > 1) != parts {
		c.Fatalf("the record takes %d ConfigMaps", records)
	}
	c.must(nil)
	c.wantDump(c.before)
}

// everywhere ends what s asks for at each write, and finishes it in both ways.
func (c *crash) everywhere(what string, s *set.Set, first func()) {
	c.Helper()
	total := 0
	for at := 1; !c.Failed(); at++ {
		finishes := []string{"apply", "rollback"}
		if c.when == refused {
			finishes = finishes[at%2:][:1]
		}
		for _, finish := range finishes {
			first()
			m := &mortal{Cluster: c.writer, at: at, when: c.when}
			result, err := c.run(m, s)
			if m.writes < at {
				if err != nil {
					c.Errorf("%s: %v", what, err)
				}
				c.must(nil)
				c.wantDump(c.before)
				if total = at - 1; total < 10 {
					c.Errorf("%s: only %d writes", what, total)
				}
				return
			}
			where := fmt.Sprintf("%s, %s at write %d, then %s", what, c.when, at, finish)
			if err == nil && c.when != refused {
				c.Errorf("%s: no error", where)
			}
			if c.when != refused && !errors.Is(err, errDead) {
				c.Errorf("%s: %v", where, err)
			}
			c.wantTruth(where, result)
			if finish == "apply" {
				c.must(c.set)
				c.wantContents(where, c.inForce)
			}
			c.must(nil)
			c.wantDump(c.before)
			if c.Failed() {
				c.Logf("that was %s", where)
				return
			}
		}
	}
}

func (c *crash) wantContents(where string, want map[string]string) {
	c.Helper()
	got := c.contents()
	for name, text := range want {
		if got[name] != text && name[:len("ConfigMap")] != "ConfigMap" {
			c.Errorf("%s: %s is\n%s\nand should be\n%s", where, name, got[name], text)
		}
	}
}

// wantTruth holds what status says against the objects.
func (c *crash) wantTruth(where string, result *remediate.Result) {
	c.Helper()
	status := c.status()
	is := c.contents()
	for _, o := range status.Objects {
		name := o.Object.String()
		want := ""
		switch o.State {
		case remediate.StateInPlace:
			want = c.inForce[name]
		case remediate.StateAuditing:
			want = c.auditing[name]
		case remediate.StateNotBegun, remediate.StateRestored:
			want = c.nothing[name]
		case remediate.StateDrifted, remediate.StateMissing, remediate.StateUnreadable:
			c.Errorf("%s: %s is %q: %v", where, name, o.State, o.Diff)
			continue
		}
		if is[name] != want {
			c.Errorf("%s: %s is not %q:\n%s", where, name, o.State, is[name])
		}
	}
	if known := len(status.Objects); known != 0 && known != len(c.set.Objects) {
		c.Errorf("%s: status knows %d objects", where, known)
	}
	if len(status.Objects) == 0 {
		// Then nothing is in the cluster, or nothing any more.
		for name, text := range is {
			if name[:len("ConfigMap")] != "ConfigMap" && text != c.nothing[name] {
				c.Errorf("%s: status knows nothing of %s:\n%s", where, name, text)
			}
		}
	}
	over := status.Phase == remediate.PhaseApplied || status.Phase == remediate.PhaseNone
	if over != (status.Unfinished == "") {
		c.Errorf("%s: in phase %q unfinished is %q", where, status.Phase, status.Unfinished)
	}
	if status.Phase == remediate.PhaseApplied && states(status)[remediate.StateInPlace] != len(c.set.Objects) {
		c.Errorf("%s: it is applied, and %+v", where, states(status))
	}
	if result == nil {
		c.Errorf("%s: no result", where)
	}
}
