package preview_test

import (
	"fmt"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// BenchmarkJudge judges 10,000 pods of 2,000 workloads on 200 nodes, with 50,000 alerts.
func BenchmarkJudge(b *testing.B) {
	for _, by := range []set.Admission{set.AdmissionPSA, set.AdmissionKyverno, set.AdmissionKyvernoCEL, set.AdmissionVAP} {
		b.Run(string(by), func(b *testing.B) {
			in := crowd(b, by)
			for b.Loop() {
				if r := preview.Judge(in); len(r.Workloads) != 2000 || r.Counts[preview.Breaks] == 0 {
					b.Fatal(r.Counts)
				}
			}
		})
	}
}

func crowd(t testing.TB, by set.Admission) preview.Input {
	t.Helper()
	specs := []string{
		`containers: [{image: app, command: [app]}]`,
		`containers: [{image: app, command: [sh, -c, "setup && curl -f http://x | tar x"], readinessProbe: {exec: {command: [curl, localhost]}}}]`,
		`{initContainers: [{name: i, image: app}], containers: [{image: app, securityContext: {privileged: true}}, {name: proxy, image: envoy}]}`,
		`{hostPID: true, hostNetwork: true, containers: [{image: "busybox:1", securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}`,
	}
	var all []targets.Workload
	in := inputOf(rendered(t, func(o *set.Options) { o.Admission = by }))
	for i := range 200 {
		in.Nodes[fmt.Sprintf("node%d", i)] = enforcing()
	}
	in.Nodes["node199"] = blind()
	in.Server = psa.MajorMinorVersion(1, 36)
	for i := range 2000 {
		template := podOf(t, specs[i%len(specs)])
		live := template.DeepCopy()
		live.Spec.Containers[0].Env = nil
		w := targets.Workload{
			Workload:  scan.Workload{Namespace: "shop", Kind: "Deployment", Name: fmt.Sprintf("app%d", i)},
			Specimens: []targets.Specimen{{Pod: template}, {Pod: live, Live: 5}},
		}
		for k := range 5 {
			w.Specimens[1].Nodes = append(w.Specimens[1].Nodes, fmt.Sprintf("node%d", (i+k*7)%200))
		}
		all = append(all, w)
	}
	for i := range 50000 {
		in.Alerts = append(in.Alerts, armor.Alert{
			Namespace: "shop", Pod: fmt.Sprintf("app%d-%d", i%2000, i%5), Container: "web", OwnerKind: "Deployment", OwnerName: fmt.Sprintf("app%d", i%2000),
			Type: "MatchedPolicy", Operation: "Process", Process: "/usr/bin/curl", Parent: "/bin/sh", Result: "Passed",
		})
	}
	in.Workloads = all
	return in
}
