package scan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func policyNamed(t *testing.T, r *recorder, name string) *Policy {
	t.Helper()
	for _, e := range r.events {
		if e.Policy != nil && e.Policy.Namespace+"/"+e.Policy.Name == name {
			return e.Policy
		}
	}
	t.Fatalf("no policy %s", name)
	return nil
}

// TestBites: a policy bites where that is known, and nowhere else.
func TestBites(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*memory)
		policy string
		want   Bite
	}{
		"all in place":     {func(*memory) {}, "shop/caps", BitesYes},
		"nodes forbidden":  {func(m *memory) { m.nodes, m.nodesErr = nil, forbidden("nodes") }, "shop/caps", BitesUnknown},
		"agents forbidden": {func(m *memory) { m.agentsErr = forbidden("pods") }, "shop/caps", BitesUnknown},
		"no label":         {func(m *memory) { m.nodes[0].Labels = nil }, "shop/caps", BitesUnknown},
		"no such container": {func(m *memory) {
			m.objects = nil
			m.blocks("shop", `{"kubearmor.io/container.name":"[nosuch]"}`)
		}, "shop/caps", BitesNo},
		"one of its containers": {func(m *memory) {
			m.objects = nil
			m.blocks("shop", `{"kubearmor.io/container.name":"[app]"}`)
		}, "shop/caps", BitesYes},
		"the name of another": {func(m *memory) {
			m.objects[kindCSP] = []string{`{"kind":"KubeArmorClusterPolicy","metadata":{"name":"caps"},"spec":{"selector":{"matchExpressions":[{"key":"namespace","operator":"In","values":["shop"]}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]},"action":"Block"}}`}
		}, "/caps", BitesUnknown},
		"one node of two without an agent": {func(m *memory) {
			m.on("n3", "wec", adding("SYS_ADMIN"))
			m.nodes = append(m.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3", Labels: bpf()}})
		}, "shop/caps", BitesPartly},
		"Kyverno gone": {func(m *memory) {
			m.objects[kindKyverno], m.kyverno = []string{kyvernoBaselineRule("", "")}, nil
		}, "/base", BitesUnknown},
		"Kyverno gone, and nothing to judge": {func(m *memory) {
			m.objects[kindKyvernoNS], m.kyverno = []string{strings.Replace(kyvernoBaselineRule("", ""), `"name":"base"`, `"name":"base","namespace":"lab"`, 1)}, nil
		}, "lab/base", BitesUnknown},
		"Kyverno's CEL, and Kyverno gone": {func(m *memory) {
			m.objects[kindValidating], m.kyverno = []string{validatingAll()}, nil
		}, "/all", BitesUnknown},
		"Kyverno's CEL":     {func(m *memory) { m.objects[kindValidating] = []string{validatingAll()} }, "/all", BitesPartly},
		"rules on services": {func(m *memory) { m.inCEL("svc", "services", "object.spec.type != 'NodePort'") }, "/svc", BitesUnknown},
		"rules on pods of nowhere": {func(m *memory) {
			m.objects[kindKyverno] = []string{kyvernoBaselineRule(`,"namespaces":["nowhere"]`, "")}
		}, "/base", BitesUnknown},
		"rules on pods that were not all read": {func(m *memory) {
			m.objects[kindKyverno] = []string{kyvernoBaselineRule(`,"namespaces":["nowhere"]`, "")}
			m.podsErr = map[string]error{"": forbidden("pods")}
			m.podsBefore = 1
		}, "/base", BitesUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			m := agentsOf(adding("SYS_ADMIN"))
			test.change(m)
			if p := policyNamed(t, scanned(t, m), test.policy); p.Bites != test.want || test.want != BitesYes && len(p.Reasons) == 0 {
				t.Errorf("%+v, want %s", *p, test.want)
			}
		})
	}
}
