package set_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// armorPolicies reads the KubeArmor policies of a set as a scan reads them.
func armorPolicies(t testing.TB, s *set.Set, form func(*set.Object) *unstructured.Unstructured) []*armor.Policy {
	t.Helper()
	var all []*armor.Policy
	for i := range s.Objects {
		u := form(&s.Objects[i])
		if u == nil || !strings.HasPrefix(u.GetKind(), "KubeArmor") {
			continue
		}
		data, err := u.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		p, err := armor.Decode(armor.Kind(u.GetKind()), data)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Problems) > 0 {
			t.Errorf("%s: %v", p.Ref, p.Problems)
		}
		all = append(all, p)
	}
	return all
}

// covers are what the policies do in an ordinary container of a pod, by element.
func covers(policies []*armor.Policy, namespace string, labels map[string]string, paths map[string]string) map[string]armor.Cover {
	var selecting []*armor.Policy
	for _, p := range policies {
		if p.Selects(namespace, labels) {
			selecting = append(selecting, p)
		}
	}
	j := armor.Judge(selecting, armor.Pod{
		Namespace: namespace, Labels: labels,
		Node:       kernel.Enforcement{Processes: kernel.Yes, Capabilities: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf"},
		Containers: []armor.Container{{Name: "c", Image: "registry.example/app:1", Kind: armor.Ordinary, Paths: paths}},
	})
	by := map[string]armor.Cover{}
	for _, c := range j.Containers[0].Covers {
		by[c.Element.Name] = c
	}
	return by
}

// Whatever is chosen of the set, for whatever scope: in an ordinary container in scope
// each chosen element is blocked, all its paths are, no other element is, and outside of
// the scope nothing is.
func TestPoliciesBlockTheChosenInScopeOnly(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 2026))
	namespaces := []string{"shop", "web", "infra", "team-a", "kube-system", "kubearmor", "scanner"}
	labels := []map[string]string{
		{"app": "web"}, {"app": "web", "tier": "front"}, {"app.kubernetes.io/name": "x", "empty": ""}, {"tier": "front"},
	}
	var elements []string
	for _, e := range armor.Elements() {
		elements = append(elements, e.Name)
	}
	for range 200 {
		o := options(func(o *set.Options) {
			switch r.IntN(3) {
			case 0:
				o.Scope.Namespaces = some(r, namespaces[:4])
			case 1:
				o.Scope.Exclude, o.Scope.Own = some(r, namespaces[:3]), "scanner"
			}
			if r.IntN(2) == 0 {
				o.Scope.Labels = labels[r.IntN(len(labels))]
			}
			if r.IntN(2) == 0 {
				o.Only = some(r, append(elements, "tools", "capabilities"))
			}
		})
		s := render(t, o, set.Facts{Namespaces: namespaces})
		policies := armorPolicies(t, s, func(o *set.Object) *unstructured.Unstructured { return o.Enforce })
		for _, ns := range append(namespaces, "to-come") {
			for _, podLabels := range append(labels, nil, map[string]string{"app": "web", "tier": "front", "more": "x"}, map[string]string{"app": "webs"}) {
				in := o.Scope.Includes(ns, podLabels)
				if ns == "to-come" && len(o.Scope.Namespaces) == 0 && len(o.Scope.Labels) > 1 {
					in = false // As the notes say.
				}
				what := fmt.Sprintf("scope %+v, only %v, in %s with %v", o.Scope, o.Only, ns, podLabels)
				checkCovers(t, what, s, in, covers(policies, ns, podLabels, nil))
			}
		}
	}
}

func checkCovers(t *testing.T, what string, s *set.Set, in bool, by map[string]armor.Cover) {
	t.Helper()
	chosen := s.Chosen()
	for _, e := range armor.Elements() {
		want := armor.NotCovered
		if in && slices.ContainsFunc(chosen, func(c armor.Element) bool { return c.Name == e.Name }) {
			want = armor.Blocked
		}
		c := by[e.Name]
		if c.Status != want || len(c.Missing) > 0 {
			t.Errorf("%s: %s is %s (missing %v), want %s", what, e.Name, c.Status, c.Missing, want)
		}
	}
}

func some(r *rand.Rand, from []string) []string {
	picked := slices.Clone(from)
	r.Shuffle(len(picked), func(i, k int) { picked[i], picked[k] = picked[k], picked[i] })
	return picked[:1+r.IntN(len(picked))]
}

