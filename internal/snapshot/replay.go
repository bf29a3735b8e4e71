package snapshot

import (
	"context"
	"errors"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ErrTwoInventories is the error of two inventories in one dump: what two clusters are
// like cannot be told apart once they are mixed.
var ErrTwoInventories = errors.New("two inventories in one scan: scan them one by one")

// inventory is what the entries of an inventory say. Its zero value is that of a
// dump without any.
type inventory struct {
	begin *Begin
	ended bool
	// annotations are the keys that were kept for policies.
	annotations map[string]bool
	reads       map[Scope]*Read
	labelled    map[string][]corev1.Pod
	probes      map[[2]string]*Answer
	machines    map[string]*MachineSeen
	// asked is by the digest of the pod.
	asked     map[string]*Answer
	inspected map[[3]string][]*Answer
}

func (v *inventory) add(e *Entry) error {
	switch {
	case e.Begin != nil:
		if v.begin != nil {
			return ErrTwoInventories
		}
		v.begin = e.Begin
	case e.Read != nil:
		put(&v.reads, e.Read.Scope, e.Read)
	case e.Answer != nil:
		v.answer(e.Answer)
	case e.End != nil:
		v.ended = true
		for _, key := range e.End.Annotations {
			put(&v.annotations, key, true)
		}
	}
	return nil
}

func (v *inventory) answer(a *Answer) {
	switch {
	case a.LabelledPod != nil:
		put(&v.labelled, a.LabelledPod.Selector, append(v.labelled[a.LabelledPod.Selector], *a.LabelledPod.Pod))
	case a.Probe != nil:
		put(&v.probes, [2]string{a.Probe.Namespace, a.Probe.Name}, a)
	case a.Machine != nil:
		put(&v.machines, a.Machine.Node, a.Machine)
	case a.Asked != nil:
		put(&v.asked, a.Asked.Digest, a)
	case a.Inspected != nil:
		key := [3]string{a.Inspected.Namespace, a.Inspected.Pod, a.Inspected.Container}
		put(&v.inspected, key, append(v.inspected[key], a))
	}
}

// find is how the reading of a scope ended, or of a wider one that covers it; nil
// where the inventory does not say.
func (v *inventory) find(s Scope) *Read {
	if r := v.reads[s]; r != nil || s.Namespace == "" || s.Name != "" {
		return r
	}
	s.Namespace = ""
	return v.reads[s]
}

// Probes are the ways of looking closer, as far as they were consented to when the
// inventory was recorded: they answer what was answered then.
func (s *Snapshot) Probes() scan.Probes {
	var p scan.Probes
	v := &s.inventory
	if v.begin == nil {
		return p
	}
	if slices.Contains(v.begin.Probes, probeData) {
		p.ProbeData = v.probeData
	}
	if slices.Contains(v.begin.Probes, probeMachines) {
		p.Machines = v.machineReports
	}
	if slices.Contains(v.begin.Probes, probeAskServer) {
		p.AskServer = v.askServer
	}
	if slices.Contains(v.begin.Probes, probeInspect) {
		p.Inspect = v.inspect
	}
	return p
}

func (v *inventory) probeData(_ context.Context, agent kernel.Agent) (*kernel.Probe, error) {
	a := v.probes[[2]string{agent.Namespace, agent.Name}]
	if a == nil {
		return nil, absent("probe data of", agent.Namespace+"/"+agent.Name)
	}
	return a.Probe.Data, a.Failed.err()
}

func (v *inventory) machineReports(_ context.Context, nodes []string) (map[string]*kernel.Machine, map[string]string, error) {
	reports, why := map[string]*kernel.Machine{}, map[string]string{}
	for _, name := range nodes {
		m := v.machines[name]
		switch {
		case m == nil:
			why[name] = absent("the check of the node").Error()
		case m.Report != nil:
			reports[name] = m.Report
		case m.Why != "":
			why[name] = m.Why
		}
	}
	if r := v.find(Scope{Of: readMachines}); r != nil {
		return reports, why, r.Failed.err()
	}
	return reports, why, absent("the check of the nodes")
}

func (v *inventory) askServer(_ context.Context, pod *corev1.Pod) (admission.Ruling, error) {
	a := v.asked[podDigest(pod)]
	if a == nil {
		return admission.Ruling{}, absent("what the API server says of", pod.Namespace+"/"+pod.Name)
	}
	return a.Asked.Ruling, a.Failed.err()
}

func (v *inventory) inspect(_ context.Context, namespace, pod, container string, paths []string) (map[string]string, error) {
	found := map[string]string{}
	var failed error
	for _, a := range v.inspected[[3]string{namespace, pod, container}] {
		if err := a.Failed.err(); err != nil {
			failed = err
			continue
		}
		maps.Copy(found, a.Inspected.Paths)
	}
	answer := map[string]string{}
	for _, path := range paths {
		real, ok := found[path]
		switch {
		case ok:
			answer[path] = real
		case failed != nil:
			return nil, failed
		default:
			return nil, absent("the path "+path+" in", namespace+"/"+pod+"/"+container)
		}
	}
	return answer, nil
}
