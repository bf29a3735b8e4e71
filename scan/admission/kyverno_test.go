package admission

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"
)

// kyverno reads a policy that is written in short: rules is what follows "rules:",
// more is what else stands in spec.
func kyverno(t testing.TB, rules string, more ...string) *KyvernoRules {
	t.Helper()
	text := "metadata: {name: baseline}\nspec:\n"
	for _, line := range more {
		text += "  " + line + "\n"
	}
	text += "  rules:\n" + rules
	return kyvernoYAML(t, kindClusterPolicy, text)
}

func kyvernoYAML(t testing.TB, kind, text string) *KyvernoRules {
	t.Helper()
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	p, err := DecodeKyverno(kind, data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rule is a podSecurity rule at baseline with these lines before and after.
func rule(match, validate string, more ...string) string {
	text := "  - name: r\n    match: " + match + "\n    validate: {" + validate + "podSecurity: {level: baseline}}\n"
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

const (
	pods    = "{any: [{resources: {kinds: [Pod]}}]}"
	enforce = "failureAction: Enforce, "
)

// judged is what the policies, and nothing else, say of a pod of a Deployment.
func judged(t testing.TB, policies []*KyvernoRules, exceptions []*KyvernoException, change func(*Subject)) (Decision, []Cause) {
	t.Helper()
	s := Subject{Pod: podOf(hostPID), Namespace: labelled(map[string]string{"env": "prod"}), OwnerKind: "Deployment", OwnerName: "web"}
	if change != nil {
		change(&s)
	}
	d := (&Set{Kyverno: policies, Exceptions: exceptions}).Decide(s)
	var causes []Cause
	for _, r := range d.Rulings {
		if r.Toothless != nil {
			causes = append(causes, r.Toothless.Cause)
		}
	}
	return d, causes
}

func TestKyvernoPolicies(t *testing.T) {
	unknownUser := "exclude: {any: [{clusterRoles: [cluster-admin]}]}"
	for name, test := range map[string]struct {
		policy *KyvernoRules
		change func(*Subject)
		want   Answer
		causes []Cause
		says   string
	}{
		"enforced, it refuses": {kyverno(t, rule(pods, enforce)), nil, Refuses, nil, "hostNamespaces"},
		"a pod that the level allows": {kyverno(t, rule(pods, enforce)), func(s *Subject) { s.Pod = podOf(nil) },
			Admits, nil, ""},
		"without an action it audits": {kyverno(t, rule(pods, "")), nil, Admits, []Cause{CauseKyvernoAudit}, "Audit"},
		"the policy's deprecated action enforces": {kyverno(t, rule(pods, ""), "validationFailureAction: enforce"), nil,
			Refuses, nil, ""},
		"the rule's action goes before the policy's": {kyverno(t, rule(pods, "failureAction: Audit, "), "validationFailureAction: Enforce"), nil,
			Admits, []Cause{CauseKyvernoAudit}, ""},
		"an override audits in this namespace": {kyverno(t, rule(pods, enforce+"failureActionOverrides: [{action: Audit, namespaces: [sh*]}], ")), nil,
			Admits, []Cause{CauseKyvernoAudit}, ""},
		"an override enforces by the namespace's labels": {kyverno(t, rule(pods, "failureActionOverrides: [{action: Enforce, namespaceSelector: {matchLabels: {env: prod}}}], ")), nil,
			Refuses, nil, ""},
		"an override by labels that are not known": {kyverno(t, rule(pods, "failureActionOverrides: [{action: Enforce, namespaceSelector: {matchLabels: {env: prod}}}], ")),
			func(s *Subject) { s.Namespace, s.NamespaceUnknown = nil, "forbidden" }, Unknown, nil, "forbidden"},
		"an override that changes nothing need not be known": {kyverno(t, rule(pods, enforce+"failureActionOverrides: [{action: Enforce, namespaceSelector: {matchLabels: {env: prod}}}], ")),
			func(s *Subject) { s.Namespace = nil }, Refuses, nil, ""},

		"a rule for another namespace": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], namespaces: [prod]}}]}", enforce)), nil, Admits, nil, ""},
		"a namespaceSelector that is not known": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], namespaceSelector: {matchLabels: {env: prod}}}}]}", enforce)),
			func(s *Subject) { s.Namespace, s.NamespaceUnknown = nil, "forbidden" }, Unknown, nil, "forbidden"},
		"the exclude block leaves it out": {kyverno(t, rule(pods, enforce, "exclude: {any: [{resources: {namespaces: [shop]}}]}")), nil,
			Admits, []Cause{CauseExcluded}, "exclude block"},
		"podSecurity.exclude leaves it out": {kyverno(t, "  - name: r\n    match: "+pods+"\n    validate: {failureAction: Enforce, podSecurity: {level: baseline, exclude: [{controlName: Host Namespaces}]}}\n"), nil,
			Admits, []Cause{CauseExcluded}, "podSecurity.exclude"},
		"an exclude by who asks is not known":  {kyverno(t, rule(pods, enforce, unknownUser)), nil, Unknown, nil, "who creates"},
		"who asks does not matter to an audit": {kyverno(t, rule(pods, "", unknownUser)), nil, Admits, []Cause{CauseKyvernoAudit}, ""},
		"who asks does not matter to a good pod": {kyverno(t, rule(pods, enforce, unknownUser)), func(s *Subject) { s.Pod = podOf(nil) },
			Admits, nil, ""},
		"preconditions are not evaluated": {kyverno(t, rule(pods, enforce, "preconditions: {all: [{key: a, operator: Equals, value: b}]}")), nil,
			Unknown, nil, "preconditions"},
		"empty preconditions are none": {kyverno(t, rule(pods, enforce, "preconditions: []")), nil, Refuses, nil, ""},
		"a context is not known": {kyverno(t, rule(pods, enforce, "context: [{name: x, variable: {value: 1}}]")), nil,
			Unknown, nil, "context"},
		"conditions of the webhook are not evaluated": {kyverno(t, rule(pods, enforce), "webhookConfiguration: {matchConditions: [{name: x, expression: 'true'}]}"), nil,
			Unknown, nil, "matchConditions"},
		"admission is off": {kyverno(t, rule(pods, enforce), "admission: false"), nil, Admits, []Cause{CauseKyvernoNotReady}, "spec.admission"},
		"a rule that is asked of updates alone": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], operations: [UPDATE]}}]}", enforce)), nil,
			Admits, nil, ""},
		"a rule that kubectl debug passes by": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], operations: [CREATE]}}]}", enforce)), nil,
			Refuses, []Cause{CauseKyvernoEphemeral}, ""},
		"autogen is off for a selector": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], selector: {matchLabels: {app: web}}}}]}", enforce)), nil,
			Refuses, []Cause{CauseKyvernoAutogen}, ""},
		"autogen does not matter to a pod of its own": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], selector: {matchLabels: {app: web}}}}]}", enforce)),
			func(s *Subject) { s.OwnerKind = "Pod" }, Refuses, nil, ""},
		"autogen is off for kind v1/Pod":   {kyverno(t, rule("{any: [{resources: {kinds: [v1/Pod]}}]}", enforce)), nil, Refuses, []Cause{CauseKyvernoAutogen}, ""},
		"a rule that names the controller": {kyverno(t, rule("{any: [{resources: {kinds: [Pod, Deployment]}}]}", enforce)), nil, Refuses, nil, ""},
		"kube-system is left out by default": {kyverno(t, rule(pods, enforce)), func(s *Subject) { s.Pod.Namespace = "kube-system" },
			Admits, []Cause{CauseExcluded}, "kube-system"},
		"another kind of rule is not evaluated": {kyverno(t, "  - {name: p, match: "+pods+", validate: {failureAction: Enforce, pattern: {metadata: {labels: {team: '?*'}}}}}\n"), nil,
			Unknown, nil, "pattern rules are not evaluated"},
		"another kind of rule that audits does not matter": {kyverno(t, "  - {name: p, match: "+pods+", validate: {pattern: {spec: {hostPID: false}}}}\n"), nil,
			Admits, nil, ""},
		"another kind of rule for other pods does not matter": {kyverno(t, "  - {name: p, match: {any: [{resources: {kinds: [Pod], names: [db-*]}}]}, validate: {failureAction: Enforce, deny: {}}}\n"), nil,
			Admits, nil, ""},
		"a refusal goes before what is not known": {kyverno(t, rule(pods, enforce)+"  - {name: p, match: "+pods+", validate: {failureAction: Enforce, deny: {conditions: {any: []}}}}\n"), nil,
			Refuses, nil, ""},
		"a mutation is mentioned": {kyverno(t, rule(pods, enforce)+"  - {name: m, match: "+pods+", mutate: {patchStrategicMerge: {spec: {hostPID: false}}}}\n"), nil,
			Refuses, nil, "may change the pod before"},
		"a mutation of other objects is not": {kyverno(t, rule(pods, "")+"  - {name: m, match: "+pods+", mutate: {targets: [{kind: ConfigMap}], patchStrategicMerge: {}}}\n"), nil,
			Admits, []Cause{CauseKyvernoAudit}, "failureAction is Audit here: what violates it is reported and created all the same"},
		"applyRules One ends with the first rule": {kyverno(t, strings.Replace(rule(pods, enforce), "baseline}", "baseline, exclude: [{controlName: Host Namespaces}]}", 1)+strings.Replace(rule(pods, enforce), "name: r", "name: s", 1), "applyRules: One"), nil,
			Admits, []Cause{CauseExcluded, CauseExcluded}, ""},
		"applyRules One after a rule that is not evaluated": {kyverno(t, "  - {name: p, match: "+pods+", validate: {failureAction: Enforce, pattern: {}}}\n"+rule(pods, enforce), "applyRules: One"), nil,
			Unknown, nil, ""},
		"a pod whose name is to be generated": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], names: [web-*]}}]}", enforce)),
			func(s *Subject) { s.Pod.Name = "" }, Refuses, []Cause{CauseKyvernoAutogen}, ""},
		"a pod whose name decides and is not known": {kyverno(t, rule("{any: [{resources: {kinds: [Pod], names: [web-5d8f-*]}}]}", enforce)),
			func(s *Subject) { s.Pod.Name = "" }, Unknown, nil, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			d, causes := judged(t, []*KyvernoRules{test.policy}, nil, test.change)
			if namespaceUnread := d.Rulings[0].Answer == Unknown; namespaceUnread {
				d.Answer, d.Reason = conclude(d.Rulings[1:], nil)
			}
			if d.Answer != test.want || !slices.Equal(causes, test.causes) {
				t.Errorf("%s %q, want %s %q: %s", d.Answer, causes, test.want, test.causes, d.Reason)
			}
			text := d.Reason
			for _, r := range d.Rulings {
				text += "\n" + r.Message
			}
			if !strings.Contains(text, test.says) {
				t.Errorf("says %q, want %q", text, test.says)
			}
		})
	}
}

