package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// The cluster of these tests. Each workload's verdict hangs on something else:
//
//   - tools: the escapeToHost set as KubeArmorPolicies; a workload that they guard, one
//     that nothing guards, one in a sandbox, one whose claim is a path of the host.
//   - roomy: one capability blocked by a KubeArmorClusterPolicy.
//   - vault, frozen and the namespaces in Kyverno's name: the whole set, and a pod that
//     is sealed because admission by one kind of policy, another in each, keeps it so.
const layersCluster = `
apiVersion: v1
kind: Namespace
metadata: {name: kubearmor}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kubearmor, namespace: kubearmor, labels: {kubearmor-app: kubearmor}}
spec:
  selector: {matchLabels: {kubearmor-app: kubearmor}}
  template:
    metadata: {labels: {kubearmor-app: kubearmor}}
    spec: {hostPID: true, containers: [{name: kubearmor, image: registry.example/kubearmor:v1.7.2, securityContext: {privileged: true}}]}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: boxed}
handler: runsc
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: layers-root}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  hostPath: {path: /}
  claimRef: {namespace: tools, name: root}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: root, namespace: tools}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", volumeName: layers-root, resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mounter, namespace: tools}
spec:
  selector: {matchLabels: {app: mounter}}
  template: {metadata: {labels: {app: mounter}}, spec: {containers: [{name: app, image: registry.example/app:1}]}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: mounter-5d8f, namespace: tools, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: mounter, controller: true}]}
spec:
  selector: {matchLabels: {app: mounter, pod-template-hash: 5d8f}}
  template: {metadata: {labels: {app: mounter, pod-template-hash: 5d8f}}, spec: {containers: [{name: app, image: registry.example/app:1}]}}
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: layers-kyverno}
spec:
  rules:
  - name: baseline
    match: {any: [{resources: {kinds: [Pod], namespaces: [kyverno-wide]}}]}
    validate: {failureAction: Enforce, podSecurity: {level: baseline, version: latest}}
status: {conditions: [{type: Ready, status: "True", reason: Succeeded, message: Ready, lastTransitionTime: "2026-11-20T08:00:00Z"}]}
---
apiVersion: kyverno.io/v1
kind: Policy
metadata: {name: baseline, namespace: kyverno-local}
spec:
  rules:
  - name: baseline
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate: {failureAction: Enforce, podSecurity: {level: baseline, version: latest}}
status: {conditions: [{type: Ready, status: "True", reason: Succeeded, message: Ready, lastTransitionTime: "2026-11-20T08:00:00Z"}]}
---
apiVersion: kyverno.io/v2
kind: PolicyException
metadata: {name: elsewhere, namespace: roomy}
spec:
  exceptions: [{policyName: layers-kyverno, ruleNames: [baseline]}]
  match: {any: [{resources: {kinds: [Pod], namespaces: [roomy]}}]}
---
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: layers-freeze}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: cel-wide}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validationActions: [Deny]
  validations: [{expression: "false", message: nothing new here}]
status: {conditionStatus: {ready: true, conditions: []}}
---
apiVersion: policies.kyverno.io/v1
kind: NamespacedValidatingPolicy
metadata: {name: freeze, namespace: cel-local}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validationActions: [Deny]
  validations: [{expression: "false", message: nothing new here}]
status: {conditionStatus: {ready: true, conditions: []}}
---
apiVersion: policies.kyverno.io/v1
kind: PolicyException
metadata: {name: elsewhere, namespace: roomy}
spec:
  policyRefs: [{kind: ValidatingPolicy, name: layers-freeze}]
  matchConditions: [{name: roomy, expression: "object.metadata.namespace == 'roomy'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: layers-freeze}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: frozen}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations: [{expression: "false", message: nothing new here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: layers-freeze}
spec: {policyName: layers-freeze, validationActions: [Deny]}
---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorClusterPolicy
metadata: {name: layers-roomy}
spec:
  selector: {matchExpressions: [{key: namespace, operator: In, values: [roomy]}]}
  capabilities: {matchCapabilities: [{capability: sys_admin}]}
  action: Block
`

