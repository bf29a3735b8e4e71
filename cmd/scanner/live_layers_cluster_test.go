package main

import (
	"fmt"
	"testing"

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
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}]
  validationActions: [Deny]
` + noHostInCEL + `status: {conditionStatus: {ready: true, conditions: []}}
---
apiVersion: policies.kyverno.io/v1
kind: NamespacedValidatingPolicy
metadata: {name: freeze, namespace: cel-local}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}]
  validationActions: [Deny]
` + noHostInCEL + `status: {conditionStatus: {ready: true, conditions: []}}
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
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}]
` + noHostInCEL + `---
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

// noHostInCEL are the validations of the policies in CEL, whatever their kind.
const noHostInCEL = `  validations:
  - {message: nothing of the host, expression: "[object.spec.?hostPID, object.spec.?hostNetwork, object.spec.?hostIPC].all(f, !f.orValue(false))"}
  - {message: nothing of the host, expression: "object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))"}
  - {message: nothing of the host, expression: "!object.spec.?securityContext.?windowsOptions.?hostProcess.orValue(false)"}
  - message: no rights
    expression: >-
      (object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])).all(c, !c.?securityContext.?privileged.orValue(false) &&
      c.?securityContext.?capabilities.?add.orValue([]).size() == 0 && c.?securityContext.?procMount.orValue('Default') == 'Default')
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
		"kubearmor/Pod/kyverno":         scan.VerdictClosed,
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
	items = append(items, layersPod("kubearmor", "kyverno", "worker-1", object{
		"labels":     object{"app.kubernetes.io/component": "admission-controller"},
		"containers": []any{object{"name": "kyverno", "image": "registry.example/kyverno/kyverno:v1.19.1"}},
	}))
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