// A policy of a namespace is asked about its own pods alone.
func TestKyvernoPolicyOfANamespace(t *testing.T) {
	for namespace, want := range map[string]Answer{"shop": Refuses, "prod": Admits} {
		p := kyvernoYAML(t, kindPolicy, "metadata: {name: p, namespace: "+namespace+"}\nspec:\n  rules:\n"+rule(pods, enforce))
		if d, _ := judged(t, []*KyvernoRules{p}, nil, nil); d.Answer != want {
			t.Errorf("policy of %s: %s", namespace, d.Answer)
		}
	}
}

func TestKyvernoStatus(t *testing.T) {
	for status, want := range map[string]Answer{
		"{}": Refuses,
		"{conditions: [{type: Ready, status: 'True'}]}":                      Refuses,
		"{conditions: [{type: Ready, status: 'False', message: Not Ready}]}": Admits,
	} {
		p := kyvernoYAML(t, kindClusterPolicy, "metadata: {name: p}\nstatus: "+status+"\nspec:\n  rules:\n"+rule(pods, enforce))
		d, causes := judged(t, []*KyvernoRules{p}, nil, nil)
		if d.Answer != want || (want == Admits) != slices.Equal(causes, []Cause{CauseKyvernoNotReady}) {
			t.Errorf("status %s: %s %q", status, d.Answer, causes)
		}
	}
}

