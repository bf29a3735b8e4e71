package main

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// controllerRef is the reference that a controller writes into what it makes.
func controllerRef(apiVersion, kind, name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: uid, Controller: new(true), BlockOwnerDeletion: new(true)}
}

func podTemplate(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: goodPodSpec()}
}

// deployment creates a Deployment.
func (s liveSpace) deployment(name string) metav1.OwnerReference {
	s.Helper()
	app := map[string]string{"app": name}
	d, err := s.server.Client().AppsV1().Deployments(s.name).Create(s.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: podTemplate(app)},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("deployment %s: %v", name, err)
	}
	return controllerRef("apps/v1", "Deployment", name, d.UID)
}

// replicaSet creates the ReplicaSet that a controller would make for the owner.
func (s liveSpace) replicaSet(owner metav1.OwnerReference, hash string) metav1.OwnerReference {
	s.Helper()
	labels := map[string]string{"app": owner.Name, "pod-template-hash": hash}
	rs, err := s.server.Client().AppsV1().ReplicaSets(s.name).Create(s.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: owner.Name + "-" + hash, Labels: labels, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(labels)},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("replica set of %s: %v", owner.Name, err)
	}
	return controllerRef("apps/v1", "ReplicaSet", rs.Name, rs.UID)
}

func TestLiveEphemeralContainerDoesNotHide(t *testing.T) {
	s := newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	for _, name := range []string{"web-5d8f-a", "web-5d8f-b", "web-5d8f-c"} {
		s.pod(name, ownedBy(set, "5d8f"))
	}
	pods := s.server.Client().CoreV1().Pods(s.name)
	p, err := pods.Get(t.Context(), "web-5d8f-b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debugger", Image: "busybox", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
	}}}
	if _, err := pods.UpdateEphemeralContainers(t.Context(), p.Name, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	a := liveScan(t, s.server.Config(), "-n", s.name)
	a.wantComplete(t, exitFindings)
	a.wantRows(t, s.name, "Deployment/web closed 2", "Pod/web-5d8f-b exposed 1")
	f := a.finding(t, s.workload("Pod/web-5d8f-b"), "privileged")
	if f.Container != "debugger" || f.ContainerKind != "ephemeral container" || f.Field != "spec.ephemeralContainers[0].securityContext.privileged" {
		t.Errorf("finding: %+v", f)
	}
	if claims := a.verdict(t, s.workload("Pod/web-5d8f-b")).Claims; !strings.Contains(claims, "ReplicaSet/web-5d8f") {
		t.Errorf("claims %q: want the owner that the pod names", claims)
	}
}

func TestLiveForgedOwnersDoNotHide(t *testing.T) {
	s := newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	for _, name := range []string{"web-5d8f-a", "web-5d8f-b", "web-5d8f-c"} {
		s.pod(name, ownedBy(set, "5d8f"))
	}
	wrongUID, absent, noSuchKind, notController := set, set, set, set
	wrongUID.UID = "11111111-2222-3333-4444-555555555555"
	absent.Name = "web-gone"
	noSuchKind.APIVersion, noSuchKind.Kind = "evil.example/v1", "Nothing"
	notController.Controller = nil

	s.pod("no-owner", labelled("pod-template-hash", "5d8f"), labelled("app", "web"), privileged)
	s.pod("right-uid", ownedBy(set, "5d8f"), privileged)
	s.pod("other-hash", ownedBy(set, "ffff"), privileged)
	s.pod("wrong-uid", ownedBy(wrongUID, "5d8f"), privileged)
	s.pod("absent", ownedBy(absent, "5d8f"), privileged)
	s.pod("no-such-kind", ownedBy(noSuchKind, "5d8f"), privileged)
	s.pod("not-controller", ownedBy(notController, "5d8f"), privileged)

	for _, args := range [][]string{{"-n", s.name}, {"-A"}} {
		a := liveScan(t, s.server.Config(), args...)
		a.wantComplete(t, exitFindings)
		a.wantRows(t, s.name, "Deployment/web closed 3",
			"Pod/no-owner exposed 1", "Pod/right-uid exposed 1", "Pod/other-hash exposed 1", "Pod/wrong-uid exposed 1",
			"Pod/absent exposed 1", "Pod/no-such-kind exposed 1", "Pod/not-controller exposed 1")
		for pod, want := range map[string]string{
			"no-owner": "", "not-controller": "",
			"right-uid":    "ReplicaSet/web-5d8f (its other pods look otherwise)",
			"other-hash":   "ReplicaSet/web-5d8f (its pods carry another pod-template-hash)",
			"wrong-uid":    "ReplicaSet/web-5d8f (exists with another UID than 11111111-2222-3333-4444-555555555555)",
			"absent":       "ReplicaSet/web-gone (does not exist)",
			"no-such-kind": "Nothing/web-5d8f (does not exist)",
		} {
			if got := a.verdict(t, s.workload("Pod/"+pod)).Claims; got != want {
				t.Errorf("%s: claims %q, want %q", pod, got, want)
			}
			a.finding(t, s.workload("Pod/"+pod), "privileged")
		}
	}
}

// An owner in another namespace, by the UID of one that exists there, is none.
func TestLiveOwnerOfAnotherNamespaceIsNotFollowed(t *testing.T) {
	s := newLiveSpace(t)
	other := newLiveSpace(t)
	set := other.replicaSet(other.deployment("web"), "5d8f")
	other.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	s.pod("stranger", ownedBy(set, "5d8f"), privileged)

	a := liveScan(t, s.server.Config(), "-A")
	a.wantComplete(t, exitFindings)
	if claims := a.verdict(t, s.workload("Pod/stranger")).Claims; claims != "ReplicaSet/web-5d8f (does not exist)" {
		t.Errorf("claims %q", claims)
	}
	if v := a.verdict(t, other.workload("Deployment/web")); v.Pods != 1 || v.Verdict != "closed" {
		t.Errorf("the honest one: %+v", v)
	}
}