// layersVerdicts are the verdicts of that cluster when all of it is read.
func layersVerdicts() map[string]scan.Verdict {
	verdicts := map[string]scan.Verdict{
		"tools/Deployment/mounter":      scan.VerdictGuarded,
		"tools/Pod/raw":                 scan.VerdictExposed,
		"tools/Pod/boxed":               scan.VerdictClosed,
		"tools/Pod/claimer":             scan.VerdictExposed,
		"roomy/Pod/mounter":             scan.VerdictGuarded,
		"kubearmor/DaemonSet/kubearmor": scan.VerdictExposed,
	}
	for _, ns := range sealedNamespaces() {
		verdicts[ns+"/Pod/clean"] = scan.VerdictSealed
	}
	return verdicts
}

func sealedNamespaces() []string {
	return []string{"vault", "frozen", "kyverno-wide", "kyverno-local", "cel-wide", "cel-local"}
}

// objectsYAML writes objects as one list.
func objectsYAML(t *testing.T, items ...map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type object = map[string]any

// escapeToHostSet is the whole set, for every pod of a namespace.
func escapeToHostSet(namespace string) []object {
	var capabilities, programs []object
	for _, e := range armor.Elements() {
		if e.Kind == armor.Capability {
			capabilities = append(capabilities, object{"capability": e.Name})
		}
		for _, path := range e.Paths {
			programs = append(programs, object{"path": path})
		}
	}
	policy := func(name, section string, rules object) object {
		return object{
			"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
			"metadata": object{"name": name, "namespace": namespace},
			"spec":     object{"selector": object{"matchLabels": object{}}, section: rules, "action": "Block"},
		}
	}
	return []object{
		policy("disallow-capabilities", "capabilities", object{"matchCapabilities": capabilities}),
		policy("disallow-programs", "process", object{"matchPaths": programs}),
	}
}

// layersPod is a running pod on a node, which spec changes.
func layersPod(namespace, name, node string, change object) object {
	container := object{"name": "app", "image": "registry.example/app:1"}
	spec := object{"nodeName": node, "containers": []any{container}}
	metadata := object{"name": name, "namespace": namespace}
	for key, value := range change {
		switch key {
		case "securityContext", "volumeMounts":
			container[key] = value
		case "labels", "ownerReferences":
			metadata[key] = value
		default:
			spec[key] = value
		}
	}
	name = "app"
	if c, ok := change["containers"].([]any); ok {
		name = c[0].(object)["name"].(string)
	}
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
		"status": object{
			"phase":      "Running",
			"conditions": []any{object{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T08:00:00Z"}},
			"containerStatuses": []any{object{
				"name": name, "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": object{"running": object{}},
			}},
		},
	}
}

func layersObjects(t *testing.T) string {
	t.Helper()
	var items []object
	namespace := func(name string, labels object) {
		items = append(items, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name, "labels": labels}})
	}
	for _, node := range []string{"worker-1", "worker-2"} {
		items = append(items, object{
			"apiVersion": "v1", "kind": "Node", "metadata": object{"name": node, "labels": object{"kubearmor.io/enforcer": "bpf"}},
			"status": object{"nodeInfo": object{
				"kernelVersion": "6.1.0-37-amd64", "osImage": "Debian GNU/Linux 12 (bookworm)", "architecture": "amd64", "operatingSystem": "linux",
				"containerRuntimeVersion": "containerd://2.2.1", "kubeletVersion": "v1.36.3", "bootID": "", "kubeProxyVersion": "", "machineID": "", "systemUUID": "",
			}},
		}, layersPod("kubearmor", "kubearmor-"+node, node, object{
			"labels": object{"kubearmor-app": "kubearmor"}, "hostPID": true,
			"ownerReferences": []any{object{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "kubearmor", "controller": true}},
			"containers":      []any{object{"name": "kubearmor", "image": "registry.example/kubearmor:v1.7.2", "securityContext": object{"privileged": true}}},
		}))
	}
	sysAdmin := object{"capabilities": object{"add": []any{"SYS_ADMIN"}}}
	namespace("tools", nil)
	items = append(items, escapeToHostSet("tools")...)
	for i, node := range []string{"worker-1", "worker-2"} {
		items = append(items, layersPod("tools", fmt.Sprintf("mounter-5d8f-%d", i), node, object{
			"labels": object{"app": "mounter", "pod-template-hash": "5d8f"}, "securityContext": sysAdmin,
			"ownerReferences": []any{object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "mounter-5d8f", "controller": true}},
		}))
	}
	items = append(items,
		layersPod("tools", "raw", "worker-1", object{"securityContext": object{"privileged": true}}),
		layersPod("tools", "boxed", "worker-1", object{"hostPID": true, "runtimeClassName": "boxed"}),
		layersPod("tools", "claimer", "worker-1", object{
			"volumes":      []any{object{"name": "root", "persistentVolumeClaim": object{"claimName": "root"}}},
			"volumeMounts": []any{object{"name": "root", "mountPath": "/root"}},
		}),
	)
	namespace("roomy", nil)
	items = append(items, layersPod("roomy", "mounter", "worker-2", object{"securityContext": sysAdmin}))
	for _, name := range sealedNamespaces() {
		labels := object{}
		if name == "vault" {
			labels["pod-security.kubernetes.io/enforce"] = "baseline"
		}
		namespace(name, labels)
		items = append(items, escapeToHostSet(name)...)
		items = append(items, layersPod(name, "clean", "worker-2", nil))
	}
	return objectsYAML(t, items...)
}

