package main

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// layersRights are the rights that a scan of everything uses, by what they are for.
func layersRights() map[string]rbacv1.PolicyRule {
	rights := maps.Clone(liveRights())
	maps.DeleteFunc(rights, func(_ string, rule rbacv1.PolicyRule) bool {
		return rule.APIGroups[0] == "admissionregistration.k8s.io"
	})
	for _, kind := range scan.ObjectKinds() {
		rights[kind.String()] = rbacv1.PolicyRule{APIGroups: []string{kind.Group}, Resources: []string{resourceOf(kind)}, Verbs: []string{"list"}}
	}
	return rights
}

func resourceOf(kind schema.GroupKind) string {
	resource, _ := meta.UnsafeGuessKindToResource(kind.WithVersion("v1"))
	return resource.Resource
}

// layersUser makes a user who has every right of layersRights but those named.
func layersUser(t *testing.T, server *kubetest.Server, name string, without ...string) *rest.Config {
	t.Helper()
	rights := layersRights()
	for _, right := range without {
		if _, ok := rights[right]; !ok {
			t.Fatalf("no right to %s", right)
		}
		delete(rights, right)
	}
	server.Allow(t, name, "", slices.Collect(maps.Values(rights))...)
	return server.User(t, name)
}

// verdictOf are the verdicts of an audit by workload.
func (a *liveAudit) verdictOf(t *testing.T) map[string]scan.Verdict {
	t.Helper()
	found := map[string]scan.Verdict{}
	for _, v := range a.verdicts {
		if _, twice := found[v.Workload.String()]; twice {
			t.Errorf("%s has two verdicts", v.Workload)
		}
		found[v.Workload.String()] = v.Verdict
	}
	return found
}

// layersChange are the verdicts that are others than when all is read, "" for workloads
// that are not seen. Because is what they have to say of it, each of them.
type layersChange struct {
	verdicts map[string]scan.Verdict
	because  string
}

func (c layersChange) with(verdict scan.Verdict, workloads ...string) layersChange {
	c.verdicts = maps.Clone(c.verdicts)
	if c.verdicts == nil {
		c.verdicts = map[string]scan.Verdict{}
	}
	for _, w := range workloads {
		c.verdicts[w] = verdict
	}
	return c
}

// unsealed are the pods that are closed and no more without a right.
func (c layersChange) unsealed(namespaces ...string) layersChange {
	for _, ns := range namespaces {
		c = c.with(scan.VerdictClosed, ns+"/Pod/clean")
	}
	return c
}

// wantLayers compares the verdicts with those of the cluster when all is read. What
// hangs on nothing that is missing stays, and nothing is ever better than it was, but
// for what is not known to be open any more.
func (a *liveAudit) wantLayers(t *testing.T, change layersChange) {
	t.Helper()
	before := layersVerdicts()
	want := maps.Clone(before)
	maps.Copy(want, change.verdicts)
	maps.DeleteFunc(want, func(_ string, v scan.Verdict) bool { return v == "" })
	got := a.verdictOf(t)
	reasons := map[string]string{}
	for _, v := range a.verdicts {
		reasons[v.Workload.String()] = v.Reason
	}
	for _, w := range slices.Sorted(maps.Keys(want)) {
		if got[w] != want[w] {
			t.Errorf("%s is %q, want %q: %s", w, got[w], want[w], cmp.Or(reasons[w], "there is none"))
		}
		if _, changed := change.verdicts[w]; changed && !strings.Contains(reasons[w], change.because) {
			t.Errorf("%s is %s, and does not say %q: %s", w, got[w], change.because, reasons[w])
		}
	}
	for w, verdict := range got {
		if _, ok := want[w]; !ok {
			t.Errorf("%s is %s, and is not expected at all: %s", w, verdict, reasons[w])
		}
		if was, ok := before[w]; ok && verdict != scan.VerdictUnknown && slices.Index(scan.Verdicts(), verdict) > slices.Index(scan.Verdicts(), was) {
			t.Errorf("%s is %s, which is better than it was when all was read (%s)", w, verdict, was)
		}
	}
	a.wantNoBetterPaths(t)
}

