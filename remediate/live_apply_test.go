package remediate_test

import (
	"slices"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate"
)

// An apply brings everything in, a second has nothing to do and writes nothing, and
// after a rollback all is as it was.
func TestThereAndBack(t *testing.T) {
	w := newWorld(t)
	w.inTheWay()
	before := w.dump()
	s := w.whole()

	plan := w.mustPlan(s)
	if blocked := plan.Blocked(); len(blocked) > 0 {
		t.Fatalf("%s: %+v", blocked[0].Object, blocked[0].Block)
	}
	w.wantDump(before)
	w.must(s)
	status := w.status()
	if status.Phase != remediate.PhaseApplied || states(status)[remediate.StateInPlace] != len(s.Objects) {
		t.Errorf("status is %q: %+v", status.Phase, status.Objects)
	}
	if got := w.get(remediate.Ref{APIVersion: "v1", Kind: "Namespace", Name: w.one}).GetLabels()[psa.EnforceLevelLabel]; got != "baseline" {
		t.Errorf("enforce is %q", got)
	}

	m := &mortal{Cluster: w.writer}
	result, err := w.run(m, s)
	if err != nil || m.writes != 0 {
		t.Errorf("a second apply makes %d writes: %v", m.writes, err)
	}
	if slices.ContainsFunc(result.Changes, func(c remediate.Change) bool { return c.Action != remediate.Unchanged }) {
		t.Errorf("a second apply is %+v", result.Changes)
	}

	w.must(nil)
	w.wantDump(before)
	for _, namespace := range []string{w.one, w.two} {
		w.wantNoOwner(remediate.Ref{APIVersion: "v1", Kind: "Namespace", Name: namespace})
	}
	w.wantNoOwner(remediate.Ref{APIVersion: "security.kubearmor.com/v1", Kind: "KubeArmorPolicy", Namespace: w.one, Name: w.name + "-chroot"})
}
