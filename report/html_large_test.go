package report

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// largeRun is a run of many workloads with five findings each, and texts as long as
// those of the demo.
func largeRun(workloads int) []scan.Event {
	start := *layeredEvents()[0].Start
	events := []scan.Event{{Start: &start}}
	verdicts, severities := map[scan.Verdict]int{}, map[scan.Severity]int{}
	for i := range workloads {
		w := sampleWorkload(fmt.Sprintf("team-%02d", i%40), "Deployment", fmt.Sprintf("service-%04d", i))
		field := fmt.Sprintf("spec.containers[0].image%d", i)
		for _, f := range []scan.Finding{
			{Rule: "escape-privileged", Category: scan.CategoryEscape, Severity: scan.SeverityCritical, Open: true, Field: "spec.containers[0].securityContext.privileged", Now: json.RawMessage("true"),
				Fix:     &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false"), Note: "what the program does with devices or kernel settings stops working; give it the capabilities it needs"},
				Message: "the container is privileged: it has all capabilities, all devices of the host and no confinement"},
			{Rule: "escape-cap-sys-admin", Category: scan.CategoryEscape, Severity: scan.SeverityCritical, Open: true, Field: "spec.containers[0].securityContext.capabilities.add[0]", Item: "SYS_ADMIN", Now: json.RawMessage(`"SYS_ADMIN"`),
				Fix: &scan.Fix{Op: scan.FixRemove}, Message: "the container may mount file systems and enter namespaces", Related: []string{"spec.containers[0].securityContext.privileged"}},
			{Rule: "privileged", Category: scan.CategoryPSS, Severity: scan.SeverityHigh, Field: "spec.containers[0].securityContext.privileged", Now: json.RawMessage("true"),
				Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false")}, Message: `container "app" must not set securityContext.privileged=true`},
			{Rule: "capabilities_baseline", Category: scan.CategoryPSS, Severity: scan.SeverityHigh, Field: "spec.containers[0].securityContext.capabilities.add[0]", Item: "SYS_ADMIN", Now: json.RawMessage(`"SYS_ADMIN"`),
				Fix: &scan.Fix{Op: scan.FixRemove}, Message: `container "app" must not include "SYS_ADMIN" in securityContext.capabilities.add`},
			{Rule: "hostNamespaces", Category: scan.CategoryPSS, Severity: scan.SeverityMedium, Field: field, Now: json.RawMessage("true"), Message: "host namespaces (hostPID=true)",
				Location: &scan.Location{File: "deploy/" + w.Name + ".yaml", Line: 12, Column: 7}},
		} {
			f.Workload, f.Container, f.ContainerKind, f.Pods = w, "app", scan.KindContainer, 3
			f.Image = fmt.Sprintf("registry.example.com/%s/%s:1.%d.0", w.Namespace, w.Name, i)
			severities[f.Severity]++
			events = append(events, scan.Event{Finding: &f})
		}
		v := largeVerdict(w, scan.Verdicts()[i%5])
		verdicts[v.Verdict]++
		events = append(events, scan.Event{Verdict: v})
	}
	return append(events, scan.Event{End: &scan.End{Pods: 3 * workloads, Workloads: workloads, Findings: severities, Verdicts: verdicts}})
}

func largeVerdict(w scan.Workload, verdict scan.Verdict) *scan.WorkloadVerdict {
	const (
		admits  = "nothing refuses it; ClusterPolicy pod-security-restricted-report (restricted) would: its failureAction is Audit here: what violates it is reported and created all the same"
		devices = "the host's devices and kernel settings are within reach without any of the capabilities that a policy could block"
		unset   = "no policy in force blocks capability SYS_ADMIN in container app"
		claimed = "KubeArmor's installer found BPF-LSM active when it labelled the node, at a time that is not known"
	)
	node := fmt.Sprintf("prod-%d", len(w.Name)%7)
	path := func(id string, runtime string) scan.PathLayers {
		return scan.PathLayers{
			Path: id, Container: "app", State: scan.PathOpen, Reason: runtime,
			Admission: scan.Cell{Answer: scan.StopsNo, Reason: admits},
			Runtime:   scan.Cell{Answer: scan.StopsNo, Reason: runtime},
			Kernel:    scan.Cell{Answer: scan.StopsYes, By: []string{node}, Grade: kernel.Claimed, Reason: claimed},
		}
	}
	return &scan.WorkloadVerdict{
		Workload: w, Verdict: verdict, Severity: scan.SeverityCritical, Pods: 3,
		Reason: "2 ways out are open, the worst escape-privileged: " + devices,
		Paths:  []string{"escape-cap-sys-admin", "escape-privileged"}, Controls: []string{"capabilities_baseline", "hostNamespaces", "privileged"},
		Layers: &scan.Layers{
			Admission: admission.Decision{Answer: admission.Admits, Reason: admits},
			Runtime:   scan.RuntimeLayer{Set: kernel.No, Reason: "no KubeArmor policy selects the pods"},
			Kernel:    scan.KernelLayer{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Claimed, Reason: claimed, Nodes: 3, Worst: node},
			Paths:     []scan.PathLayers{path("escape-privileged", devices), path("escape-cap-sys-admin", unset)},
		},
	}
}

// The bounds of a report that opens at once.
const largeWorkloads, largeBytes = 2000, 5_000_000

func TestHTMLStaysSmall(t *testing.T) {
	t.Parallel()
	out := htmlOf(t, largeRun(largeWorkloads))
	t.Logf("%d workloads with 5 findings each are %d bytes", largeWorkloads, len(out))
	if len(out) > largeBytes {
		t.Errorf("it has %d bytes, want %d at most", len(out), largeBytes)
	}
}

func BenchmarkHTML(b *testing.B) {
	events := largeRun(largeWorkloads)
	b.ReportAllocs()
	for b.Loop() {
		h := NewHTML(io.Discard, HTMLOptions{Rules: scan.Rules()})
		for _, e := range events {
			if err := h.Handle(e); err != nil {
				b.Fatal(err)
			}
		}
	}
}