// wantNoBetterPaths checks that no path is called stopped but those that are when all
// is read.
func (a *liveAudit) wantNoBetterPaths(t *testing.T) {
	t.Helper()
	for _, v := range a.verdicts {
		if v.Layers == nil {
			continue
		}
		for _, p := range v.Layers.Paths {
			if p.State == scan.PathStopped && (p.Path != "escape-cap-sys-admin" || !strings.HasPrefix(v.Workload.Name, "mounter")) {
				t.Errorf("%s: %s is called stopped: %s", v.Workload, p.Path, p.Reason)
			}
		}
	}
}

// layersWithout is what the cluster looks like without a right.
type layersWithout struct {
	// failed are the failures, the one that names what is missing and what follows.
	failed []string
	change layersChange
	// rows are workloads that are there only now.
	rows map[string]scan.Verdict
}

func layersCases() map[string]layersWithout {
	const (
		mounter, roomy, boxed, claimer = "tools/Deployment/mounter", "roomy/Pod/mounter", "tools/Pod/boxed", "tools/Pod/claimer"
		unread                         = " could not be read (forbidden)"
	)
	because := func(what string) layersChange { return layersChange{because: what + unread} }
	cases := map[string]layersWithout{
		"nodes": {
			failed: []string{"nodes: forbidden"},
			change: because("nodes").with(scan.VerdictUnknown, mounter, roomy).unsealed(sealedNamespaces()...),
		},
		// The one label by which policies choose a namespace here is known without it.
		"namespaces":        {failed: []string{"namespaces: forbidden"}, change: because("namespaces").unsealed("vault")},
		"runtimeclasses":    {failed: []string{"runtime classes: forbidden"}, change: layersChange{because: "boxed is a sandbox"}.with(scan.VerdictUnknown, boxed)},
		"persistentvolumes": {failed: []string{"persistent volumes: forbidden"}, change: layersChange{because: "claims"}.with(scan.VerdictUnknown, claimer)},
		"replicasets":       {failed: []string{"ReplicaSet: forbidden"}},
		"daemonsets":        {failed: []string{"DaemonSet: forbidden"}},
		"deployments": {
			failed: []string{"Deployment: forbidden"}, change: layersChange{}.with("", mounter),
			rows: map[string]scan.Verdict{"tools/ReplicaSet/mounter-5d8f": scan.VerdictGuarded},
		},
		// Another policy might allow what these block: then it hangs on their order.
		"KubeArmorPolicy.security.kubearmor.com": {
			change: because("KubeArmorPolicies").with(scan.VerdictUnknown, mounter, roomy).unsealed(sealedNamespaces()...),
		},
		"KubeArmorClusterPolicy.security.kubearmor.com": {
			change: because("KubeArmorClusterPolicies").with(scan.VerdictUnknown, mounter, roomy).unsealed(sealedNamespaces()...),
		},
		"ClusterPolicy.kyverno.io":                               {change: because("ClusterPolicies").unsealed("kyverno-wide")},
		"Policy.kyverno.io":                                      {change: because("Policies").unsealed("kyverno-local")},
		"PolicyException.kyverno.io":                             {change: because("PolicyExceptions").unsealed("kyverno-wide", "kyverno-local")},
		"ValidatingPolicy.policies.kyverno.io":                   {change: because("ValidatingPolicies").unsealed("cel-wide")},
		"NamespacedValidatingPolicy.policies.kyverno.io":         {change: because("NamespacedValidatingPolicies").unsealed("cel-local")},
		"PolicyException.policies.kyverno.io":                    {change: because("PolicyExceptions").unsealed("cel-wide", "cel-local")},
		"ValidatingAdmissionPolicy.admissionregistration.k8s.io": {change: because("ValidatingAdmissionPolicies").unsealed("frozen")},
		"ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io": {
			change: because("ValidatingAdmissionPolicyBindings").unsealed("frozen"),
		},
	}
	for _, kind := range scan.ObjectKinds() {
		c := cases[kind.String()]
		c.failed = []string{kind.String() + ": forbidden"}
		cases[kind.String()] = c
	}
	pods := layersWithout{failed: []string{"pods of KubeArmor: forbidden", "pods of Kyverno: forbidden"}, rows: map[string]scan.Verdict{}}
	for w := range layersVerdicts() {
		pods.change = pods.change.with("", w)
	}
	for _, ns := range append(sealedNamespaces(), "tools", "roomy", "kubearmor", "default", "kube-node-lease", "kube-public", "kube-system") {
		pods.failed = append(pods.failed, "pods in "+ns+": forbidden")
		pods.rows[ns+"/Namespace/"+ns] = scan.VerdictUnknown
	}
	cases["pods"] = pods
	// Nothing in the cluster belongs to one of these.
	for _, right := range []string{"jobs", "cronjobs", "statefulsets", "replicationcontrollers", "rollouts"} {
		cases[right] = layersWithout{}
	}
	return cases
}

