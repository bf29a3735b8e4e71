package armor_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

func TestSelectorsSelectAsInKubeArmor(t *testing.T) {
	type labels = map[string]string
	for name, c := range map[string]struct {
		cluster   bool
		selector  string
		namespace string
		labels    labels
		want      bool
	}{
		"empty selector is the namespace":         {false, `{}`, "shop", nil, true},
		"another namespace is not":                {false, `{}`, "bank", nil, false},
		"labels are all needed":                   {false, `{"matchLabels":{"app":"web","tier":"db"}}`, "shop", labels{"app": "web"}, false},
		"labels all there":                        {false, `{"matchLabels":{"app":"web","tier":"db"}}`, "shop", labels{"app": "web", "tier": "db", "x": "y"}, true},
		"a label with another value":              {false, `{"matchLabels":{"app":"web"}}`, "shop", labels{"app": "webs"}, false},
		"the template hash is no label":           {false, `{"matchLabels":{"pod-template-hash":"1"}}`, "shop", labels{"pod-template-hash": "1"}, false},
		"a container name is no label":            {false, `{"matchLabels":{"kubearmor.io/container.name":"[web]"}}`, "shop", nil, true},
		"a host name that the pod lacks is met":   {false, `{"matchLabels":{"kubernetes.io/hostname":"node1"}}`, "shop", nil, true},
		"a host name that differs":                {false, `{"matchLabels":{"kubernetes.io/hostname":"node1"}}`, "shop", labels{"kubernetes.io/hostname": "vm2"}, false},
		"a host name is a pattern":                {false, `{"matchLabels":{"kubernetes.io/hostname":"node.*"}}`, "shop", labels{"kubernetes.io/hostname": "node7"}, true},
		"In: one of them":                         {false, `{"matchExpressions":[{"key":"label","operator":"In","values":["app=web","app=api"]}]}`, "shop", labels{"app": "api"}, true},
		"In: none of them":                        {false, `{"matchExpressions":[{"key":"label","operator":"In","values":["app=web","app=api"]}]}`, "shop", labels{"app": "db"}, false},
		"two In are one":                          {false, `{"matchExpressions":[{"key":"label","operator":"In","values":["app=web"]},{"key":"label","operator":"In","values":["tier=db"]}]}`, "shop", labels{"tier": "db"}, true},
		"In and labels":                           {false, `{"matchLabels":{"env":"dev"},"matchExpressions":[{"key":"label","operator":"In","values":["app=web"]}]}`, "shop", labels{"app": "web"}, false},
		"In of no value selects all":              {false, `{"matchExpressions":[{"key":"label","operator":"In","values":[]}]}`, "shop", nil, true},
		"In can name the namespace":               {false, `{"matchExpressions":[{"key":"label","operator":"In","values":["namespaceName=shop"]}]}`, "shop", nil, true},
		"NotIn: carried":                          {false, `{"matchExpressions":[{"key":"label","operator":"NotIn","values":["app=web"]}]}`, "shop", labels{"app": "web"}, false},
		"NotIn: not carried":                      {false, `{"matchExpressions":[{"key":"label","operator":"NotIn","values":["app=web"]}]}`, "shop", nil, true},
		"NotIn after In is dropped":               {false, `{"matchExpressions":[{"key":"label","operator":"In","values":["app=web"]},{"key":"label","operator":"NotIn","values":["env=dev"]}]}`, "shop", labels{"app": "web", "env": "dev"}, true},
		"NotIn before In decides alone":           {false, `{"matchExpressions":[{"key":"label","operator":"NotIn","values":["env=dev"]},{"key":"label","operator":"In","values":["app=web"]}]}`, "shop", nil, true},
		"cluster: empty selector is everything":   {true, `{}`, "anywhere", nil, true},
		"cluster: matchLabels are not read":       {true, `{"matchLabels":{"app":"web"}}`, "anywhere", nil, true},
		"cluster: namespace In":                   {true, `{"matchExpressions":[{"key":"namespace","operator":"In","values":["shop","bank"]}]}`, "bank", nil, true},
		"cluster: namespace not In":               {true, `{"matchExpressions":[{"key":"namespace","operator":"In","values":["shop"]}]}`, "bank", nil, false},
		"cluster: In of no namespace is none":     {true, `{"matchExpressions":[{"key":"namespace","operator":"In"}]}`, "bank", nil, false},
		"cluster: namespace NotIn":                {true, `{"matchExpressions":[{"key":"namespace","operator":"NotIn","values":["shop"]}]}`, "shop", nil, false},
		"cluster: other namespaces":               {true, `{"matchExpressions":[{"key":"namespace","operator":"NotIn","values":["shop"]}]}`, "bank", nil, true},
		"cluster: In goes before NotIn":           {true, `{"matchExpressions":[{"key":"namespace","operator":"NotIn","values":["shop"]},{"key":"namespace","operator":"In","values":["shop"]}]}`, "shop", nil, true},
		"cluster: namespace and label":            {true, `{"matchExpressions":[{"key":"namespace","operator":"In","values":["shop"]},{"key":"label","operator":"In","values":["app=web"]}]}`, "shop", labels{"app": "db"}, false},
		"cluster: namespace and label both there": {true, `{"matchExpressions":[{"key":"namespace","operator":"In","values":["shop"]},{"key":"label","operator":"In","values":["app=web"]}]}`, "shop", labels{"app": "web"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			decode := ksp
			if c.cluster {
				decode = csp
			}
			p := decode(t, "x", `{"selector":`+c.selector+`}`)
			if got := p.Selects(c.namespace, c.labels); got != c.want {
				t.Errorf("policy: %v, want %v", got, c.want)
			}
			if got := len(armor.NewIndex([]*armor.Policy{p}).Select(c.namespace, c.labels)) == 1; got != c.want {
				t.Errorf("index: %v, want %v", got, c.want)
			}
		})
	}
}

