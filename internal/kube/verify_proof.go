package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

const (
	// triedNamespaces bounds in how many namespaces a proof is looked for: in the first
	// another policy may refuse before ours does.
	triedNamespaces = 8
	// provingPod and provingImage name the pods of proofs. They are dry runs, and the
	// image can be nowhere.
	provingPod   = "escape-scanner-verify"
	provingImage = "escape-scanner.invalid/verify:none"
)

// proof asks the API server itself whether pods are refused.
type proof struct {
	*Verifier
	stage remediate.Stage
	// forms are the admission objects as they stand in this stage.
	forms []*unstructured.Unstructured
	// provenIn is the namespace where the violating pod was dealt with by ours, and done
	// that no more is to be expected.
	provenIn string
	done     bool
}

func (v *Verifier) proofs(stage remediate.Stage, forms []*unstructured.Unstructured) []question {
	p := &proof{Verifier: v, stage: stage, forms: forms}
	subjects := [2]string{"refuses: a privileged pod in the host's namespaces", "admits: a pod that passes restricted"}
	if stage == remediate.StageAudit {
		subjects[0] = "warns: of a privileged pod in the host's namespaces"
	}
	return []question{{subjects[0], p.violating}, {subjects[1], p.harmless}}
}

// violating looks whether a pod that violates the level is refused by ours.
func (p *proof) violating(ctx context.Context) (a answer, settled bool) {
	a, settled = p.tryEach(ctx)
	p.done = settled
	return a, settled
}

func (p *proof) tryEach(ctx context.Context) (answer, bool) {
	namespaces, err := p.namespaces(ctx)
	if err != nil {
		return unread(err)
	}
	last, final := answer{kernel.Unknown, "no namespace is in scope by now in which a pod could be tried"}, false
	for _, ns := range namespaces {
		said, err := p.ask(ctx, violatingPod(ns, p.opts.Set.Scope.Labels))
		if err != nil {
			return unread(err)
		}
		last, final = p.judgeViolating(ns, said)
		switch last.is {
		case kernel.Yes:
			p.provenIn = ns
			return last, true
		case kernel.No:
			// It is in scope and passes: another namespace does not make that right.
			return last, final
		case kernel.Unknown:
		}
	}
	return last, final
}

// judgeViolating says what follows from the answer to a violating pod.
func (p *proof) judgeViolating(namespace string, said *reply) (answer, bool) {
	enforced := p.stage == remediate.StageEnforce
	switch {
	case said.answer == admission.Refuses && p.ours(said.message):
		if enforced {
			return answer{kernel.Yes, fmt.Sprintf("refused in namespace %s (a dry run) by %s", namespace, said.rule)}, true
		}
		return answer{kernel.Yes, fmt.Sprintf("refused in namespace %s (a dry run) by %s: it is enforced already", namespace, said.rule)}, true
	case said.answer == admission.Refuses:
		return answer{kernel.Unknown, fmt.Sprintf("in namespace %s the pod is refused by %s before ours can show what it does", namespace, said.rule)}, false
	case said.answer != admission.Admits:
		return answer{kernel.Unknown, fmt.Sprintf("namespace %s: %s", namespace, said.message)}, said.final
	case enforced:
		return answer{kernel.No, fmt.Sprintf("admitted in namespace %s (a dry run, as the user that applies): the set refuses nothing there", namespace)}, false
	case slices.ContainsFunc(said.warnings, p.ours):
		return answer{kernel.Yes, fmt.Sprintf("admitted in namespace %s (a dry run) with a warning of ours", namespace)}, true
	case !warns(p.forms):
		return answer{kernel.Unknown, "what only audits tells nobody who makes a pod: its reports and the audit log do"}, true
	}
	return answer{kernel.Unknown, fmt.Sprintf("admitted in namespace %s (a dry run), and nothing warned of it", namespace)}, false
}

// harmless looks whether a pod that passes restricted is let pass. It says nothing
// before a violating one is dealt with: everything passes where nothing acts.
func (p *proof) harmless(ctx context.Context) (answer, bool) {
	if p.provenIn == "" {
		return answer{kernel.Unknown, "that a harmless pod passes says nothing while nothing is seen to act"}, p.done
	}
	said, err := p.ask(ctx, harmlessPod(p.provenIn, p.opts.Set.Scope.Labels))
	if err != nil {
		return unread(err)
	}
	switch {
	case said.answer == admission.Refuses && p.ours(said.message):
		return answer{kernel.No, fmt.Sprintf("refused in namespace %s (a dry run) by %s: %s", p.provenIn, said.rule, said.message)}, true
	case said.answer == admission.Admits && slices.ContainsFunc(said.warnings, p.ours):
		return answer{kernel.No, fmt.Sprintf("warned of in namespace %s (a dry run): %s", p.provenIn, shorten(strings.Join(said.warnings, "; "), maxAnswer))}, true
	case said.answer == admission.Admits:
		return answer{kernel.Yes, fmt.Sprintf("admitted in namespace %s (a dry run)", p.provenIn)}, true
	}
	return answer{kernel.Unknown, fmt.Sprintf("namespace %s: %s", p.provenIn, said.message)}, said.final || said.answer == admission.Refuses
}