// The cluster is made once: it is only read.
func TestLiveLayersRights(t *testing.T) {
	server := layersServer(t)
	t.Run("without one right", func(t *testing.T) { testWithoutOneRight(t, server) })
	t.Run("one namespace and nobody", func(t *testing.T) { testOneNamespaceAndNobody(t, server) })
	t.Run("looking closer", func(t *testing.T) { testLookingCloserWithoutRights(t, server) })
	t.Run("passing faults", func(t *testing.T) { testPassingFaults(t, server) })
	t.Run("lasting faults", func(t *testing.T) { testLastingFaults(t, server) })
}

func testWithoutOneRight(t *testing.T, server *kubetest.Server) {
	all := liveScan(t, layersUser(t, server, "layers-all"))
	all.wantComplete(t, exitFindings)
	all.wantLayers(t, layersChange{})
	if t.Failed() {
		t.FailNow()
	}
	cases := layersCases()
	for _, right := range slices.Sorted(maps.Keys(layersRights())) {
		t.Run(right, func(t *testing.T) {
			without, ok := cases[right]
			if !ok {
				t.Fatal("nothing is said of what hangs on it")
			}
			name := "layers-without-" + strings.ToLower(right)
			config := layersUser(t, server, name, right)
			live, back, _ := saved(t, func(save ...string) *liveAudit { return liveScan(t, config, save...) })
			change := without.change
			for w, verdict := range without.rows {
				change = change.with(verdict, w)
			}
			live.wantLayers(t, change)
			wantSameAudit(t, live, back)

			code := exitIncomplete
			if len(without.failed) == 0 {
				code = exitFindings
			}
			failed := live.failed()
			slices.Sort(failed)
			slices.Sort(without.failed)
			if live.code != code || live.end.Incomplete != (code == exitIncomplete) || !slices.Equal(failed, without.failed) {
				t.Errorf("exit %d, incomplete %v, failures %q, want %q", live.code, live.end.Incomplete, failed, without.failed)
			}
			for _, f := range live.failures {
				if !strings.Contains(f.Message, name) || f.Affects == "" {
					t.Errorf("failure: %+v", f)
				}
			}
			// One for each layer, and the pods themselves.
			if slices.Contains([]string{"nodes", "namespaces", "pods", "KubeArmorPolicy.security.kubearmor.com", "ClusterPolicy.kyverno.io"}, right) {
				wantEveryFormat(t, config, code, failed)
			}
		})
	}
}