// Where programs lie behind symbolic links, in folders of a merged /usr, or as hard links,
// the set still blocks each of them; behind a link to BusyBox none can be, and that is said.
func TestPoliciesBlockTheRealFiles(t *testing.T) {
	t.Parallel()
	s := render(t, options(nil), set.Facts{})
	policies := armorPolicies(t, s, (*set.Object).Final)
	for name, test := range map[string]struct {
		named, real, element string
		want                 armor.Status
	}{
		"Debian":                     {"/bin/apt", "/usr/bin/apt", "apt", armor.Blocked},
		"Fedora 42, dnf":             {"/usr/bin/dnf", "/usr/bin/dnf5", "dnf", armor.Blocked},
		"RHEL 9, yum":                {"/usr/bin/yum", "/usr/bin/dnf-3", "yum", armor.Blocked},
		"Fedora 42, chroot":          {"/usr/sbin/chroot", "/usr/bin/chroot", "chroot", armor.Blocked},
		"Fedora 42, wget":            {"/usr/bin/wget", "/usr/bin/wget2", "wget", armor.Blocked},
		"Ubuntu 26.04, chroot":       {"/usr/sbin/chroot", "/usr/lib/cargo/bin/coreutils/chroot", "chroot", armor.Blocked},
		"Ubuntu 26.04, GNU's chroot": {"/usr/sbin/chroot", "/usr/sbin/gnuchroot", "chroot", armor.Blocked},
		"Alpine 3.23, apk":           {"/sbin/apk", "/usr/sbin/apk", "apk", armor.Blocked},
		"busybox of hard links":      {"/bin/wget", "/bin/wget", "wget", armor.Blocked},
		"Alpine, wget":               {"/usr/bin/wget", "/bin/busybox", "wget", armor.NotCovered},
		"Alpine, chroot":             {"/usr/sbin/chroot", "/bin/busybox", "chroot", armor.NotCovered},
	} {
		if got := covers(policies, "shop", nil, map[string]string{test.named: test.real})[test.element]; got.Status != test.want {
			t.Errorf("%s: %s, really %s, is %s, want %s", name, test.named, test.real, got.Status, test.want)
		}
	}
	if !slices.ContainsFunc(s.Notes, func(n string) bool {
		return strings.Contains(n, "BusyBox") && strings.Contains(n, "chroot, dpkg, rpm, wget cannot be blocked")
	}) {
		t.Errorf("nothing says so: %q", s.Notes)
	}
}

// Every path and capability of the policies that were recorded at work is in ours, and
// alerts of two parts can be told apart.
func TestPoliciesHaveAllOfTheRecordedOnes(t *testing.T) {
	t.Parallel()
	type armorPolicy struct {
		Spec struct {
			Severity     int
			Tags         []string
			Message      string
			Process      struct{ MatchPaths []struct{ Path string } }
			Capabilities struct{ MatchCapabilities []struct{ Capability string } }
		}
	}
	rules := func(p armorPolicy) map[string]bool {
		all := map[string]bool{}
		for _, rule := range p.Spec.Process.MatchPaths {
			all[rule.Path] = true
		}
		for _, rule := range p.Spec.Capabilities.MatchCapabilities {
			all[rule.Capability] = true
		}
		return all
	}
	data, err := os.ReadFile(filepath.Join("testdata", "recorded", "escape-block.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := render(t, options(nil), set.Facts{})
	messages := map[string]bool{}
	for i, document := range bytes.Split(data, []byte("\n---\n")) {
		var recorded, ours armorPolicy
		if err := yaml.Unmarshal(document, &recorded); err != nil {
			t.Fatal(err)
		}
		text, err := s.Objects[i].Enforce.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &ours); err != nil {
			t.Fatal(err)
		}
		have := rules(ours)
		for rule := range rules(recorded) {
			if !have[rule] {
				t.Errorf("%s: %s is missing", s.Objects[i].Part, rule)
			}
		}
		if len(rules(recorded)) == 0 {
			t.Errorf("%s: nothing was recorded", s.Objects[i].Part)
		}
		spec := ours.Spec
		if spec.Severity == 0 || messages[spec.Message] || !slices.ContainsFunc(spec.Tags, func(tag string) bool { return strings.Contains(tag, "T1611") }) {
			t.Errorf("%s: severity %d, message %q, tags %v", s.Objects[i].Part, spec.Severity, spec.Message, spec.Tags)
		}
		messages[spec.Message] = true
	}
}

// In a cluster several labels cannot be asked for at once, so each namespace has a policy.
func TestSeveralLabelsInTheCluster(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "web", "tier": "front"}
	s := render(t, options(func(o *set.Options) {
		o.Scope, o.Only = targets.Scope{Labels: labels, Exclude: []string{"infra"}}, []string{"chroot"}
	}), set.Facts{Namespaces: []string{"web", "infra", "shop", "kube-system"}})
	var places []string
	for i := range s.Objects {
		u := s.Objects[i].Enforce
		got, _, _ := unstructured.NestedStringMap(u.Object, "spec", "selector", "matchLabels")
		if !maps.Equal(got, labels) {
			t.Errorf("selects by %v", got)
		}
		places = append(places, u.GetKind()+" "+u.GetNamespace())
	}
	if !slices.Equal(places, []string{"KubeArmorPolicy shop", "KubeArmorPolicy web"}) {
		t.Errorf("policies: %v", places)
	}
	if !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "namespaces to come need a new apply") }) {
		t.Errorf("it is not said: %q", s.Notes)
	}
}
