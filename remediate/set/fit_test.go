package set_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// workload is a Deployment with one ordinary container, c, and pods with more labels than
// it selects by.
func workload(namespace, name string, selector map[string]string, security *corev1.SecurityContext, paths map[string]string) targets.Workload {
	labels := maps.Clone(selector)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["pod-template-hash"] = "7d9f"
	s := targets.Specimen{Live: 1, Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-x", Labels: labels},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "init", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}},
			Containers:     []corev1.Container{{Name: "c", SecurityContext: security}},
		},
	}}
	if paths != nil {
		s.Inspected = map[string]map[string]string{"c": paths}
	}
	return targets.Workload{
		Workload: scan.Workload{Namespace: namespace, Kind: "Deployment", Name: name}, Specimens: []targets.Specimen{s}, Selector: selector,
	}
}

// looked is what was found in a container that has these programs alone.
func looked(have ...string) map[string]string {
	paths := map[string]string{}
	for _, file := range armor.PathsToInspect(nil) {
		paths[file] = ""
		if slices.Contains(have, file) {
			paths[file] = file
		}
	}
	return paths
}

func dropped() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func added(names ...corev1.Capability) *corev1.SecurityContext {
	s := dropped()
	s.Capabilities.Add = names
	return s
}

func preciseFacts(t testing.TB) set.Facts {
	t.Helper()
	app := func(name string) map[string]string { return map[string]string{"app": name} }
	return set.Facts{
		Namespaces: []string{"shop", "web", "kube-system", "empty"},
		Workloads: []targets.Workload{
			// Nothing is known against the plain one: the runtime's defaults, and any tool.
			workload("shop", "plain", app("plain"), nil, nil),
			workload("shop", "tight", app("tight"), dropped(), looked()),
			workload("shop", "fuse", app("fuse"), added("SYS_ADMIN"), looked("/usr/bin/curl")),
			workload("web", "one", app("one"), dropped(), looked()),
			workload("kube-system", "proxy", app("proxy"), added("SYS_ADMIN"), nil),
		},
	}
}

// inContainers are, by workload, the elements that are blocked in its container.
func inContainers(t testing.TB, s *set.Set, workloads []targets.Workload) map[string]string {
	t.Helper()
	policies := armorPolicies(t, s, (*set.Object).Final)
	got := map[string]string{}
	for _, w := range workloads {
		var names []string
		pod := w.Specimens[0].Pod
		for _, e := range armor.Elements() {
			if covers(policies, w.Namespace, pod.Labels, nil)[e.Name].Status == armor.Blocked {
				names = append(names, e.Name)
			}
		}
		got[w.Name] = strings.Join(names, " ")
	}
	return got
}

func sparedOf(s *set.Set) map[string]string {
	got := map[string]string{}
	for _, spared := range s.Spared {
		for _, e := range spared.Elements {
			got[spared.Workload.Name+" "+e.Name] = spared.Reason
		}
	}
	return got
}

func TestPreciseForbidsWhatProtects(t *testing.T) {
	t.Parallel()
	facts := preciseFacts(t)
	s := render(t, options(func(o *set.Options) {
		o.Fit, o.Only = set.FitPrecise, []string{"capabilities", "chroot", "curl", "wget"}
	}), facts)
	got := inContainers(t, s, facts.Workloads)
	want := map[string]string{
		"plain": "dac_override chroot curl wget", "tight": "", "fuse": "sys_admin curl", "one": "", "proxy": "",
	}
	if !maps.Equal(got, want) {
		t.Errorf("forbidden are\n%v, want\n%v", got, want)
	}
	spared := sparedOf(s)
	for key, want := range map[string]string{
		"plain sys_admin":    "nothing gives it; without a seccomp profile",
		"plain sys_module":   "nothing gives it",
		"plain dac_override": "", "plain curl": "", "fuse sys_admin": "", "fuse curl": "",
		"tight sys_admin":    "it is dropped",
		"tight dac_override": "it is dropped",
		"tight chroot":       "looked into",
		"fuse wget":          "looked into",
		"proxy sys_module":   "",
	} {
		if reason, ok := spared[key]; ok != (want != "") || !strings.Contains(reason, want) {
			t.Errorf("%s is spared %v (%s), want %q", key, ok, reason, want)
		}
	}
	if reason := spared["tight sys_admin"]; strings.Contains(reason, "seccomp") {
		t.Errorf("a container with a seccomp profile: %s", reason)
	}
	full := render(t, options(func(o *set.Options) { o.Only = []string{"capabilities", "chroot", "curl", "wget"} }), facts)
	if !maps.Equal(sparedOf(full), spared) {
		t.Errorf("a full set tells another story of what precise spares: %v", sparedOf(full))
	}
	if render(t, options(nil), set.Facts{}).Spared != nil {
		t.Error("spared, and no workload is known")
	}
}