// wantEveryFormat runs the scan as people do: with all formats, and explaining one
// workload. None of them may end otherwise, or keep back what could not be read.
func wantEveryFormat(t *testing.T, config *rest.Config, code int, failed []string) {
	t.Helper()
	dir := t.TempDir()
	kubeconfig := kubetest.Kubeconfig(t, config)
	result := liveRun(t, "scan", "--kubeconfig", kubeconfig, "--fail-on", "none", "--allow-incomplete", "-o", "table", "-o", "json="+filepath.Join(dir, "out.json"), "-o", "sarif="+filepath.Join(dir, "out.sarif"))
	if result.code != exitOK {
		t.Errorf("--allow-incomplete --fail-on none: exit %d: %s", result.code, result.stderr)
	}
	text := result.stdout
	for _, name := range []string{"out.json", "out.sarif"} {
		written, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text += string(written)
	}
	for _, f := range failed {
		subject, _, _ := strings.Cut(strings.TrimSuffix(f, ": forbidden"), " in ")
		if strings.Count(text, subject) < 3 {
			t.Errorf("a format keeps back that %s could not be read", subject)
		}
	}
	const workload = "tools/Pod/raw"
	explained := liveRun(t, "scan", "--kubeconfig", kubeconfig, "--explain", workload)
	if slices.Contains(failed, "pods in tools: forbidden") {
		if explained.code != exitUsage {
			t.Errorf("--explain of a pod that was not read: exit %d: %s", explained.code, explained.stderr)
		}
		return
	}
	if explained.code != code || !strings.Contains(explained.stdout, workload) {
		t.Errorf("--explain: exit %d: %s%s", explained.code, explained.stdout, explained.stderr)
	}
}

// What a tenant may read of one namespace is judged, and all that stands around it is
// unknown: policies and nodes of KubeArmor belong to the cluster.
func testOneNamespaceAndNobody(t *testing.T, server *kubetest.Server) {
	server.Allow(t, "layers-tenant", "tools", slices.Collect(maps.Values(layersRights()))...)
	server.Allow(t, "layers-some", "tools", layersRights()["pods"])
	some := layersUser(t, server, "layers-some", "pods")
	kinds := []string{"namespaces: forbidden", "nodes: forbidden", "pods of KubeArmor: forbidden", "runtime classes: forbidden", "persistent volumes: forbidden"}
	for _, kind := range scan.ObjectKinds() {
		kinds = append(kinds, kind.String()+": forbidden")
	}
	slices.Sort(kinds)
	want := []string{
		"tools/Deployment/mounter unknown 2", "tools/Pod/boxed unknown 1", "tools/Pod/claimer unknown 1", "tools/Pod/raw exposed 1",
	}

	t.Run("one namespace", func(t *testing.T) {
		live, back, _ := saved(t, func(save ...string) *liveAudit {
			return liveScan(t, server.User(t, "layers-tenant"), append(save, "-n", "tools")...)
		})
		wantSameAudit(t, live, back)
		failed := live.failed()
		slices.Sort(failed)
		if rows := live.rows(); !slices.Equal(rows, want) || live.code != exitIncomplete || !slices.Equal(failed, kinds) {
			t.Errorf("exit %d, rows %q, failures %q", live.code, rows, failed)
		}
		live.wantNoBetterPaths(t)
	})
	t.Run("pods of one namespace", func(t *testing.T) {
		a := liveScan(t, some, "-n", "tools")
		// Where the agents are is not known, and so not what the nodes enforce.
		want := []string{"tools/Deployment/mounter unknown 2", "tools/Pod/boxed closed 1", "tools/Pod/claimer exposed 1", "tools/Pod/raw exposed 1"}
		if rows := a.rows(); !slices.Equal(rows, want) || a.code != exitIncomplete || !slices.Equal(a.failed(), []string{"pods of KubeArmor: forbidden", "pods of Kyverno: forbidden"}) {
			t.Errorf("exit %d, rows %q, failures %q", a.code, rows, a.failed())
		}
		if v := a.verdict(t, "tools/Deployment/mounter"); !strings.Contains(v.Reason, "the pods of KubeArmor could not be read (forbidden)") {
			t.Errorf("reason: %s", v.Reason)
		}

		// Everywhere, what is not theirs is unknown by its namespace.
		a = liveScan(t, some)
		got := a.verdictOf(t)
		for _, row := range want {
			workload, _, _ := strings.Cut(row, " ")
			if !slices.Contains(a.rows(), row) {
				t.Errorf("%s is %s, want %s", workload, got[workload], row)
			}
			delete(got, workload)
		}
		for workload, verdict := range got {
			if verdict != scan.VerdictUnknown || !strings.Contains(workload, "/Namespace/") {
				t.Errorf("%s is %s", workload, verdict)
			}
		}
		if _, ok := got["vault/Namespace/vault"]; !ok || a.code != exitIncomplete || !slices.Contains(a.failed(), "pods in vault: forbidden") {
			t.Errorf("exit %d, rows %q, failures %q", a.code, a.rows(), a.failed())
		}
	})
	t.Run("nobody", func(t *testing.T) {
		nobody := server.User(t, "layers-nobody")
		a := liveScan(t, nobody)
		if a.code != exitIncomplete || len(a.verdicts) > 0 || !slices.Contains(a.failed(), "pods: forbidden") || len(a.nodes) > 0 {
			t.Errorf("exit %d, rows %q, failures %q", a.code, a.rows(), a.failed())
		}
		a = liveScan(t, nobody, "-n", "vault")
		if rows := a.rows(); a.code != exitIncomplete || !slices.Equal(rows, []string{"vault/Namespace/vault unknown 0"}) {
			t.Errorf("exit %d, rows %q", a.code, rows)
		}
		wantEveryFormat(t, nobody, exitIncomplete, []string{"nodes: forbidden", "pods in tools: forbidden"})
	})
}