// Kyverno has nothing of what 1.35 relaxes for pods with a user namespace, and its
// checks do not override each other.
func TestKyvernoIsNotTheServer(t *testing.T) {
	relaxed := podOf(func(p *corev1.Pod) {
		p.Spec.HostUsers = new(false)
		rootUser(p)
		p.Spec.Containers[0].SecurityContext.ProcMount = new(corev1.UnmaskedProcMount)
		p.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"}
	})
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	server := standardsOf(restricted, psa.Version{}).judge(relaxed).ids
	if want := []string{"capabilities_restricted", "procMount_restricted"}; !slices.Equal(server, want) {
		t.Errorf("the server refuses by %q, want %q", server, want)
	}
	got := kyvernoRefusals(kyvernoStandards(restricted), relaxed, nil)
	if want := []string{"capabilities_baseline", "procMount", "capabilities_restricted", "runAsUser"}; !slices.Equal(got, want) {
		t.Errorf("Kyverno refuses by %q, want %q", got, want)
	}
}

func exception(t testing.TB, text string) *KyvernoException {
	t.Helper()
	data, err := yaml.YAMLToJSONStrict([]byte("metadata: {name: x, namespace: ops}\nspec: " + text))
	if err != nil {
		t.Fatal(err)
	}
	x, err := DecodeKyvernoException(data)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestKyvernoExceptions(t *testing.T) {
	for name, test := range map[string]struct {
		exception string
		want      Answer
		says      string
	}{
		"lets the pod pass":                     {"{match: " + pods + ", exceptions: [{policyName: baseline, ruleNames: ['*']}]}", Admits, "PolicyException ops/x"},
		"is for another rule":                   {"{match: " + pods + ", exceptions: [{policyName: baseline, ruleNames: [autogen-r]}]}", Refuses, ""},
		"is for another policy":                 {"{match: " + pods + ", exceptions: [{policyName: other, ruleNames: [r]}]}", Refuses, ""},
		"is for other pods":                     {"{match: {any: [{resources: {kinds: [Pod], namespaces: [prod]}}]}, exceptions: [{policyName: baseline, ruleNames: [r]}]}", Refuses, ""},
		"takes the control out":                 {"{match: " + pods + ", podSecurity: [{controlName: Host Namespaces}], exceptions: [{policyName: baseline, ruleNames: [r]}]}", Admits, "ops/x"},
		"takes another control out":             {"{match: " + pods + ", podSecurity: [{controlName: Sysctls}], exceptions: [{policyName: baseline, ruleNames: [r]}]}", Refuses, ""},
		"has conditions that are not evaluated": {"{match: " + pods + ", conditions: {any: [{key: a}]}, exceptions: [{policyName: baseline, ruleNames: [r]}]}", Unknown, "conditions"},
		"matches nothing when empty":            {"{match: {}, exceptions: [{policyName: baseline, ruleNames: [r]}]}", Refuses, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, causes := judged(t, []*KyvernoRules{kyverno(t, rule(pods, enforce))}, []*KyvernoException{exception(t, test.exception)}, nil)
			if d.Answer != test.want || !strings.Contains(d.Reason, test.says) {
				t.Errorf("%s: %s", d.Answer, d.Reason)
			}
			if (d.Answer == Admits) != slices.Equal(causes, []Cause{CauseExcluded}) {
				t.Errorf("%s %q", d.Answer, causes)
			}
		})
	}
}