// layersServer has the cluster, and is of these tests alone: others would meet its
// kinds and its nodes.
func layersServer(t *testing.T) *kubetest.Server {
	t.Helper()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.Kyverno)
	server.ApplyYAML(t, layersCluster+"---\n"+layersObjects(t))
	return server
}

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
		"KubeArmorPolicy.security.kubearmor.com": {
			change: because("KubeArmorPolicies").with(scan.VerdictUnknown, mounter).unsealed(sealedNamespaces()...),
		},
		"KubeArmorClusterPolicy.security.kubearmor.com":          {change: because("KubeArmorClusterPolicies").with(scan.VerdictUnknown, roomy)},
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
	pods := layersWithout{failed: []string{"pods of KubeArmor: forbidden"}, rows: map[string]scan.Verdict{}}
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
		if rows := a.rows(); !slices.Equal(rows, want) || a.code != exitIncomplete || !slices.Equal(a.failed(), []string{"pods of KubeArmor: forbidden"}) {
			t.Errorf("exit %d, rows %q, failures %q", a.code, rows, a.failed())
		}
		if v := a.verdict(t, "tools/Deployment/mounter"); !strings.Contains(v.Reason, "the pods of KubeArmor could not be read (forbidden)") {
			t.Errorf("reason: %s", v.Reason)
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

// layersFault does one thing to requests for a list, by their number of its page (1, or
// 2 for all that follow), the first so many times.
func layersFault(resource string, page, times int, action kubetest.Action) kubetest.Hook {
	var done atomic.Int32
	return func(r *http.Request) kubetest.Action {
		at := 1
		if r.URL.Query().Get("continue") != "" {
			at = 2
		}
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+resource) && at == page && int(done.Add(1)) <= times {
			return action
		}
		return kubetest.Pass()
	}
}

// slowly answers a list only when the nodes were asked for: with everything else.
func slowly(resource string) kubetest.Hook {
	others := make(chan struct{})
	var once sync.Once
	return func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, "/nodes") {
			once.Do(func() { close(others) })
		}
		if strings.HasSuffix(r.URL.Path, "/"+resource) {
			return kubetest.Hold(others, kubetest.Pass())
		}
		return kubetest.Pass()
	}
}