// No element that protects something on a workload is left out of it, whatever its labels
// are, and no policy reaches out of the scope.
func TestPreciseLeavesOutNothingThatIsNeeded(t *testing.T) {
	t.Parallel()
	needy := func() *corev1.SecurityContext { return added("SYS_ADMIN", "SYS_MODULE") }
	for name, workloads := range map[string][]targets.Workload{
		"no labels of its own":         {workload("shop", "needy", nil, needy(), nil), workload("shop", "other", map[string]string{"app": "other"}, dropped(), looked())},
		"labels of others":             {workload("shop", "needy", map[string]string{"app": "x"}, needy(), nil), workload("shop", "other", map[string]string{"app": "x", "tier": "y"}, dropped(), looked())},
		"the same labels":              {workload("shop", "needy", map[string]string{"app": "x"}, needy(), nil), workload("shop", "other", map[string]string{"app": "x"}, added("SYS_PTRACE"), looked())},
		"the labels of the scope":      {workload("shop", "needy", map[string]string{"team": "a"}, needy(), nil), workload("shop", "other", map[string]string{"team": "a", "app": "y"}, dropped(), looked())},
		"labels that go with the pods": {workload("shop", "needy", map[string]string{"batch.kubernetes.io/controller-uid": "1", "pod-template-hash": "7d9f"}, needy(), nil), workload("shop", "other", map[string]string{"app": "y"}, dropped(), looked())},
		"alone":                        {workload("shop", "needy", map[string]string{"app": "x"}, needy(), nil)},
	} {
		for _, scope := range []targets.Scope{{}, {Namespaces: []string{"shop", "empty"}}, {Labels: map[string]string{"team": "a"}}} {
			in := slices.Clone(workloads)
			if len(scope.Labels) > 0 {
				in = slices.DeleteFunc(in, func(w targets.Workload) bool { return w.Selector["team"] != "a" })
			}
			facts := set.Facts{Namespaces: []string{"shop", "empty"}, Workloads: in}
			s := render(t, options(func(o *set.Options) { o.Fit, o.Scope = set.FitPrecise, scope }), facts)
			got := inContainers(t, s, in)
			for _, w := range in {
				for _, e := range s.Chosen() {
					_, spared := sparedOf(s)[w.Name+" "+e.Name]
					if !spared && !slices.Contains(strings.Fields(got[w.Name]), e.Name) {
						t.Errorf("%s, scope %v: %s is not forbidden in %s", name, scope, e.Name, w.Name)
					}
				}
			}
			for _, p := range armorPolicies(t, s, (*set.Object).Final) {
				if p.Selects("elsewhere", map[string]string{"app": "x", "team": "a"}) || len(scope.Labels) > 0 && p.Selects("shop", map[string]string{"app": "x"}) {
					t.Errorf("%s, scope %v: %s reaches out of it", name, scope, p.Ref)
				}
			}
		}
	}
}