func TestKyvernoFaults(t *testing.T) {
	for name, test := range map[string]struct {
		policy *KyvernoRules
		want   []Cause
		says   string
	}{
		"none":                       {kyverno(t, rule(pods, enforce)), nil, ""},
		"audit":                      {kyverno(t, rule(pods, "")), []Cause{CauseKyvernoAudit}, "r: "},
		"enforced somewhere":         {kyverno(t, rule(pods, "failureActionOverrides: [{action: Enforce, namespaces: [prod]}], ")), nil, ""},
		"a selector":                 {kyverno(t, rule("{any: [{resources: {kinds: [Pod], selector: {matchLabels: {a: b}}}}]}", enforce)), []Cause{CauseKyvernoAutogen}, "label selector"},
		"two ways to write pods":     {kyverno(t, rule("{any: [{resources: {kinds: [Pod, Pod/ephemeralcontainers]}}]}", enforce)), []Cause{CauseKyvernoAutogen}, "other kinds beside Pod"},
		"operations without UPDATE":  {kyverno(t, rule("{any: [{resources: {kinds: [Pod], operations: [CREATE]}}]}", enforce)), []Cause{CauseKyvernoEphemeral}, "kubectl debug"},
		"admission is off":           {kyverno(t, rule(pods, enforce), "admission: false"), []Cause{CauseKyvernoNotReady}, ""},
		"no rule of this kind":       {kyverno(t, "  - {name: p, match: "+pods+", validate: {pattern: {}}}\n"), nil, ""},
		"no rule of it is for pods":  {kyverno(t, rule("{any: [{resources: {kinds: [Deployment]}}]}", "")), nil, ""},
		"the annotation leaves some": {kyvernoYAML(t, kindClusterPolicy, "metadata: {name: p, annotations: {pod-policies.kyverno.io/autogen-controllers: 'Deployment,DaemonSet,StatefulSet,Job,ReplicaSet,ReplicationController'}}\nspec:\n  rules:\n"+rule(pods, enforce)), []Cause{CauseKyvernoAutogen}, "no rule for a CronJob"},
		"the annotation says none":   {kyvernoYAML(t, kindClusterPolicy, "metadata: {name: p, annotations: {pod-policies.kyverno.io/autogen-controllers: none}}\nspec:\n  rules:\n"+rule(pods, enforce)), []Cause{CauseKyvernoAutogen}, `"none"`},
	} {
		t.Run(name, func(t *testing.T) {
			var causes []Cause
			text := ""
			for _, fault := range test.policy.Faults() {
				causes = append(causes, fault.Cause)
				text += fault.Reason
				if fault.Mend == "" {
					t.Errorf("no mend: %+v", fault)
				}
			}
			if !slices.Equal(causes, test.want) || !strings.Contains(text, test.says) {
				t.Errorf("%q %q, want %q %q", causes, text, test.want, test.says)
			}
		})
	}
}