// What passes by itself leaves no trace.
func testPassingFaults(t *testing.T, server *kubetest.Server) {
	for name, hook := range map[string]kubetest.Hook{
		"none":                    nil,
		"410 on the second page":  layersFault("kubearmorpolicies", 2, 1, kubetest.Gone("")),
		"500 twice":               layersFault("kubearmorpolicies", 2, 2, kubetest.InternalError("etcd: leader changed")),
		"429":                     layersFault("clusterpolicies", 1, 1, kubetest.TooManyRequests(1)),
		"cut":                     layersFault("kubearmorclusterpolicies", 1, 1, kubetest.Cut()),
		"cut in the answer":       layersFault("kubearmorpolicies", 2, 1, kubetest.CutAfter(200)),
		"cut in a binding":        layersFault("validatingadmissionpolicybindings", 1, 1, kubetest.CutAfter(100)),
		"slow KubeArmor policies": slowly("kubearmorpolicies"),
		"slow bindings":           slowly("validatingadmissionpolicybindings"),
	} {
		t.Run(name, func(t *testing.T) {
			proxy := kubetest.NewProxy(t, server.Config(), hook)
			a := liveScan(t, proxy.Config(), "--page-size", "3")
			a.wantComplete(t, exitFindings)
			a.wantLayers(t, layersChange{})
		})
	}
}

// Policies of which only the first page was read are not all there are, and a policy
// that was not read is not one that is not there.
func testLastingFaults(t *testing.T, server *kubetest.Server) {
	// The first page has the policies of cel-local.
	others := slices.DeleteFunc(sealedNamespaces(), func(ns string) bool { return ns == "cel-local" })
	guarded := layersChange{}.with(scan.VerdictUnknown, "tools/Deployment/mounter").unsealed(others...)
	silence := kubetest.Hold(nil, kubetest.Pass())
	const ksp, vap = "KubeArmorPolicy.security.kubearmor.com", "ValidatingAdmissionPolicy.admissionregistration.k8s.io"
	for _, test := range []struct {
		name   string
		hook   kubetest.Hook
		failed string
		change layersChange
	}{
		{"403 on the second page", layersFault("kubearmorpolicies", 2, always, kubetest.Forbidden("no more")), ksp + ": forbidden", guarded},
		{"410 for ever", layersFault("kubearmorpolicies", 2, always, kubetest.Gone("")), ksp + ": read error", guarded},
		{"500 for ever", layersFault("kubearmorpolicies", 2, always, kubetest.InternalError("etcd")), ksp + ": read error", guarded},
		{"cut for ever", layersFault("kubearmorpolicies", 2, always, kubetest.CutAfter(200)), ksp + ": read error", guarded},
		{"silence on the second page", layersFault("kubearmorpolicies", 2, always, silence), ksp + ": timeout", guarded},
		{"500 for admission policies", layersFault("validatingadmissionpolicies", 1, always, kubetest.InternalError("etcd")), vap + ": read error", layersChange{}.unsealed("frozen")},
		{"no JSON", layersFault("validatingadmissionpolicies", 1, always, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "{\"items\": [\x1b[2J")
		}), vap + ": read error", layersChange{}.unsealed("frozen")},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change.because = "could not be read (" + strings.TrimPrefix(test.failed[strings.Index(test.failed, ": "):], ": ") + ")"
			proxy := kubetest.NewProxy(t, server.Config(), test.hook)
			a := liveScan(t, proxy.Config(), "--page-size", "3", "--request-timeout", "2s")
			a.wantLayers(t, test.change)
			if got := a.failed(); a.code != exitIncomplete || !a.end.Incomplete || !slices.Equal(got, []string{test.failed}) {
				t.Errorf("exit %d, failures %q, want %q", a.code, got, test.failed)
			}
			if strings.ContainsRune(a.stdout+a.stderr, '\x1b') {
				t.Error("the server's words reach the terminal")
			}
		})
	}
}
