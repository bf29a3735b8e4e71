package main

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// moment is one at which a connection is cut: for good, or for one request.
type moment struct {
	name   string
	at     when
	killed bool
}

// cutCase is a set of which the writes are cut.
type cutCase struct {
	labels  map[string]string
	change  func(*set.Options)
	moments []moment
}

// cutCases write objects of all sorts: such that are made, and such that are there
// already with labels of others. To be killed before a write leaves what to be killed
// after the one before it does, so the smaller of them has that too.
func cutCases() map[string]cutCase {
	killedAfter := moment{"killed after", afterIt, true}
	return map[string]cutCase{
		"policies": {
			nil, func(o *set.Options) { o.Only = []string{"admission", "capabilities", "chroot"} },
			[]moment{killedAfter},
		},
		"labels": {
			map[string]string{"pod-security.kubernetes.io/warn": "privileged", "pod-security.kubernetes.io/audit": "restricted", "team": "a"},
			func(o *set.Options) { o.Admission, o.Only = set.AdmissionPSA, []string{"admission", "tools"} },
			[]moment{killedAfter, {"killed before", beforeIt, true}, {"lost answer", afterIt, false}},
		},
	}
}

// An apply and a rollback are cut at each of their writes. What status says then is
// true, and both an apply and a rollback end where they should.
func testCut(t *testing.T, server *kubetest.Server) {
	for name, test := range cutCases() {
		for _, moment := range test.moments {
			t.Run(name+"/"+moment.name, func(t *testing.T) {
				t.Parallel()
				c := newCure(t, server, test.labels, test.change)
				c.force = true
				c.cutEverywhere(c.dump(), moment)
			})
		}
	}
}

// cutEverywhere cuts at each write of an apply, and then of a rollback.
func (c *cure) cutEverywhere(before map[string]string, at moment) {
	verbs := []struct {
		name string
		// first is what has to be done before.
		first func(*cure)
		do    func(*cure, context.Context, *rest.Config) error
	}{
		{"apply", func(*cure) {}, func(c *cure, ctx context.Context, config *rest.Config) error {
			_, _, err := c.apply(ctx, config)
			return err
		}},
		{"rollback", func(c *cure) { c.mustApply() }, func(c *cure, ctx context.Context, config *rest.Config) error {
			_, _, err := c.rollback(ctx, config)
			return err
		}},
	}
	for _, verb := range verbs {
		writes := 0
		for nth, more := 1, true; more; nth++ {
			c.Run(fmt.Sprintf("%s %d", verb.name, nth), func(t *testing.T) {
				here := *c
				here.T = t
				for _, then := range []func(*cure){(*cure).mustRollback, func(c *cure) {
					c.mustApply()
					c.wantAll(c.status(), remediate.StateInPlace)
					c.mustRollback()
				}} {
					verb.first(&here)
					more = here.cutAt(nth, at, func(ctx context.Context, config *rest.Config) error { return verb.do(&here, ctx, config) })
					here.wantTruth(before)
					then(&here)
					wantSameObjects(t, before, here.dump())
				}
			})
			if c.Failed() {
				return
			}
			writes = nth - 1
		}
		if writes < 4 {
			c.Errorf("%s: %d writes: that is no apply of a set", verb.name, writes)
		}
	}
}

// A plan writes nothing, neither does status.
func testPlansWriteNothing(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, nil)
	before := c.dump()
	k := &cutter{nth: 1, when: beforeIt, then: func() { t.Error("something is written") }}
	config := kubetest.NewProxy(t, c.server.Config(), k.hook).Config()
	look := func() {
		if _, err := remediate.NewPlan(t.Context(), c.writer(config), c.set(), c.planOptions()); err != nil {
			t.Error(err)
		}
		if _, err := remediate.NewRollback(t.Context(), c.writer(config), c.opts.Name, c.planOptions()); err != nil {
			t.Error(err)
		}
		if _, err := remediate.ReadStatus(t.Context(), c.writer(config), c.opts.Name, c.planOptions()); err != nil {
			t.Error(err)
		}
	}
	look()
	c.mustApply()
	look()
	c.mustRollback()
	wantSameObjects(t, before, c.dump())
}
