package snapshot_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	aNode      = "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n"
	aNamespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
	aPod       = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec:\n  nodeName: node-1\n  containers: [{name: c, image: i}]\n"
)

func documents(list ...string) string { return strings.Join(list, "---\n") }

// read reads a dump that may have faults.
func read(t *testing.T, text string) (*snapshot.Dump, error) {
	t.Helper()
	return snapshot.ReadDump(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)})
}

// What is not in a dump is unknown: each thing that its objects refer to and that it
// lacks is an error of what reads that thing, with what is there.
func TestWhatIsNotInTheDumpIsUnknown(t *testing.T) {
	with := func(extra string) string { return strings.Replace(aPod, "spec:\n", "spec:\n"+extra, 1) }
	owned := strings.Replace(aPod, "namespace: shop}", "namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: u, controller: true}]}", 1)
	set := "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, namespace: shop, uid: u, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true}]}\n"
	claim := "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]\n"
	for name, test := range map[string]struct {
		text string
		want map[string]string
	}{
		"nothing refers to anything": {documents(aNode, aNamespace, aPod), nil},
		"no nodes":                   {documents(aNamespace, aPod), map[string]string{"nodes": "nodes"}},
		"another node":               {documents(strings.Replace(aNode, "node-1", "node-2", 1), aNamespace, aPod), map[string]string{"nodes": "nodes node-1"}},
		"no namespaces":              {documents(aNode, aPod), map[string]string{"namespaces": "namespaces"}},
		"another namespace": {
			documents(aNode, strings.Replace(aNamespace, "shop", "bank", 1), aPod), map[string]string{"namespaces": "namespaces shop"},
		},
		"no pods":              {documents(aNode, aNamespace), map[string]string{"pods": "pods", "classes": "runtime classes"}},
		"an owner":             {documents(aNode, aNamespace, owned), map[string]string{"ReplicaSet": "ReplicaSet shop/web-1"}},
		"an owner of an owner": {documents(aNode, aNamespace, owned, set), map[string]string{"Deployment": "Deployment shop/web"}},
		"a class":              {documents(aNode, aNamespace, with("  runtimeClassName: boxed\n")), map[string]string{"classes": "runtime classes boxed"}},
		"a class that is there": {
			documents(aNode, aNamespace, with("  runtimeClassName: boxed\n"), "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: boxed}\nhandler: runsc\n"), nil,
		},
		"a volume": {documents(aNode, aNamespace, with(claim)), map[string]string{"volumes": "persistent volumes of claims shop/data"}},
		"a claim that is bound to what is not there": {
			documents(aNode, aNamespace, with(claim), "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: shop}\nspec: {volumeName: pv}\n"),
			map[string]string{"volumes": "persistent volumes of claims shop/data"},
		},
		"a claim that is not bound": {
			documents(aNode, aNamespace, with(claim), "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: shop}\n"), nil,
		},
		"a volume that is no path": {
			documents(aNode, aNamespace, with(claim), "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv}\nspec: {claimRef: {namespace: shop, name: data}, csi: {driver: d, volumeHandle: h}}\n"), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := read(t, test.text)
			if err != nil || len(d.Failures) > 0 {
				t.Fatal(err, d.Failures)
			}
			got := map[string]string{}
			note := func(what string, err error) {
				if err == nil {
					return
				}
				if !errors.Is(err, scan.ErrNotRecorded) {
					t.Errorf("%s: %v", what, err)
				}
				got[what] = strings.TrimSuffix(err.Error(), ": not in the dump")
			}
			ctx := t.Context()
			_, err = d.Namespaces(ctx)
			note("namespaces", err)
			_, err = d.Nodes(ctx)
			note("nodes", err)
			_, err = d.RuntimeClasses(ctx)
			note("classes", err)
			_, err = d.HostVolumes(ctx)
			note("volumes", err)
			note("pods", d.Pods(ctx, "", func(scan.PodPage) error { return nil }))
			for _, kind := range []string{"ReplicaSet", "Deployment"} {
				gvk := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: kind}
				note(kind, d.Owners(ctx, "", gvk, func([]scan.Owner) error { return nil }))
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if _, err := d.Owner(ctx, "shop", schema.GroupVersionKind{Kind: "Thing"}, "x"); !errors.Is(err, scan.ErrNotRecorded) {
				t.Errorf("an owner that is not there: %v", err)
			}
			for _, kind := range scan.ObjectKinds() {
				if err := d.Objects(ctx, kind, func([]byte) error { return nil }); !errors.Is(err, scan.ErrNotRecorded) {
					t.Errorf("%s: %v", kind, err)
				}
			}
		})
	}
}