// The two halves of a set from nimbus cover different pods: one label of several is
// enough for Kyverno, KubeArmor asks for all.
func TestKyvernoCovers(t *testing.T) {
	either := kyverno(t, rule("{any: [{resources: {kinds: [v1/Pod], selector: {matchLabels: {app: web}}}}, {resources: {kinds: [v1/Pod], selector: {matchLabels: {tier: front}}}}]}", enforce,
		"exclude: {any: [{resources: {namespaces: [kube-system]}}]}"))
	type labels = map[string]string
	for _, test := range []struct {
		policy         *KyvernoRules
		namespace      string
		pod, nsLabels  labels
		covered, known bool
	}{
		{either, "shop", labels{"app": "web", "tier": "front"}, nil, true, true},
		{either, "shop", labels{"app": "web"}, nil, true, true},
		{either, "shop", labels{"tier": "back"}, nil, false, true},
		{either, "kube-system", labels{"app": "web"}, nil, false, true},
		{kyverno(t, rule("{any: [{resources: {kinds: [Pod], namespaceSelector: {matchLabels: {env: prod}}}}]}", enforce)), "shop", nil, nil, false, false},
		{kyverno(t, rule("{any: [{resources: {kinds: [Pod], namespaceSelector: {matchLabels: {env: prod}}}}]}", enforce)), "shop", nil, labels{}, false, true},
		{kyverno(t, rule("{any: [{resources: {kinds: [Pod], annotations: {a: b}}}]}", enforce)), "shop", nil, nil, false, false},
		{kyverno(t, rule("{any: [{resources: {kinds: [Pod], names: ['*']}}]}", enforce)), "shop", nil, nil, true, true},
		{kyverno(t, rule(pods, enforce, "exclude: {any: [{resources: {names: [db]}}]}")), "shop", nil, nil, false, false},
	} {
		covered, known := test.policy.Covers(test.namespace, test.pod, test.nsLabels)
		if known != test.known || known && covered != test.covered {
			t.Errorf("%s %v %v: %v %v, want %v %v", test.namespace, test.pod, test.nsLabels, covered, known, test.covered, test.known)
		}
	}
}