// world makes policies and pods whose selectors and labels overlap in every way.
func world(t testing.TB, policies, pods int) ([]*armor.Policy, []armor.Pod) {
	random := rand.New(rand.NewPCG(1, 2))
	namespace := func() string { return fmt.Sprintf("ns%d", random.IntN(50)) }
	label := func() (string, string) {
		return fmt.Sprintf("key%d", random.IntN(8)), fmt.Sprintf("v%d", random.IntN(40))
	}
	var made []*armor.Policy
	for i := range policies {
		var labels, pairs string
		for n := range 1 + random.IntN(2) {
			key, value := label()
			if n > 0 {
				labels, pairs = labels+",", pairs+","
			}
			labels += fmt.Sprintf("%q:%q", key, value)
			pairs += fmt.Sprintf("%q", key+"="+value)
		}
		kind, selector := armor.KubeArmorPolicy, `{"matchLabels":{`+labels+`}}`
		switch i % 10 {
		case 0:
			selector = `{}`
		case 1:
			selector = `{"matchExpressions":[{"key":"label","operator":"In","values":[` + pairs + `]}]}`
		case 2:
			kind, selector = armor.KubeArmorClusterPolicy, fmt.Sprintf(`{"matchExpressions":[{"key":"namespace","operator":"In","values":[%q,%q]},{"key":"label","operator":"In","values":[%s]}]}`, namespace(), namespace(), pairs)
		case 3:
			kind, selector = armor.KubeArmorClusterPolicy, fmt.Sprintf(`{"matchExpressions":[{"key":"namespace","operator":"NotIn","values":[%q]},{"key":"label","operator":"In","values":[%s]}]}`, namespace(), pairs)
		case 4:
			if i%50 == 4 {
				selector = `{"matchExpressions":[{"key":"label","operator":"NotIn","values":[` + pairs + `]}]}`
			}
		}
		object := fmt.Sprintf(`{"metadata":{"name":"p%d","namespace":%q},"spec":{"selector":%s,"process":{"matchPaths":[{"path":"/usr/sbin/chroot"}]}}}`, i, namespace(), selector)
		p, err := armor.Decode(kind, []byte(object))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, p)
	}
	var all []armor.Pod
	for range pods {
		pod := enforced("debian:12")
		pod.Namespace, pod.Labels = namespace(), map[string]string{"pod-template-hash": "5f6d"}
		for range 5 {
			key, value := label()
			pod.Labels[key] = value
		}
		all = append(all, pod)
	}
	return made, all
}

func TestIndexSelectsWhatThePoliciesSelect(t *testing.T) {
	policies, pods := world(t, 500, 2000)
	shuffled := slices.Clone(policies)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	ix, other := armor.NewIndex(policies), armor.NewIndex(shuffled)
	all := ix.Policies()
	selected := 0
	for _, pod := range pods {
		var want []*armor.Policy
		for _, p := range all {
			if p.Selects(pod.Namespace, pod.Labels) {
				want = append(want, p)
			}
		}
		got := ix.Select(pod.Namespace, pod.Labels)
		if !slices.Equal(got, want) {
			t.Fatalf("%s %v: %d policies, want %d", pod.Namespace, pod.Labels, len(got), len(want))
		}
		if again := other.Select(pod.Namespace, pod.Labels); !slices.Equal(names(again), names(got)) {
			t.Fatalf("the order of the policies changes what is selected: %v, %v", names(again), names(got))
		}
		selected += len(got)
	}
	if selected < len(pods) {
		t.Errorf("%d selections in %d pods: the test tests little", selected, len(pods))
	}
}

func names(policies []*armor.Policy) []string {
	var all []string
	for _, p := range policies {
		all = append(all, p.String())
	}
	return all
}

// Pods that agree in the label keys are selected alike.
func TestLabelKeysAreAllThatDecide(t *testing.T) {
	policies, pods := world(t, 300, 500)
	ix := armor.NewIndex(policies[:40])
	keys := ix.LabelKeys()
	if !slices.IsSorted(keys) || !slices.Contains(keys, "io.cilium/app") {
		t.Fatalf("keys %v", keys)
	}
	for _, pod := range pods {
		only := map[string]string{"noise": "x"}
		for _, key := range keys {
			if value, ok := pod.Labels[key]; ok {
				only[key] = value
			}
		}
		if !slices.Equal(ix.Select(pod.Namespace, pod.Labels), ix.Select(pod.Namespace, only)) {
			t.Fatalf("%v and %v are selected differently", pod.Labels, only)
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	policies, pods := world(b, 500, 10000)
	ix := armor.NewIndex(policies)
	b.Run("indexed", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			pod := &pods[i%len(pods)]
			i++
			ix.Select(pod.Namespace, pod.Labels)
		}
	})
	b.Run("one-by-one", func(b *testing.B) {
		i := 0
		for b.Loop() {
			pod := &pods[i%len(pods)]
			i++
			for _, p := range policies {
				p.Selects(pod.Namespace, pod.Labels)
			}
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	set := recordedPolicies(b, "escape-block.yaml")
	looked := enforced("debian:12")
	looked.Containers[0].Paths = lookInto("debian:12", armor.PathsToInspect(set))
	for name, c := range map[string]struct {
		policies []*armor.Policy
		pod      armor.Pod
	}{
		"no-policy": {nil, enforced("debian:12")},
		"the-set":   {set, enforced("debian:12")},
		"looked":    {set, looked},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				armor.Judge(c.policies, c.pod)
			}
		})
	}
}