func TestLiveUnmountedHostPathDoesNotHide(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("quiet", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
		}
	})
	a := liveScan(t, s.server.Config(), "-n", s.name)
	if a.end.Incomplete || len(a.failures) > 0 {
		t.Errorf("incomplete: %+v", a.failures)
	}
	f := a.finding(t, s.workload("Pod/quiet"), "hostPathVolumes")
	if f.Item != "root" || !strings.HasPrefix(f.Field, "spec.volumes[1]") {
		t.Errorf("finding: %+v", f)
	}
	if v := a.verdict(t, s.workload("Pod/quiet")); v.PSSAllowed {
		t.Errorf("verdict: %+v", v)
	}
}

func TestLiveWorkloadsAreNamedByTheTopOwner(t *testing.T) {
	s := newLiveSpace(t)
	apps, batch := s.server.Client().AppsV1(), s.server.Client().BatchV1()

	// Two ReplicaSets of one Deployment, as in the middle of a rollout.
	web := s.deployment("web")
	s.pod("web-old-1", ownedBy(s.replicaSet(web, "old"), "old"), privileged)
	s.pod("web-new-1", ownedBy(s.replicaSet(web, "new"), "new"))

	cron, err := batch.CronJobs(s.name).Create(t.Context(), &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly"},
		Spec: batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
			Template: corev1.PodTemplateSpec{Spec: neverRestarted(goodPodSpec())},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nightly-1", "nightly-2"} {
		job, err := batch.Jobs(s.name).Create(t.Context(), &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{controllerRef("batch/v1", "CronJob", "nightly", cron.UID)}},
			Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: neverRestarted(goodPodSpec())}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.pod(name+"-x", ownedBy(controllerRef("batch/v1", "Job", name, job.UID), ""))
	}

	labels := map[string]string{"app": "db"}
	db, err := apps.StatefulSets(s.name).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(labels)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db-0", "db-1"} {
		s.pod(name, ownedBy(controllerRef("apps/v1", "StatefulSet", "db", db.UID), ""), func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-" + name},
			}}}
		})
	}

	agent, err := apps.DaemonSets(s.name).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(labels)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.pod("agent-q", ownedBy(controllerRef("apps/v1", "DaemonSet", "agent", agent.UID), ""))
	// As the kubelet shows a static pod. The node need not exist.
	s.pod("etcd-node-1", ownedBy(controllerRef("v1", "Node", "node-1", "aaaa"), ""))
	s.pod("alone")

	a := liveScan(t, s.server.Config(), "-n", s.name)
	a.wantComplete(t, exitFindings)
	a.wantRows(t, s.name, "Deployment/web exposed 2", "CronJob/nightly closed 2", "StatefulSet/db closed 2",
		"DaemonSet/agent closed 1", "Pod/etcd-node-1 closed 1", "Pod/alone closed 1")
	for _, v := range a.verdicts {
		if v.Claims != "" {
			t.Errorf("%s: claims %q, want none", v.Workload, v.Claims)
		}
	}
	if f := a.finding(t, s.workload("Deployment/web"), "privileged"); f.Pods != 1 {
		t.Errorf("pods that have the finding: %d, want 1", f.Pods)
	}
}

func neverRestarted(spec corev1.PodSpec) corev1.PodSpec {
	spec.RestartPolicy = corev1.RestartPolicyNever
	return spec
}

// rolloutKind is a custom kind that owns ReplicaSets.
var rolloutKind = schema.GroupVersionKind{Group: "rollouts.example", Version: "v1alpha1", Kind: "Rollout"}

// installRollouts makes the server serve the kind until the test ends.
func (s liveSpace) installRollouts() {
	s.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "rollouts." + rolloutKind.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: rolloutKind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "rollouts", Singular: "rollout", Kind: rolloutKind.Kind, ListKind: "RolloutList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: rolloutKind.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
			}},
		},
	}
	options := envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{crd}}
	if _, err := envtest.InstallCRDs(s.server.Config(), options); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := envtest.UninstallCRDs(s.server.Config(), options); err != nil {
			s.Error(err)
		}
	})
}

// rollout creates a Rollout.
func (s liveSpace) rollout(name string) metav1.OwnerReference {
	s.Helper()
	client, err := dynamic.NewForConfig(s.server.Config())
	if err != nil {
		s.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}}}
	object.SetGroupVersionKind(rolloutKind)
	resource := rolloutKind.GroupVersion().WithResource("rollouts")
	made, err := client.Resource(resource).Namespace(s.name).Create(s.Context(), object, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("rollout %s: %v", name, err)
	}
	return controllerRef(rolloutKind.GroupVersion().String(), rolloutKind.Kind, name, made.GetUID())
}

func TestLiveCustomResourceOwnsWorkload(t *testing.T) {
	s := newLiveSpace(t)
	s.installRollouts()
	shop := s.rollout("shop")
	set := s.replicaSet(shop, "7c9")
	s.pod("shop-7c9-a", ownedBy(set, "7c9"))
	s.pod("shop-7c9-b", ownedBy(set, "7c9"))
	// One that has its pods without anything between.
	s.pod("direct-a", ownedBy(s.rollout("direct"), ""), privileged)
	forged := shop
	forged.UID = "99999999-2222-3333-4444-555555555555"
	s.pod("forged", ownedBy(forged, ""), privileged)

	a := liveScan(t, s.server.Config(), "-n", s.name)
	a.wantComplete(t, exitFindings)
	a.wantRows(t, s.name, "Rollout/shop closed 2", "Rollout/direct exposed 1", "Pod/forged exposed 1")
}
