package snapshot

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Probes are those that the recorder was made with, each writing down its answers.
func (r *Recorder) Probes() scan.Probes {
	var p scan.Probes
	if r.probes.ProbeData != nil {
		p.ProbeData = r.probeData
	}
	if r.probes.Machines != nil {
		p.Machines = r.machines
	}
	if r.probes.AskServer != nil {
		p.AskServer = r.askServer
	}
	if r.probes.Inspect != nil {
		p.Inspect = r.inspect
	}
	return p
}

func (r *Recorder) probeData(ctx context.Context, agent kernel.Agent) (*kernel.Probe, error) {
	data, err := r.probes.ProbeData(ctx, agent)
	r.entry(Entry{Answer: &Answer{Probe: &ProbeAnswer{agent.Namespace, agent.Name, data}, Failed: failedOf(err)}})
	return data, err
}

func (r *Recorder) machines(ctx context.Context, nodes []string) (map[string]*kernel.Machine, map[string]string, error) {
	reports, why, err := r.probes.Machines(ctx, nodes)
	for _, name := range slices.Sorted(maps.Keys(reports)) {
		r.entry(Entry{Answer: &Answer{Machine: &MachineSeen{Node: name, Report: reports[name]}}})
	}
	for _, name := range slices.Sorted(maps.Keys(why)) {
		r.entry(Entry{Answer: &Answer{Machine: &MachineSeen{Node: name, Why: why[name]}}})
	}
	r.ended(Scope{Of: readMachines}, len(reports), err)
	return reports, why, err
}

func (r *Recorder) askServer(ctx context.Context, pod *corev1.Pod) (admission.Ruling, error) {
	ruling, err := r.probes.AskServer(ctx, pod)
	r.entry(Entry{Answer: &Answer{
		Asked: &Asked{Namespace: pod.Namespace, Name: pod.Name, Digest: podDigest(pod), Ruling: ruling}, Failed: failedOf(err),
	}})
	return ruling, err
}

func (r *Recorder) inspect(ctx context.Context, namespace, pod, container string, paths []string) (map[string]string, error) {
	found, err := r.probes.Inspect(ctx, namespace, pod, container, paths)
	r.entry(Entry{Answer: &Answer{
		Inspected: &Inspected{Namespace: namespace, Pod: pod, Container: container, Asked: paths, Paths: found}, Failed: failedOf(err),
	}})
	return found, err
}