func TestDecodeKyvernoSaysWhatIsWrong(t *testing.T) {
	for object, want := range map[string]string{
		`{"metadata":{}}`: "no name",
		`[]`:              "ClusterPolicy",
		`{"metadata":{"name":"p"},"spec":{"rules":{}}}`:                                                                "ClusterPolicy p: ",
		`{"metadata":{"name":"p"},"spec":{"rules":[{"name":"r","validate":{"podSecurity":{"level":"high"}}}]}}`:        `ClusterPolicy p, rule "r": podSecurity.level "high"`,
		`{"metadata":{"name":"p"},"spec":{"rules":[{"validate":{"podSecurity":{"level":"baseline","version":"1"}}}]}}`: `podSecurity.version "1"`,
	} {
		if _, err := DecodeKyverno(kindClusterPolicy, []byte(object)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", object, err, want)
		}
	}
	if _, err := DecodeKyverno("ValidatingPolicy", []byte(`{"metadata":{"name":"p"}}`)); err == nil {
		t.Error("another kind is read")
	}
	if _, err := DecodeKyverno(kindPolicy, []byte(`{"metadata":{"name":"p"}}`)); err == nil {
		t.Error("a Policy without a namespace is read")
	}
	if _, err := DecodeKyvernoException([]byte(`{"spec":{"exceptions":3},"metadata":{"name":"x"}}`)); err == nil || !strings.Contains(err.Error(), "PolicyException x") {
		t.Errorf("%v", err)
	}
}

// Whatever an object holds, it is read or refused, and what is read can be asked.
func FuzzDecodeKyverno(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"p"},"spec":{"rules":[{"name":"r","match":{"any":[{"resources":{"kinds":["Pod"],"names":["*a?"]}}]},"validate":{"podSecurity":{"level":"restricted","exclude":[{"controlName":"Capabilities","images":["*"]}]}}}]}}`))
	f.Add([]byte(`{"metadata":{"name":"p"},"spec":{"rules":[{"match":{"all":[{"resources":{"kinds":["a/b/c/d/e"],"selector":{"matchExpressions":[{"key":"","operator":"?"}]}}}]},"exclude":{},"validate":{}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodeKyverno(kindClusterPolicy, data)
		x, failed := DecodeKyvernoException(data)
		if err != nil || failed != nil {
			return
		}
		pod := podOf(func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = nil })
		set := &Set{Kyverno: []*KyvernoRules{p}, Exceptions: []*KyvernoException{x}}
		d := set.Decide(Subject{Pod: pod, OwnerKind: "CronJob"})
		if d.Reason == "" {
			t.Error("no reason")
		}
		p.Faults()
		p.Covers("shop", nil, nil)
		set.Keys()
	})
}

func TestWild(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"?", "a", true}, {"?*", "", false},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "aXbY", false}, {"*a", "ba", true}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"**", "x", true}, {"a*", "ba", false},
		{strings.Repeat("*a", 200) + "b", strings.Repeat("a", 20_000), false},
	} {
		if got := wild(test.pattern, test.s); got != test.want {
			t.Errorf("%.20q %.20q: %v", test.pattern, test.s, got)
		}
	}
}
