package set

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"
)

// make creates an object for good.
func (s *celSpace) make(object *unstructured.Unstructured) {
	s.Helper()
	if _, err := s.resource(object).Create(s.Context(), object, metav1.CreateOptions{}); err != nil {
		s.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
	}
}

// refuses checks that an object is refused with a message that names the control.
func (s *celSpace) refuses(t *testing.T, err error, control string) {
	t.Helper()
	if !denied(err) || !slices.Contains(named(t, err.Error()), control) {
		t.Errorf("it is not refused for %s: %v", control, err)
	}
}

// admits checks that nothing is refused.
func (s *celSpace) admits(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("it is refused: %v", err)
	}
}

// podUpdate is what somebody does to a pod that exists.
type podUpdate struct {
	pod     string
	refused bool
	do      func(s *celSpace, pod *corev1.Pod) error
}

var dryRunAll = []string{metav1.DryRunAll}

// changing updates a pod that was changed, dry.
func changing(change func(*corev1.Pod)) func(*celSpace, *corev1.Pod) error {
	return func(s *celSpace, pod *corev1.Pod) error {
		change(pod)
		_, err := s.client.CoreV1().Pods(pod.Namespace).Update(s.Context(), pod, metav1.UpdateOptions{DryRun: dryRunAll})
		return err
	}
}

// debugging adds an ephemeral container, dry.
func debugging(context *corev1.SecurityContext) func(*celSpace, *corev1.Pod) error {
	return func(s *celSpace, pod *corev1.Pod) error {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger", Image: "registry.example/debug:1", SecurityContext: context},
		})
		_, err := s.client.CoreV1().Pods(pod.Namespace).UpdateEphemeralContainers(s.Context(), pod.Name, pod, metav1.UpdateOptions{DryRun: dryRunAll})
		return err
	}
}

