package armor_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// ksp decodes a policy of namespace shop from the JSON of its spec.
func ksp(t testing.TB, name, spec string) *armor.Policy {
	t.Helper()
	p, err := armor.Decode(armor.KubeArmorPolicy, []byte(`{"metadata":{"name":"`+name+`","namespace":"shop"},"spec":`+spec+`}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func csp(t testing.TB, name, spec string) *armor.Policy {
	t.Helper()
	p, err := armor.Decode(armor.KubeArmorClusterPolicy, []byte(`{"metadata":{"name":"`+name+`"},"spec":`+spec+`}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecodeRefusesWhatIsNoPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		kind       armor.Kind
		data, want string
	}{
		"another kind asked for":  {"KubeArmorHostPolicy", `{}`, "not a kind"},
		"another kind inside":     {armor.KubeArmorPolicy, `{"kind":"Pod","metadata":{"name":"x"}}`, "is a Pod"},
		"another group":           {armor.KubeArmorPolicy, `{"apiVersion":"kyverno.io/v1","metadata":{"name":"x"}}`, "kyverno.io/v1"},
		"no name":                 {armor.KubeArmorPolicy, `{"spec":{}}`, "no name"},
		"no JSON":                 {armor.KubeArmorPolicy, `spec: {}`, "invalid character"},
		"paths that are no list":  {armor.KubeArmorPolicy, `{"metadata":{"name":"x"},"spec":{"process":{"matchPaths":"/bin/sh"}}}`, "matchPaths"},
		"a severity that is text": {armor.KubeArmorPolicy, `{"metadata":{"name":"x"},"spec":{"severity":"high"}}`, "severity"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := armor.Decode(c.kind, []byte(c.data))
			if err == nil || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestDecodeReadsWhatThePolicySaysOfItself(t *testing.T) {
	p, err := armor.Decode(armor.KubeArmorPolicy, []byte(`{
		"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
		"metadata": {"name": "x", "namespace": "shop", "labels": {"a": "b"}},
		"spec": {"severity": 7, "tags": ["T1611"], "message": "no", "action": "Audit",
			"selector": {"matchLabels": {"app": "web", "kubearmor.io/container.name": "[web, side]"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.String() != "KubeArmorPolicy shop/x" || p.Severity != 7 || p.Message != "no" || p.Action != armor.Audit || !slices.Equal(p.Tags, []string{"T1611"}) {
		t.Errorf("%+v", p)
	}
	if !slices.Equal(p.Selector.Containers, []string{"web", "side"}) || len(p.Selector.Labels) != 1 {
		t.Errorf("selector %+v", p.Selector)
	}
	if c := csp(t, "c", `{}`); c.Namespace != "" || c.Action != armor.Block {
		t.Errorf("%+v", c)
	}
	if d, err := armor.Decode(armor.KubeArmorPolicy, []byte(`{"metadata":{"name":"x"}}`)); err != nil || d.Namespace != "default" {
		t.Errorf("a policy without a namespace: %v, %v", d, err)
	}
}

// What KubeArmor makes nothing of is told, with its place.
func TestDecodeTellsProblems(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"relative path":         {`{"process":{"matchPaths":[{"path":"apt"}]}}`, "spec.process.matchPaths[0].path"},
		"path with slash":       {`{"process":{"matchPaths":[{"path":"/bin/"}]}}`, "spec.process.matchPaths[0].path"},
		"path too long":         {`{"process":{"matchPaths":[{"path":"/` + strings.Repeat("x", 199) + `"}]}}`, "does not fit"},
		"folder without slash":  {`{"process":{"matchDirectories":[{"dir":"/bin"}]}}`, "spec.process.matchDirectories[0].dir"},
		"program name a path":   {`{"process":{"matchPaths":[{"execname":"/bin/apt"}]}}`, "execname"},
		"relative caller":       {`{"process":{"matchPaths":[{"path":"/bin/apt","fromSource":[{"path":"sh"}]}]}}`, "fromSource[0]"},
		"rule action odd case":  {`{"process":{"matchPaths":[{"path":"/bin/apt","action":"block"}]}}`, "matchPaths[0].action"},
		"policy action unknown": {`{"action":"BLOCK"}`, "spec.action"},
		"capability unknown":    {`{"capabilities":{"matchCapabilities":[{"capability":"sys_everything"}]}}`, "chown"},
		"capability upper case": {`{"capabilities":{"matchCapabilities":[{"capability":"CAP_SYS_ADMIN"}]}}`, "chown"},
		"expression on a key":   {`{"selector":{"matchExpressions":[{"key":"app","operator":"In","values":["web"]}]}}`, "matchExpressions[0]"},
		"expression Exists":     {`{"selector":{"matchExpressions":[{"key":"label","operator":"Exists"}]}}`, "matchExpressions[0]"},
		"host pattern broken":   {`{"selector":{"matchLabels":{"kubernetes.io/hostname":"("}}}`, "matchLabels.kubernetes.io/hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			p := ksp(t, "x", c.spec)
			if len(p.Problems) != 1 || !strings.Contains(p.Problems[0], c.want) {
				t.Errorf("problems %q, want one with %q", p.Problems, c.want)
			}
		})
	}
	if p := csp(t, "x", `{"selector":{"matchLabels":{"app":"web"}}}`); len(p.Problems) != 1 || !p.Selects("any", nil) {
		t.Errorf("matchLabels in a cluster policy: problems %q", p.Problems)
	}
	for _, fine := range []string{`{}`, `{"action":"block"}`, `{"process":{"matchPaths":[{"path":"/opt/a b*"}]},"action":"Audit"}`,
		`{"capabilities":{"matchCapabilities":[{"capability":"cap_sys_module"},{"capability":"SYS_ADMIN"},{"capability":"bpf"}]}}`} {
		if p := ksp(t, "x", fine); len(p.Problems) > 0 {
			t.Errorf("%s: %q", fine, p.Problems)
		}
	}
}

func TestActionsAreInherited(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want armor.Status
	}{
		"none is Block":                    {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"}]}}`, armor.Blocked},
		"the policy's":                     {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"}]},"action":"Audit"}`, armor.Audited},
		"the policy's in lower case":       {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"}]},"action":"block"}`, armor.Blocked},
		"the policy's in upper case":       {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"}]},"action":"BLOCK"}`, armor.NotCovered},
		"the section's before the policy":  {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"}],"action":"Block"},"action":"Audit"}`, armor.Blocked},
		"the rule's before all":            {`{"process":{"matchPaths":[{"path":"/usr/bin/apt","action":"Block"}],"action":"Allow"},"action":"Audit"}`, armor.Blocked},
		"the rule's in lower case is none": {`{"process":{"matchPaths":[{"path":"/usr/bin/apt","action":"block"}]}}`, armor.NotCovered},
		"the last rule of a policy wins":   {`{"process":{"matchPaths":[{"path":"/usr/bin/apt"},{"path":"/usr/bin/apt","action":"Allow"}]}}`, armor.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			got := armor.Predict([]*armor.Policy{ksp(t, "x", c.spec)}, enforced("debian:12"), "c", armor.Deed{Exec: "/usr/bin/apt"})
			if got.Status != c.want {
				t.Errorf("%s (%s), want %s", got.Status, got.Reason, c.want)
			}
		})
	}
}

func TestCapabilityNames(t *testing.T) {
	for spelling, want := range map[string]map[string]armor.Status{
		"sys_module":     {"SYS_MODULE": armor.Blocked, "cap_sys_module": armor.Blocked, "CAP_SYS_MODULE": armor.Blocked, "SYS_ADMIN": armor.NotCovered},
		"cap_sys_module": {"SYS_MODULE": armor.Blocked},
		"SYS_MODULE":     {"SYS_MODULE": armor.Blocked},
		// KubeArmor looks for a lower-case "cap_", does not find it, and ends at number 0.
		"CAP_sys_module": {"SYS_MODULE": armor.NotCovered, "CHOWN": armor.Blocked},
		"nonsense":       {"CHOWN": armor.Blocked},
		// One list makes lists of all.
		"sys_module, sys_admin": {"SYS_MODULE": armor.Blocked, "SYS_ADMIN": armor.Blocked, "CHOWN": armor.NotCovered},
	} {
		p := ksp(t, "x", `{"capabilities":{"matchCapabilities":[{"capability":"`+spelling+`"}]}}`)
		for asked, status := range want {
			if got := armor.Predict([]*armor.Policy{p}, enforced("debian:12"), "c", armor.Deed{Capability: asked}); got.Status != status {
				t.Errorf("rule on %q, asked for %s: %s (%s), want %s", spelling, asked, got.Status, got.Reason, status)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"name":"x","namespace":"shop"},"spec":{"selector":{"matchLabels":{"app":"web"}},"process":{"matchPaths":[{"path":"/bin/apt"}]},"action":"Block"}}`,
		`{"metadata":{"name":"x"},"spec":{"selector":{"matchExpressions":[{"key":"label","operator":"NotIn","values":["a=b","c"]}]},"capabilities":{"matchCapabilities":[{"capability":"sys_admin,","fromSource":[{"path":"/x"}]}]}}}`,
		`{"metadata":{"name":"x"},"spec":{"selector":{"matchLabels":{"kubernetes.io/hostname":"(","kubearmor.io/container.name":"[]"}},"file":{"matchDirectories":[{"dir":"/"},{"dir":"//"}],"matchPatterns":[{"pattern":"/*"}]},"process":{"matchDirectories":[{"dir":"/usr/","recursive":true}],"matchPatterns":[{"pattern":""}]},"action":"allow"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []armor.Kind{armor.KubeArmorPolicy, armor.KubeArmorClusterPolicy} {
			p, err := armor.Decode(kind, data)
			if (p == nil) == (err == nil) {
				t.Fatalf("policy %v, error %v", p, err)
			}
			if err != nil {
				continue
			}
			labels := map[string]string{"app": "web", "a": "b"}
			ix := armor.NewIndex([]*armor.Policy{p})
			if got := len(ix.Select(p.Namespace, labels)) == 1; got != p.Selects(p.Namespace, labels) {
				t.Fatalf("index %v, policy %v", got, !got)
			}
			pod := enforced("alpine")
			armor.Judge(ix.Policies(), pod)
			for _, deed := range []armor.Deed{{Exec: "/bin/apt"}, {Capability: "SYS_ADMIN"}} {
				if o := armor.Predict(ix.Policies(), pod, "c", deed); o.Status == "" || o.Reason == "" {
					t.Fatalf("%+v: %+v", deed, o)
				}
			}
		}
	})
}
