package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

// fixedRules rule always the same.
type fixedRules struct {
	answer Answer
	keys   Keys
}

func (f fixedRules) Rule(Subject) []Ruling {
	return []Ruling{{By: Ref{Mechanism: ValidatingAdmissionPolicy, Kind: "ValidatingAdmissionPolicy", Name: string(f.answer)}, Answer: f.answer, Message: "by a fixed rule"}}
}

func (f fixedRules) Reads() Keys { return f.keys }

func TestDecide(t *testing.T) {
	baseline := labelled(map[string]string{psa.EnforceLevelLabel: "baseline"})
	policy := kyverno(t, rule(pods, enforce))
	rules := func(answers ...Answer) []Rules {
		var list []Rules
		for _, a := range answers {
			list = append(list, fixedRules{answer: a})
		}
		return list
	}
	missing := []string{"Kyverno's policies could not be listed: forbidden"}
	for name, test := range map[string]struct {
		set     Set
		subject Subject
		want    Answer
		says    []string
	}{
		"nothing rules":                     {Set{}, Subject{Namespace: labelled(nil)}, Admits, []string{"nothing refuses it", "configuration"}},
		"one refuses":                       {Set{Expressions: rules(Admits, Refuses)}, Subject{Namespace: labelled(nil)}, Refuses, []string{"ValidatingAdmissionPolicy refuses refuses it"}},
		"a refusal goes before the unknown": {Set{Expressions: rules(Unknown, Refuses), Missing: missing}, Subject{}, Refuses, nil},
		"one is unknown":                    {Set{Expressions: rules(Admits, Unknown, Unknown)}, Subject{Namespace: labelled(nil)}, Unknown, []string{"by a fixed rule", "and one more"}},
		"something is missing":              {Set{Expressions: rules(Admits), Missing: missing}, Subject{Namespace: labelled(nil)}, Unknown, missing},
		"the namespace is missing":          {Set{}, Subject{NamespaceUnknown: "forbidden"}, Unknown, []string{"labels of namespace shop are not known: forbidden"}},
		"all who refuse are named": {
			Set{Kyverno: []*KyvernoRules{policy}, Expressions: rules(Refuses)}, Subject{Namespace: baseline}, Refuses,
			[]string{"PodSecurity shop (enforce) refuses it (hostNamespaces)", "ClusterPolicy baseline (r)", "ValidatingAdmissionPolicy refuses"},
		},
		"labels alone may be exempted from": {Set{}, Subject{Namespace: baseline}, Refuses, []string{"unless the API server's configuration exempts it"}},
		"what does not bite is named": {
			Set{Kyverno: []*KyvernoRules{kyverno(t, rule(pods, ""))}}, Subject{Namespace: labelled(nil)}, Admits,
			[]string{"ClusterPolicy baseline (r) would: its failureAction is Audit"},
		},
		"doubt about Kyverno leaves its refusal unknown": {
			Set{Kyverno: []*KyvernoRules{policy}, KyvernoDoubt: "the cluster has no webhook of Kyverno's"}, Subject{Namespace: labelled(nil)}, Unknown,
			[]string{"no webhook"},
		},
		"doubt about Kyverno does not touch what it admits": {
			Set{Kyverno: []*KyvernoRules{kyverno(t, rule(pods, ""))}, KyvernoDoubt: "x"}, Subject{Namespace: labelled(nil)}, Admits, nil,
		},
		"a static pod asks nobody": {
			Set{}, Subject{Namespace: baseline, Pod: podOf(func(p *corev1.Pod) {
				hostPID(p)
				p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			})}, Admits, []string{"static pod"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.subject.Pod == nil {
				test.subject.Pod = podOf(hostPID)
			}
			d := test.set.Decide(test.subject)
			if d.Answer != test.want {
				t.Errorf("%s, want %s: %s", d.Answer, test.want, d.Reason)
			}
			for _, says := range test.says {
				if !strings.Contains(d.Reason, says) {
					t.Errorf("reason %q, want %q in it", d.Reason, says)
				}
			}
			if strings.Contains(d.Reason, "\n") {
				t.Errorf("the reason is more than a line: %q", d.Reason)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	set := Set{
		Kyverno: []*KyvernoRules{kyverno(t, rule("{any: [{resources: {kinds: [Pod], selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: Exists}]}}}]}", enforce,
			"exclude: {any: [{resources: {annotations: {skip: 'yes'}}}]}"))},
		Exceptions:  []*KyvernoException{exception(t, "{match: {any: [{resources: {names: [db]}}]}, exceptions: []}")},
		Expressions: []Rules{fixedRules{keys: Keys{Labels: []string{"app", "zone"}}}},
	}
	keys := set.Keys()
	if keys.All || !keys.Names || !slices.Equal(keys.Labels, []string{"app", "tier", "zone"}) || !slices.Equal(keys.Annotations, []string{corev1.MirrorPodAnnotationKey, "skip"}) {
		t.Errorf("%+v", keys)
	}
	wildcard := Set{Kyverno: []*KyvernoRules{kyverno(t, rule("{any: [{resources: {kinds: [Pod], selector: {matchLabels: {'a*': web}}}}]}", enforce))}}
	if !wildcard.Keys().All {
		t.Error("a pattern for keys may mean any of them")
	}
	none := Set{Kyverno: []*KyvernoRules{kyverno(t, rule(pods, enforce))}}
	if keys := none.Keys(); keys.All || keys.Names || len(keys.Labels) > 0 {
		t.Errorf("%+v", keys)
	}
}

// Labels that are not among the keys change no decision.
func TestKeysAreEnough(t *testing.T) {
	type recording struct {
		Policy          json.RawMessage   `json:"policy"`
		Kind            string            `json:"kind"`
		Namespace       string            `json:"namespace"`
		Labels          map[string]string `json:"labels"`
		NamespaceLabels map[string]string `json:"namespaceLabels"`
	}
	kept := 0
	for i, r := range recorded[recording](t, "match.json") {
		p, err := DecodeKyverno(r.Kind, r.Policy)
		if err != nil {
			t.Fatal(err)
		}
		set := Set{Kyverno: []*KyvernoRules{p}}
		keys := set.Keys()
		if keys.All {
			continue
		}
		decide := func(labels map[string]string) string {
			pod := podOf(hostPID)
			pod.Namespace, pod.Labels = r.Namespace, labels
			ns := labelled(r.NamespaceLabels)
			ns.Name = r.Namespace
			d := set.Decide(Subject{Pod: pod, Namespace: ns, OwnerKind: "Pod"})
			return fmt.Sprint(d.Answer, d.Reason)
		}
		other := maps.Clone(r.Labels)
		if other == nil {
			other = map[string]string{}
		}
		for _, key := range []string{"app", "tier", "zone"} {
			if !slices.Contains(keys.Labels, key) {
				other[key] = "changed"
				kept++
			}
		}
		if before, after := decide(r.Labels), decide(other); before != after {
			t.Errorf("%d: %s\n%v: %s\n%v: %s", i, r.Policy, r.Labels, before, other, after)
		}
	}
	if kept < 100 {
		t.Errorf("%d labels changed: this proves too little", kept)
	}
}

// manyPolicies are policies for the pods of a namespace each, enforced.
func manyPolicies(b *testing.B, namespaces func(i int) string) *Set {
	set := &Set{Server: v(36)}
	for i := range 100 {
		text := fmt.Sprintf("metadata: {name: p%d}\nspec:\n  rules:\n", i) +
			rule(fmt.Sprintf("{any: [{resources: {kinds: [v1/Pod], namespaces: [%s], selector: {matchLabels: {app: web}}}}]}", namespaces(i)), enforce)
		set.Kyverno = append(set.Kyverno, kyvernoYAML(b, kindClusterPolicy, text))
	}
	return set
}

func BenchmarkDecide(b *testing.B) {
	for name, test := range map[string]struct {
		namespaces func(int) string
		labels     map[string]string
	}{
		"no policy matches":  {func(i int) string { return fmt.Sprintf("team-%d-*", i) }, nil},
		"labels alone":       {func(i int) string { return fmt.Sprintf("team-%d-*", i) }, map[string]string{psa.EnforceLevelLabel: "restricted"}},
		"all policies match": {func(int) string { return "shop" }, nil},
	} {
		b.Run(name, func(b *testing.B) {
			set := manyPolicies(b, test.namespaces)
			s := Subject{Pod: podOf(hostPID), Namespace: labelled(test.labels), OwnerKind: "Deployment"}
			b.ReportAllocs()
			for b.Loop() {
				set.Decide(s)
			}
		})
	}
}
