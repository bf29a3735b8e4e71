package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// vapSpace is an API server with the policies under test. Each stands alone in a
// namespace of its own, so that no other one hides its answer.
type vapSpace struct {
	*testing.T
	client     kubernetes.Interface
	vaps       []*admission.VAP
	namespaces map[string]*corev1.Namespace
}

// readVAPs reads the policies and bindings of the file, in its order.
func readVAPs(t *testing.T) (policies []*admissionregistrationv1.ValidatingAdmissionPolicy, bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "scan", "admission", "testdata", "expression", "policies.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		switch {
		case bytes.Contains(document, []byte("kind: ValidatingAdmissionPolicyBinding\n")):
			binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
			err = yaml.UnmarshalStrict(document, binding)
			bindings = append(bindings, binding)
		case bytes.Contains(document, []byte("kind: ValidatingAdmissionPolicy\n")):
			policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
			err = yaml.UnmarshalStrict(document, policy)
			policies = append(policies, policy)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
	}
	if len(policies) < 50 || len(bindings) < len(policies) {
		t.Fatalf("%d policies, %d bindings", len(policies), len(bindings))
	}
	return policies, bindings
}

// confined gives a binding that matches only namespaces labelled with its policy's
// name.
func confined(binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	if binding.Spec.MatchResources == nil {
		binding.Spec.MatchResources = &admissionregistrationv1.MatchResources{}
	}
	binding.Spec.MatchResources.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"policy": binding.Spec.PolicyName}}
	return binding
}

// vapMarker is a policy that is created last of all: where it is in force, the others
// are.
func vapMarker() (*admissionregistrationv1.ValidatingAdmissionPolicy, *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "zz-marker"}}
	policy.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	policy.Spec.Validations = []admissionregistrationv1.Validation{{Expression: "params.data.registry == ''", Message: "the marker is in force"}}
	policy.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
		RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		},
	}}}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "zz-marker"}}
	binding.Spec.PolicyName = policy.Name
	binding.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	binding.Spec.ParamRef = &admissionregistrationv1.ParamRef{Name: "strict", Namespace: "parameters", ParameterNotFoundAction: new(admissionregistrationv1.DenyAction)}
	return policy, confined(binding)
}

// newVAPSpace starts a server of its own: policies hold for all tests of a server.
func newVAPSpace(t *testing.T) *vapSpace {
	t.Helper()
	server := kubetest.New(t)
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &vapSpace{T: t, client: client, namespaces: map[string]*corev1.Namespace{}}
	server.NamedNamespace(t, "parameters", nil)
	for name, data := range map[string]map[string]string{"strict": {"registry": "registry.example/"}, "few": {"most": "1"}, "many": {"most": "20"}} {
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"of": "registry"}}, Data: data}
		if name != "strict" {
			configMap.Labels["of"] = "limits"
		}
		if _, err := client.CoreV1().ConfigMaps("parameters").Create(t.Context(), configMap, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	policies, bindings := readVAPs(t)
	policy, binding := vapMarker()
	s.install(append(policies, policy), append(bindings, binding))
	return s
}

// install creates the policies and waits until the server applies them, then reads
// them as a scan would.
func (s *vapSpace) install(policies []*admissionregistrationv1.ValidatingAdmissionPolicy, bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	s.Helper()
	api := s.client.AdmissionregistrationV1()
	for _, policy := range policies {
		if _, err := api.ValidatingAdmissionPolicies().Create(s.Context(), policy, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.namespace(policy.Name, map[string]string{"policy": policy.Name, "env": "prod"})
	}
	s.namespace("free", nil)
	for _, binding := range bindings {
		if _, err := api.ValidatingAdmissionPolicyBindings().Create(s.Context(), confined(binding), metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
	}
	marker := specialPods()[0]
	err := wait.PollUntilContextTimeout(s.Context(), 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		_, err := s.create("zz-marker", marker)
		return err != nil && strings.Contains(err.Error(), "the marker is in force"), nil
	})
	if err != nil {
		s.Fatalf("policies are not in force: %v", err)
	}
	listed, err := api.ValidatingAdmissionPolicies().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	bound, err := api.ValidatingAdmissionPolicyBindings().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	vaps, errs := admission.NewVAPs(marshalAll(s.T, listed.Items), marshalAll(s.T, bound.Items), s.params, "v1.36.3")
	if len(errs) > 0 || len(vaps) != len(policies) {
		s.Fatalf("%d policies of %d, errors %v", len(vaps), len(policies), errs)
	}
	s.vaps = vaps
}

func marshalAll[T any](t *testing.T, items []T) [][]byte {
	t.Helper()
	out := make([][]byte, len(items))
	for i := range items {
		data, err := json.Marshal(items[i])
		if err != nil {
			t.Fatal(err)
		}
		out[i] = data
	}
	return out
}

func (s *vapSpace) namespace(name string, labels map[string]string) {
	s.Helper()
	namespace, err := s.client.CoreV1().Namespaces().
		Create(s.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	s.namespaces[name] = namespace
}

// params finds parameters on the server.
func (s *vapSpace) params(q admission.ParamQuery) ([]map[string]any, error) {
	selector := q.Selector
	if selector == nil {
		selector = labels.Everything()
	}
	list, err := s.client.CoreV1().ConfigMaps(q.Namespace).List(s.Context(), metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	var found []map[string]any
	for i := range list.Items {
		if q.Name != "" && q.Name != list.Items[i].Name {
			continue
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&list.Items[i])
		if err != nil {
			return nil, err
		}
		found = append(found, object)
	}
	return found, nil
}

// create asks the server whether it would take a pod in a namespace.
func (s *vapSpace) create(namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	return s.client.CoreV1().Pods(namespace).Create(s.Context(), pod.DeepCopy(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// specialPods are pods that the policies tell apart by other things than what the
// conformance pods vary.
func specialPods() []*corev1.Pod {
	special := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "special-" + name}}
		pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}
		change(pod)
		return pod
	}
	return []*corev1.Pod{
		special("plain", func(*corev1.Pod) {}),
		special("web", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }),
		special("db", func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": "db", "tier": "back"}
			p.Annotations = map[string]string{"note": "x"}
		}),
		special("other", func(p *corev1.Pod) { p.Labels = map[string]string{"tier": "back"} }),
		special("host", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		special("host-web", func(p *corev1.Pod) {
			p.Spec.HostNetwork, p.Spec.HostPID = true, true
			p.Labels = map[string]string{"app": "web"}
		}),
		special("small", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}
		}),
		special("large", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi")}
		}),
		special("aliases", func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"a"}}}
		}),
		special("outer-aliases", func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"a"}}}
		}),
		special("selinux", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: "spc_t"}}
		}),
		special("latest", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "elsewhere.example/app:latest" }),
		special("untagged", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/app" }),
		special("many", func(p *corev1.Pod) {
			for i := range 10 {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "registry.example/b:2"})
			}
		}),
	}
}