// namespaces are those to try, the ones where nobody else refuses pods first.
func (p *proof) namespaces(ctx context.Context) ([]string, error) {
	labelled := map[string]bool{}
	for _, form := range p.forms {
		if form.GetKind() == "Namespace" {
			labelled[form.GetName()] = true
		}
	}
	var names []string
	refusing := map[string]bool{}
	all, err := p.cluster.Namespaces(ctx)
	switch {
	case err == nil:
		for i := range all {
			ns := &all[i]
			if ns.DeletionTimestamp != nil || !p.opts.Set.Scope.Covers(ns.Name) || len(labelled) > 0 && !labelled[ns.Name] {
				continue
			}
			_, refusing[ns.Name] = ns.Labels["pod-security.kubernetes.io/enforce"]
			names = append(names, ns.Name)
		}
	case len(labelled)+len(p.opts.Set.Scope.Namespaces) > 0 && ctx.Err() == nil:
		// They are known by name.
		names = slices.Concat(p.opts.Set.Scope.Namespaces, slices.Sorted(maps.Keys(labelled)))
	default:
		return nil, err
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case refusing[a] == refusing[b]:
			return strings.Compare(a, b)
		case refusing[a]:
			return 1
		}
		return -1
	})
	names = slices.Compact(names)
	return names[:min(len(names), triedNamespaces)], nil
}

// reply is what the API server says to a pod.
type reply struct {
	answer        admission.Answer
	rule, message string
	warnings      []string
	// final is an answer that asking again does not change.
	final bool
}

// ask makes a dry run of a pod. The error is one without an answer.
func (p *proof) ask(ctx context.Context, pod *corev1.Pod) (*reply, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetAPIVersion("v1")
	object.SetKind("Pod")
	delete(content, "status")
	written, err := p.writer.Create(ctx, object, remediate.WriteOptions{DryRun: true})
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return &reply{answer: admission.Admits, warnings: written.Warnings}, nil
	case !errors.As(err, &status):
		return nil, err
	}
	r := &reply{}
	r.answer, r.rule, r.message = readRefusal(status.Status())
	r.final = r.answer == admission.Unknown && apierrors.IsForbidden(err)
	return r, nil
}

// ours reports whether a refusal or a warning comes from the set.
func (p *proof) ours(text string) bool {
	return slices.ContainsFunc(p.forms, func(form *unstructured.Unstructured) bool {
		name := form.GetName()
		switch kind := form.GroupVersionKind(); {
		case kind.Kind == "Namespace":
			return strings.Contains(text, `violate PodSecurity "`) || strings.Contains(text, `violates PodSecurity "`)
		case kind.Group == admissionregistrationv1.GroupName:
			return strings.Contains(text, "ValidatingAdmissionPolicy '"+name+"'")
		}
		// Kyverno may have the API server apply what it makes of its own policies.
		return mentions(text, name) || mentions(text, "cpol-"+name) || mentions(text, "vpol-"+name)
	})
}

// mentions reports whether a name stands in a text by itself and not as part of
// another name.
func mentions(text, name string) bool {
	part := func(b byte) bool {
		return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		begin := from + i
		end := begin + len(name)
		if (begin == 0 || !part(text[begin-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		from = end
	}
}

// warns reports whether any of the forms warns who makes a pod.
func warns(forms []*unstructured.Unstructured) bool {
	return slices.ContainsFunc(forms, func(form *unstructured.Unstructured) bool {
		actions, _, _ := unstructured.NestedStringSlice(form.Object, "spec", "validationActions")
		emits, _, _ := unstructured.NestedBool(form.Object, "spec", "emitWarning")
		_, labelled := form.GetLabels()["pod-security.kubernetes.io/warn"]
		return slices.Contains(actions, "Warn") || emits || labelled
	})
}

// harmlessPod passes restricted.
func harmlessPod(namespace string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: provingPod, Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "verify", Image: provingImage,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// violatingPod violates many controls of baseline, so that a set that leaves some of
// them out refuses it too.
func violatingPod(namespace string, labels map[string]string) *corev1.Pod {
	pod := harmlessPod(namespace, labels)
	pod.Spec.HostPID, pod.Spec.HostIPC, pod.Spec.HostNetwork = true, true, true
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		Privileged: new(true), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}},
	}
	return pod
}