func TestPreciseSaysWhomItIsFor(t *testing.T) {
	t.Parallel()
	workloads := []targets.Workload{
		workload("shop", "needy", map[string]string{"app": "x"}, added("SYS_ADMIN"), looked()),
		workload("shop", "other", map[string]string{"app": "x", "tier": "y"}, dropped(), looked()),
		workload("shop", "bare", nil, added("SYS_MODULE"), looked()),
	}
	s := render(t, options(func(o *set.Options) { o.Fit, o.Scope.Namespaces = set.FitPrecise, []string{"shop", "void"} }), set.Facts{Workloads: workloads})
	var why []string
	for i := range s.Objects {
		why = append(why, fmt.Sprintf("%s: %q", s.Objects[i].Final().GetName(), s.Objects[i].Why))
	}
	text := strings.Join(append(why, s.Notes...), "\n")
	for _, want := range []string{
		"sys_admin: needed on Deployment shop/needy",
		"The labels of Deployment shop/needy select pods of Deployment shop/other too, which get sys_admin with it.",
		"Deployment shop/bare has no labels of its own, so sys_module holds for all of its namespace",
		"Namespace void has no workloads in scope",
		"what comes to a namespace gets what the whole namespace has",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}
}

// A cluster has namespaces that a precise fit does not reach, and says so.
func TestPreciseSaysWhatIsToCome(t *testing.T) {
	t.Parallel()
	facts := set.Facts{Workloads: []targets.Workload{workload("shop", "needy", map[string]string{"app": "x"}, added("SYS_ADMIN"), looked())}}
	s := render(t, options(func(o *set.Options) { o.Fit, o.Scope = set.FitPrecise, targets.Scope{} }), facts)
	if notes := strings.Join(s.Notes, "\n"); !strings.Contains(notes, "namespaces to come, have none before the next apply") {
		t.Errorf("nothing says that namespaces to come have no policies:\n%s", notes)
	}
}

// A workload that may be there and was not seen would be left without protection.
func TestPreciseWantsEveryWorkload(t *testing.T) {
	t.Parallel()
	facts := set.Facts{
		Workloads: []targets.Workload{workload("shop", "needy", map[string]string{"app": "x"}, added("SYS_ADMIN"), looked())},
		Unseen:    []scan.Failure{{Subject: "Deployment", Reason: scan.FailureForbidden, Message: "no right"}},
	}
	o := options(func(o *set.Options) { o.Fit = set.FitPrecise })
	if _, err := set.Render(o, facts); err == nil || !strings.Contains(err.Error(), "Deployment: no right") {
		t.Errorf("got the error %v", err)
	}
	o.Fit = set.FitFull
	if _, err := set.Render(o, facts); err != nil {
		t.Error(err)
	}
}

// A pod of which one container was not looked into may have any tool, and one container
// that can hold a capability is enough.
func TestOneContainerIsEnough(t *testing.T) {
	t.Parallel()
	w := workload("shop", "two", map[string]string{"app": "two"}, dropped(), looked())
	spec := &w.Specimens[0].Pod.Spec
	spec.Containers = append(spec.Containers, corev1.Container{Name: "d", SecurityContext: added("SYS_PTRACE")})
	second := workload("shop", "two", map[string]string{"app": "two"}, added("SYS_MODULE"), nil)
	w.Specimens = append(w.Specimens, second.Specimens...)
	s := render(t, options(nil), set.Facts{Workloads: []targets.Workload{w}})
	spared := sparedOf(s)
	for name, want := range map[string]bool{"sys_admin": true, "sys_ptrace": false, "sys_module": false, "curl": false, "chroot": false, "dac_override": true} {
		if _, ok := spared["two "+name]; ok != want {
			t.Errorf("%s is spared %v, want %v", name, ok, want)
		}
	}
	// A part of the files is not enough to say that a program is not there.
	paths := looked()
	delete(paths, "/usr/bin/wget2")
	s = render(t, options(nil), set.Facts{Workloads: []targets.Workload{workload("shop", "part", map[string]string{"app": "p"}, nil, paths)}})
	if _, ok := sparedOf(s)["part wget"]; ok {
		t.Error("wget is spared, and one of its files was not looked for")
	}
	if _, ok := sparedOf(s)["part curl"]; !ok {
		t.Error("curl is not spared, and it is not there")
	}
}