// An owner that is missing from a dump is taken at the pod's word, one that is there
// under another UID is not.
func TestOwnersOfADumpAreNotForged(t *testing.T) {
	owned := func(name, uid string) string {
		p := strings.Replace(aPod, "namespace: shop}", "namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: NAME, uid: UID, controller: true}]}", 1)
		return strings.NewReplacer("name: web,", "name: "+name+"-0,", "NAME", name, "UID", uid).Replace(p)
	}
	d, err := read(t, documents(aNode, aNamespace, owned("gone", "g"), owned("here", "h"), owned("other", "forged"),
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: here, namespace: shop, uid: h}\n",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: other, namespace: shop, uid: o}\n"))
	if err != nil {
		t.Fatal(err)
	}
	out := scanned(t, d)
	for name, claims := range map[string]string{
		"gone": "StatefulSet/gone (not verified: could not be read)", "here": "", "other-0": "StatefulSet/other (exists with another UID than forged)",
	} {
		if v := out.verdicts[name]; v == nil || v.Claims != claims {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if !slices.Contains(out.failures, "StatefulSet") {
		t.Errorf("failures: %q", out.failures)
	}
}

func deployment(name, uid, more string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", namespace: shop, uid: " + uid + more + "}\nspec:\n  template:\n    spec:\n      hostPID: true\n      containers: [{name: c, image: i}]\n"
}

func replicaSet(name, uid, owner, ownerUID string) string {
	set := strings.Replace(deployment(name, uid, ", ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: "+owner+", uid: "+ownerUID+", controller: true}]"), "kind: Deployment\n", "kind: ReplicaSet\n", 1)
	return set
}

// A template without a pod is judged by itself, with its place; one that another
// template stands for is not, and what no template stands for is.
func TestTemplatesWithoutPodsAreJudged(t *testing.T) {
	pods := strings.Replace(aPod, "namespace: shop}", "namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: live-1, uid: l1, controller: true}]}", 1)
	text := documents(aNode, aNamespace, pods,
		deployment("live", "l", ""), replicaSet("live-1", "l1", "live", "l"), replicaSet("live-0", "l0", "live", "l"),
		deployment("idle", "i", ""), replicaSet("idle-1", "i1", "idle", "i"),
		replicaSet("orphan", "o", "gone", "g"), replicaSet("forged", "f", "live", "another"),
		deployment("ring", "r", ", ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: ring, uid: r, controller: true}]"))
	d, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := scanned(t, d).verdicts
	names := slices.Sorted(maps.Keys(verdicts))
	if want := []string{"forged", "idle", "live", "orphan", "ring"}; !slices.Equal(names, want) {
		t.Fatalf("judged %q, want %q", names, want)
	}
	for name, v := range verdicts {
		if open := v.Verdict != scan.VerdictClosed; open != (name != "live") {
			t.Errorf("%s: %s, which is judged by its pods", name, v.Verdict)
		}
	}
	line := 1 + strings.Count(text[:strings.Index(text, deployment("idle", "i", ""))], "\n")
	if at := verdicts["idle"].Location; at == nil || at.Line != line || at.File != "stdin" {
		t.Errorf("idle is at %+v, want line %d", at, line)
	}
}

// What is broken in a dump costs itself, and is named with its place.
func TestABrokenDocumentOfADumpIsAFailure(t *testing.T) {
	d, err := read(t, documents(aNode, "a: [\n", aNamespace, "apiVersion: v1\nkind: Node\nmetadata: {name: bad, labels: {a: 3}}\n", aPod, "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: 3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Failures) != 3 {
		t.Fatalf("failures: %+v", d.Failures)
	}
	for _, f := range d.Failures {
		if f.Location == nil || f.Location.Line < 4 || f.Subject != "stdin" || f.Affects == "" {
			t.Errorf("failure: %+v", f)
		}
	}
	if len(scanned(t, d).verdicts) != 1 {
		t.Error("the pod that is sound was not judged")
	}
}

// A pod that two dumps hold is one pod; two pods of one name are two.
func TestPodsOfOverlappingDumps(t *testing.T) {
	pod := func(uid, more string) string {
		return strings.Replace(aPod, "{name: web,", "{name: web, uid: "+uid+",", 1) + more
	}
	d, err := read(t, documents(aNode, aNamespace, pod("a", ""), pod("a", ""), pod("b", "  hostPID: true\n")))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	if err := d.Pods(t.Context(), "", func(page scan.PodPage) error { count += len(page.Items); return nil }); err != nil || count != 2 {
		t.Errorf("%d pods, %v", count, err)
	}
}

// What an API server would set decides here too.
func TestPodsOfADumpGetTheDefaults(t *testing.T) {
	d, err := read(t, documents(aNode, strings.Replace(aPod, "spec:\n", "spec:\n  hostNetwork: true\n  volumes: [{name: v}]\n", 1)+"  x: y\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = d.Pods(t.Context(), "", func(page scan.PodPage) error {
		if v := page.Items[0].Spec.Volumes[0]; v.EmptyDir == nil {
			t.Errorf("volume: %+v", v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestContextOfManifests(t *testing.T) {
	for name, test := range map[string]struct {
		text             string
		context, cluster bool
		namespaces       int
	}{
		"nothing but pods":           {text: aPod},
		"a pod of a node":            {text: strings.Replace(aPod, "metadata: {", "metadata: {ownerReferences: [{apiVersion: v1, kind: Node, name: n, uid: u}], ", 1)},
		"a manifest in a ConfigMap":  {text: "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    apiVersion: v1\n    kind: Namespace\n"},
		"a namespace":                {text: documents(aPod, aNamespace), context: true, namespaces: 1},
		"a node":                     {text: documents(aPod, aNode), cluster: true},
		"a policy":                   {text: documents(aPod, "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: shop}\n"), context: true},
		"a kind of the same name":    {text: documents(aPod, "apiVersion: cilium.io/v1\nkind: Policy\nmetadata: {name: p}\n")},
		"a namespace that is broken": {text: documents(aPod, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: 3}\n"), context: true},
		"an inventory":               {text: `{"apiVersion":"escape-scanner.github.io/v1","kind":"Inventory","begin":{}}`, cluster: true},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := snapshot.ReadContext(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(test.text)})
			if err != nil {
				t.Fatal(err)
			}
			if d.HasContext() != test.context || d.IsCluster() != test.cluster {
				t.Errorf("context %v, cluster %v, failures %+v", d.HasContext(), d.IsCluster(), d.Failures)
			}
			// Nobody expects agents among manifests.
			if pods, err := d.LabelledPods(t.Context(), "a=b"); err != nil || len(pods) > 0 {
				t.Errorf("pods %v, %v", pods, err)
			}
			namespaces, err := d.Namespaces(t.Context())
			if len(namespaces) != test.namespaces || !test.cluster && (err == nil) != (test.namespaces > 0) {
				t.Errorf("%d namespaces, %v", len(namespaces), err)
			}
		})
	}
}

// Pods that are asked for by a label are not taken for pods of the scope.
func TestLabelledPodsOfADump(t *testing.T) {
	agent := strings.Replace(aPod, "{name: web,", "{name: agent, labels: {kubearmor-app: kubearmor},", 1)
	d, err := read(t, documents(aNode, aPod, agent))
	if err != nil {
		t.Fatal(err)
	}
	names := func(pods []corev1.Pod) (list []string) {
		for i := range pods {
			list = append(list, pods[i].Name)
		}
		return list
	}
	pods, err := d.LabelledPods(t.Context(), "kubearmor-app=kubearmor")
	if err != nil || !slices.Equal(names(pods), []string{"agent"}) {
		t.Errorf("%q, %v", names(pods), err)
	}
	if _, err := d.LabelledPods(t.Context(), "app=none"); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("none: %v", err)
	}
}