// Who asks to look closer and may not is told so, and what is known without it stays.
func testLookingCloserWithoutRights(t *testing.T, server *kubetest.Server) {
	user := layersUser(t, server, "layers-closer")
	for _, test := range []struct {
		args []string
		// failed begins the failures, all of them but those that follow from it.
		failed, follows string
		says            string
	}{
		{[]string{"--kubearmor-exec"}, "probe data of kubearmor/", "", `cannot create resource "pods/exec"`},
		{[]string{"--inspect-images"}, "image of ", "", `cannot create resource "pods/exec"`},
		{[]string{"--probe-nodes", "--probe-image", "registry.example/escape-scanner:1"}, "checks of the nodes", "check of node ", `cannot create resource "daemonsets"`},
	} {
		t.Run(test.args[0], func(t *testing.T) {
			a := liveScan(t, user, test.args...)
			a.wantLayers(t, layersChange{})
			if a.code != exitIncomplete || !a.end.Incomplete || len(a.failures) == 0 {
				t.Errorf("exit %d, failures %q", a.code, a.failed())
			}
			for _, f := range a.failures {
				if test.follows != "" && strings.HasPrefix(f.Subject, test.follows) {
					continue
				}
				if !strings.HasPrefix(f.Subject, test.failed) || f.Reason != scan.FailureForbidden || !strings.Contains(f.Message, test.says) || f.Affects == "" {
					t.Errorf("failure: %+v", f)
				}
			}
		})
	}
	t.Run("--ask-server", func(t *testing.T) {
		a := liveScan(t, user, "--ask-server")
		a.wantLayers(t, layersChange{})
		for _, v := range a.verdicts {
			asked := slices.IndexFunc(v.Layers.Admission.Rulings, func(r admission.Ruling) bool { return r.By.Mechanism == admission.AskedServer })
			if asked < 0 || v.Layers.Admission.Rulings[asked].Answer != admission.Unknown {
				t.Errorf("%s: what the server says to who may create no pods is taken for an answer: %+v", v.Workload, v.Layers.Admission.Rulings)
			}
		}
	})
}