// vapPods are the special pods, of the conformance pods the first that fails each
// control, and some that pass all.
func vapPods(t *testing.T) []*corev1.Pod {
	t.Helper()
	pods := specialPods()
	controls := map[string]bool{}
	for i, sample := range samplePods(t, "restricted", "v1.35") {
		control := strings.TrimRight(filepath.Base(sample.File), "0123456789.yaml")
		if sample.Pass && i%8 != 0 || !sample.Pass && controls[control] {
			continue
		}
		controls[control] = !sample.Pass || controls[control]
		pod := sample.Pod.Pod.DeepCopy()
		pod.Name = sample.name
		pods = append(pods, pod)
	}
	if len(controls) < 15 {
		t.Fatalf("pods that fail %d controls only", len(controls))
	}
	return pods
}

// existing gives the pods that are valid, and what the server makes of them, defaults
// and all: that is what a scan sees.
func (s *vapSpace) existing(pods []*corev1.Pod) (valid, existing []*corev1.Pod) {
	s.Helper()
	for _, pod := range pods {
		made, err := s.create("free", pod)
		switch {
		case apierrors.IsInvalid(err):
			// No policy is asked about it.
		case err != nil:
			s.Fatal(err)
		default:
			valid, existing = append(valid, pod), append(existing, made)
		}
	}
	if len(valid) < len(pods)*9/10 {
		s.Fatalf("only %d of %d pods are valid", len(valid), len(pods))
	}
	return valid, existing
}

// vapTally counts what was compared for one policy.
type vapTally struct{ refused, admitted, unknown int }

// The scan's answer for a pod and a ValidatingAdmissionPolicy is the server's. It is
// unknown only where who creates the pod decides, or what creation fills in.
func TestLiveVAPSaysWhatTheServerDoes(t *testing.T) {
	s := newVAPSpace(t)
	pods, existing := s.existing(vapPods(t))
	tallies := make([]vapTally, len(s.vaps))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				tallies[i] = s.compare(s.vaps[i], pods, existing)
			}
		})
	}
	for i := range s.vaps {
		next <- i
	}
	close(next)
	wg.Wait()
	onlyOne, unknown, refused := 0, 0, 0
	for i, tally := range tallies {
		if tally.refused == 0 || tally.admitted == 0 {
			onlyOne++
		}
		unknown, refused = unknown+tally.unknown, refused+tally.refused
		if name := s.vaps[i].Ref().Name; strings.HasPrefix(name, "user-") && name != "user-in-annotation" && tally.unknown == 0 {
			t.Errorf("%s is never unknown", name)
		}
	}
	t.Logf("%d policies, %d pods, %d refused, %d unknown, %d policies with one answer only", len(s.vaps), len(pods), refused, unknown, onlyOne)
	if onlyOne > len(s.vaps)/4 || refused < len(pods)*len(s.vaps)/10 {
		t.Error("the policies hardly tell the pods apart")
	}
}

func (s *vapSpace) compare(vap *admission.VAP, pods, existing []*corev1.Pod) vapTally {
	var tally vapTally
	name := vap.Ref().Name
	for i, pod := range pods {
		_, err := s.create(name, pod)
		refused := apierrors.IsInvalid(err) || apierrors.IsForbidden(err)
		if err != nil && (!refused || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy")) {
			s.Errorf("%s, pod %s: %v", name, pod.Name, err)
			continue
		}
		subject := admission.Subject{Pod: existing[i].DeepCopy(), Namespace: s.namespaces[name], OwnerKind: "Pod", OwnerName: pod.Name}
		subject.Pod.Namespace = name
		answer, message := admission.Admits, ""
		for _, ruling := range vap.Rule(subject) {
			switch {
			case ruling.Answer == admission.Refuses && answer != admission.Refuses, ruling.Answer == admission.Unknown && answer == admission.Admits:
				answer, message = ruling.Answer, ruling.Message
			}
		}
		switch {
		case refused:
			tally.refused++
		default:
			tally.admitted++
		}
		switch {
		case answer == admission.Unknown:
			tally.unknown++
			if !strings.HasPrefix(name, "user-") {
				s.Errorf("%s, pod %s: unknown (%s), server said: %v", name, pod.Name, message, err)
			}
		case refused != (answer == admission.Refuses):
			s.Errorf("%s, pod %s: %s (%s), server said: %v", name, pod.Name, answer, message, err)
		case refused && !strings.Contains(err.Error(), message):
			s.Errorf("%s, pod %s: said %q, server said: %v", name, pod.Name, message, err)
		}
	}
	return tally
}