func podUpdates() map[string]podUpdate {
	return map[string]podUpdate{
		"labels":             {pod: "bad", do: changing(func(p *corev1.Pod) { p.Labels["more"] = "x" })},
		"no labels":          {pod: "bad", do: changing(func(p *corev1.Pod) { p.Labels = nil })},
		"annotations":        {pod: "bad", do: changing(func(p *corev1.Pod) { p.Annotations = map[string]string{"note": "x"} })},
		"finalizers removed": {pod: "bad", do: changing(func(p *corev1.Pod) { p.Finalizers = nil })},
		"a toleration": {pod: "bad", do: changing(func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists})
		})},
		"a deadline":                 {pod: "bad", do: changing(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) })},
		"an image":                   {pod: "bad", refused: true, do: changing(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/app:2" })},
		"an init container's image":  {pod: "bad", refused: true, do: changing(func(p *corev1.Pod) { p.Spec.InitContainers[0].Image = "registry.example/init:2" })},
		"an image of a good pod":     {pod: "good", do: changing(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/app:2" })},
		"debugging":                  {pod: "good", do: debugging(nil)},
		"privileged debugging":       {pod: "good", refused: true, do: debugging(&corev1.SecurityContext{Privileged: new(true)})},
		"debugging with SYS_PTRACE":  {pod: "good", refused: true, do: debugging(&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_PTRACE"}}})},
		"debugging a bad pod":        {pod: "bad", refused: true, do: debugging(nil)},
		"debugging as it was before": {pod: "debugged", do: changing(func(p *corev1.Pod) { p.Labels["more"] = "x" })},
		"status": {pod: "bad", do: func(s *celSpace, p *corev1.Pod) error {
			p.Status.Phase = corev1.PodRunning
			_, err := s.client.CoreV1().Pods(p.Namespace).UpdateStatus(s.Context(), p, metav1.UpdateOptions{DryRun: dryRunAll})
			return err
		}},
		"resize": {pod: "bad", do: func(s *celSpace, p *corev1.Pod) error {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
			_, err := s.client.CoreV1().Pods(p.Namespace).UpdateResize(s.Context(), p.Name, p, metav1.UpdateOptions{DryRun: dryRunAll})
			return err
		}},
		"deletion": {pod: "bad", do: func(s *celSpace, p *corev1.Pod) error {
			return s.client.CoreV1().Pods(p.Namespace).Delete(s.Context(), p.Name, metav1.DeleteOptions{DryRun: dryRunAll})
		}},
		"eviction": {pod: "bad", do: func(s *celSpace, p *corev1.Pod) error {
			return s.client.CoreV1().Pods(p.Namespace).EvictV1(s.Context(), &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Name: p.Name}, DeleteOptions: &metav1.DeleteOptions{DryRun: dryRunAll},
			})
		}},
	}
}

// Of what happens to pods that were there before, our policies and Kyverno's refuse
// what the API server's own plugin refuses.
func TestLiveCELJudgesUpdatesAsPodSecurityDoes(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	namespaces := []string{"podsecurity", "ours", "kyverno-form"}
	for _, namespace := range namespaces {
		s.server.NamedNamespace(t, namespace, nil)
		s.makePods(namespace)
	}
	labels := `{"metadata": {"labels": {"` + psa.EnforceLevelLabel + `": "baseline"}}}`
	if _, err := s.client.CoreV1().Namespaces().Patch(t.Context(), "podsecurity", types.MergePatchType, []byte(labels), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.until("podsecurity", func() bool {
		return apierrors.IsForbidden(s.try(workload(t, "Pod", "podsecurity", "probe", nil, badSpec())))
	})
	s.install(renderings()[0].mustRender(t, celOptions("ours", psa.LevelBaseline, "latest", "ours")), (*Object).Final)
	s.inForce("ours", nil)
	s.actAsKyverno(t, celOptions("kyv", psa.LevelBaseline, "latest", "kyverno-form"))
	s.until("kyverno-form", func() bool { return denied(s.try(workload(t, "Pod", "kyverno-form", "probe", nil, badSpec()))) })
	s.until("kyverno-form: ephemeral containers", func() bool {
		pod, err := s.client.CoreV1().Pods("kyverno-form").Get(t.Context(), "good", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return denied(debugging(badSpec().Containers[0].SecurityContext)(s, pod))
	})
	for name, update := range podUpdates() {
		t.Run(name, func(t *testing.T) {
			for _, namespace := range namespaces {
				pod, err := s.client.CoreV1().Pods(namespace).Get(t.Context(), update.pod, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				err = update.do(s, pod)
				refused := denied(err) || apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity")
				if err != nil && !refused || refused != update.refused {
					t.Errorf("%s: refused: %v, want %v (%v)", namespace, refused, update.refused, err)
				}
			}
		})
	}
}

// makePods makes a pod that no level allows, a good one, and one that was debugged with
// privileges.
func (s *celSpace) makePods(namespace string) {
	s.Helper()
	bad := badSpec()
	bad.InitContainers = []corev1.Container{{Name: "init", Image: "registry.example/init:1"}}
	bad.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	pod := workload(s.T, "Pod", namespace, "bad", nil, bad)
	pod.SetFinalizers([]string{"example.com/held"})
	s.make(pod)
	s.make(workload(s.T, "Pod", namespace, "good", nil, goodSpec()))
	s.make(workload(s.T, "Pod", namespace, "debugged", nil, goodSpec()))
	debugged, err := s.client.CoreV1().Pods(namespace).Get(s.Context(), "debugged", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "was", Image: "registry.example/debug:1", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
	}}}
	if _, err := s.client.CoreV1().Pods(namespace).UpdateEphemeralContainers(s.Context(), "debugged", debugged, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// actAsKyverno puts Kyverno's policies into force without Kyverno: each becomes a
// ValidatingAdmissionPolicy as it stands, and one more for controllers, rewritten as
// Kyverno does it: the path of the template takes the place of object.spec and
// object.metadata in the text, but for object.metadata.namespace.
func (s *celSpace) actAsKyverno(t *testing.T, o Options) {
	t.Helper()
	for _, object := range renderings()[1].mustRender(t, o) {
		policy := validatingPolicy{}
		data, err := object.Final().MarshalJSON()
		if err == nil {
			err = json.Unmarshal(data, &policy)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.stand(t, o, policy.Name, policy.Spec)
		if policy.Spec.Autogen == nil {
			continue
		}
		below := whenChanged("apps", "daemonsets", "deployments", "replicasets", "statefulsets")
		s.stand(t, o, policy.Name+"-defaults", rewritten(t, policy.Spec, "spec.template.", below, whenChanged("batch", "jobs")))
		s.stand(t, o, policy.Name+"-cronjobs", rewritten(t, policy.Spec, "spec.jobTemplate.spec.template.", whenChanged("batch", "cronjobs")))
	}
}

// rewritten is a policy for pods as Kyverno makes it for controllers.
func rewritten(t *testing.T, spec validatingPolicySpec, path string, rules ...admissionregistrationv1.NamedRuleWithOperations) validatingPolicySpec {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, object := range []string{"object.", "oldObject."} {
		for _, field := range []string{"spec", "metadata"} {
			text = strings.ReplaceAll(text, object+field, object+path+field)
			text = strings.ReplaceAll(text, object+path+field+".namespace", object+field+".namespace")
		}
	}
	var out validatingPolicySpec
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	out.MatchConstraints.ResourceRules = rules
	return out
}

func (s *celSpace) stand(t *testing.T, o Options, name string, spec validatingPolicySpec) {
	t.Helper()
	policy := newVAP(o, name, nil, roots{}, "")
	policy.Spec.MatchConstraints, policy.Spec.Variables, policy.Spec.Validations = spec.MatchConstraints, spec.Variables, spec.Validations
	for _, typed := range []any{policy, bindingVAP(o, name, true)} {
		object, err := toUnstructured(typed)
		if err != nil {
			t.Fatal(err)
		}
		// The binding is for named namespaces; labels are in the policy's own text.
		unstructured.RemoveNestedField(object.Object, "spec", "matchResources", "objectSelector")
		s.install([]Object{{Audit: object}}, (*Object).Final)
	}
}
