package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// askedPod is a pod as it comes from a server on which it has run for a while.
func askedPod(namespace string, change func(*corev1.Pod)) *corev1.Pod {
	mount := corev1.VolumeMount{Name: "kube-api-access-x7k2p", MountPath: tokenMount, ReadOnly: true}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "web-5d9-x7k2p", GenerateName: "web-5d9-", UID: "a-uid", ResourceVersion: "17", Generation: 3,
			Labels:          map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d9", UID: "gone"}},
			Finalizers:      []string{"example.com/keep"},
		},
		Spec: corev1.PodSpec{
			NodeName: "some-node",
			Containers: []corev1.Container{{
				Name: "web", Image: "nginx", VolumeMounts: []corev1.VolumeMount{mount},
			}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox"}}},
			Volumes: []corev1.Volume{{Name: mount.Name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
			}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func privileged(pod *corev1.Pod) {
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
}

func ask(t *testing.T, config *rest.Config, pod *corev1.Pod) admission.Ruling {
	t.Helper()
	cluster, err := NewCluster(config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ruling, err := cluster.AskServer(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if ruling.By.Mechanism != admission.AskedServer || ruling.By.Name != pod.Namespace {
		t.Errorf("by %+v", ruling.By)
	}
	return ruling
}

func TestLiveAskServer(t *testing.T) {
	server := live.Server(t)
	plain := server.Namespace(t, nil)
	baseline := server.Namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	warns := server.Namespace(t, map[string]string{"pod-security.kubernetes.io/warn": "baseline"})
	full := server.Namespace(t, nil)
	server.ApplyYAML(t, `
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: `+full+`}
spec: {hard: {pods: "0"}}
status: {hard: {pods: "0"}, used: {pods: "0"}}
`)
	named := func(pod *corev1.Pod) { pod.GenerateName = "" }
	for _, test := range []struct {
		name      string
		namespace string
		change    func(*corev1.Pod)
		want      admission.Answer
		rule      string
		message   string
	}{
		{"nothing refuses", plain, privileged, admission.Admits, "", ""},
		{"baseline, and it fits", baseline, nil, admission.Admits, "", ""},
		{"baseline", baseline, privileged, admission.Refuses, "PodSecurity baseline:latest", "privileged"},
		{"a warning refuses nothing", warns, privileged, admission.Admits, "", ""},
		{"a pod of its own name", plain, named, admission.Admits, "", ""},
		{"a priority that its class no longer has", plain, func(p *corev1.Pod) {
			p.Spec.PriorityClassName, p.Spec.Priority = "system-node-critical", new(int32(5))
		}, admission.Admits, "", ""},
		{"a quota that is used up", full, nil, admission.Unknown, "", "exceeded quota"},
		{"a spec that is not valid", plain, func(p *corev1.Pod) { p.Spec.Containers[0].Name = "No Name" }, admission.Unknown, "", "spec.containers[0].name"},
		{"a namespace that is gone", "no-such-namespace", nil, admission.Unknown, "", "not found"},
		{"a runtime class that is gone", plain, func(p *corev1.Pod) { p.Spec.RuntimeClassName = new("gone") }, admission.Unknown, "", "RuntimeClass"},
		{"a static pod", plain, func(p *corev1.Pod) { p.Annotations = map[string]string{mirrorAnnotation: "x"} }, admission.Unknown, "", "static pod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ask(t, server.Config(), askedPod(test.namespace, test.change))
			if got.Answer != test.want || got.By.Rule != test.rule || !strings.Contains(got.Message, test.message) {
				t.Errorf("%+v, want %s by %q saying %q", got, test.want, test.rule, test.message)
			}
		})
	}
	for _, namespace := range []string{plain, baseline} {
		if pods, err := server.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{}); err != nil || len(pods.Items) > 0 {
			t.Errorf("%d pods were made (%v)", len(pods.Items), err)
		}
	}
}

// Its name is taken by the pod itself: that says nothing against a second one, and
// does not hide a refusal.
func TestLiveAskServerAboutAPodThatExists(t *testing.T) {
	server := live.Server(t)
	namespace := server.Namespace(t, nil)
	exists := func(pod *corev1.Pod) {
		privileged(pod)
		pod.ObjectMeta = metav1.ObjectMeta{Name: "exists", Namespace: namespace}
	}
	if _, err := server.Client().CoreV1().Pods(namespace).Create(t.Context(), likeNew(askedPod(namespace, exists)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := server.Client().CoreV1().Pods(namespace).Get(t.Context(), "exists", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, server.Config(), pod); got.Answer != admission.Admits {
		t.Errorf("without a label: %+v", got)
	}
	patch := []byte(`{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}`)
	if _, err := server.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "PodSecurity sees the label", func() bool { return ask(t, server.Config(), pod).Answer == admission.Refuses })
}

func TestLiveAskServerWithoutTheRightToCreatePods(t *testing.T) {
	server := live.Server(t)
	namespace := server.Namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	user := server.User(t, `violates PodSecurity "baseline:latest": x`)
	for _, change := range []func(*corev1.Pod){nil, privileged} {
		got, err := clusterOf(t, user).AskServer(t.Context(), askedPod(namespace, change))
		if got.Answer != admission.Unknown || !strings.Contains(got.Message, "not allowed to ask") || !apierrors.IsForbidden(err) {
			t.Errorf("%+v, %v, want that it is not known for lack of rights", got, err)
		}
	}
	server.Allow(t, `violates PodSecurity "baseline:latest": x`, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}})
	if got := ask(t, user, askedPod(namespace, privileged)); got.Answer != admission.Refuses {
		t.Errorf("with the right: %+v", got)
	}
}

func TestLiveAskServerMeetsPoliciesAndWebhooks(t *testing.T) {
	server := live.Server(t)
	namespace := server.Namespace(t, map[string]string{"asked": "yes"})
	server.ApplyYAML(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: ask-no-privileged}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}
  validations:
  - {expression: "object.spec.containers.all(c, !has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged)", message: no privileged pods here}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: ask-no-privileged}
spec: {policyName: ask-no-privileged, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+namespace+`}}}}
`)
	eventually(t, "the policy is in force", func() bool {
		got := ask(t, server.Config(), askedPod(namespace, privileged))
		return got.Answer == admission.Refuses && got.By.Rule == "ValidatingAdmissionPolicy ask-no-privileged" && strings.Contains(got.Message, "no privileged pods here")
	})
	if got := ask(t, server.Config(), askedPod(namespace, nil)); got.Answer != admission.Admits {
		t.Errorf("a pod that fits: %+v", got)
	}

	webhook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
			return
		}
		if review.Request.DryRun == nil || !*review.Request.DryRun {
			t.Error("the webhook was not told that it is a dry run")
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: false, Result: &metav1.Status{Message: "not on my watch"}}
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(webhook.Close)
	webhookAt := func(url string) string {
		return `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ask-webhook}
webhooks:
- name: ask.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig: {url: "` + url + `", caBundle: ` + caBundle(webhook) + `}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + namespace + `}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
`
	}
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	gone.Close()
	for _, test := range []struct {
		name, manifest string
		want           admission.Answer
		message        string
	}{
		{"refuses", webhookAt(webhook.URL), admission.Refuses, "not on my watch"},
		{"does not answer", webhookAt(gone.URL), admission.Unknown, "failed calling webhook"},
	} {
		t.Run("a webhook that "+test.name, func(t *testing.T) {
			server.ApplyYAML(t, test.manifest)
			eventually(t, "the webhook is asked", func() bool {
				got := ask(t, server.Config(), askedPod(namespace, nil))
				return got.Answer == test.want && strings.Contains(got.Message, test.message)
			})
		})
	}
}

func TestLiveAskServerThatDoesNotAnswer(t *testing.T) {
	server := live.Server(t)
	namespace := server.Namespace(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action {
		cancel()
		return kubetest.Hold(t.Context().Done(), kubetest.Pass())
	})
	cluster, err := NewCluster(proxy.Config(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if ruling, err := cluster.AskServer(ctx, askedPod(namespace, nil)); !errors.Is(err, context.Canceled) || ruling.Answer != admission.Unknown {
		t.Errorf("%+v and %v, want that it was cancelled", ruling, err)
	}
}

func TestReadRefusal(t *testing.T) {
	pods := corev1.Resource("pods")
	status := func(name, text string) metav1.Status {
		return apierrors.NewForbidden(pods, name, errors.New(text)).ErrStatus
	}
	for _, test := range []struct {
		name   string
		status metav1.Status
		want   admission.Answer
	}{
		{"PodSecurity", status("web-", `violates PodSecurity "restricted:v1.30": x`), admission.Refuses},
		{"PodSecurity, no name", status("", `violates PodSecurity "restricted:v1.30": x`), admission.Refuses},
		{"a webhook, as Kyverno answers", metav1.Status{Code: 400, Message: `admission webhook "validate.kyverno.svc-fail" denied the request: x`}, admission.Refuses},
		{"RBAC, and a user who is called like a refusal", status("", `User "violates PodSecurity \"x\": " cannot create resource "pods"`), admission.Unknown},
		{"an authorizer that speaks of refusals", status("", `User "x" cannot create resource "pods": violates PodSecurity "x": y`), admission.Unknown},
		{"a webhook that cannot be asked", metav1.Status{Code: 400, Message: `admission webhook "x" does not support dry run`}, admission.Unknown},
		{"a webhook that failed", metav1.Status{Code: 500, Message: `Internal error occurred: failed calling webhook "x": admission webhook "x" denied the request`}, admission.Unknown},
		{"a limit range", status("x", `maximum cpu usage per Container is 1, but limit is 2`), admission.Unknown},
		{"nothing", metav1.Status{}, admission.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, rule, message := readRefusal(test.status); got != test.want || (rule != "") != (test.want == admission.Refuses) {
				t.Errorf("%s by %q: %q, want %s", got, rule, message, test.want)
			}
		})
	}
	if _, _, message := readRefusal(status("x", strings.Repeat("ä", 5000))); len(message) > maxAnswer+3 {
		t.Errorf("a message of %d bytes", len(message))
	}
}
