package scan

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// admitted is what admission says of pods with one look.
type admitted struct {
	decision admission.Decision
	// cells has for each open path of each container whether admission stops it.
	cells map[pathKey]Cell
	// reopen and reopens are as in Layers, empty where a path is open already.
	reopen  admission.Answer
	reopens []string
	because string
}

// doorman decides about admission, once for pods that look the same to it.
type doorman struct {
	s  *surroundings
	mu sync.Mutex
	// known is what was decided, by namespace.
	known map[string]*decisions
	// reads is what each policy in CEL reads of a pod's identity.
	reads map[admission.Rules]admission.Keys
	// blind says of the policies that do not see ephemeral containers why.
	blind map[admission.Ref]string
}

// decisions are what was decided about pods of one namespace.
type decisions struct {
	by map[string]*admitted
	// reopenBy keeps what holds for pods with the same identity.
	reopenBy map[string]*admitted
	// ruled is what policies in CEL said of the pods that were made up to ask them.
	ruled map[ruledKey][]admission.Ruling
	// unasked is true once it was told that the API server may not be asked.
	unasked bool
}

// in is what was decided about pods of the namespace. Who calls holds the lock.
func (d *doorman) in(namespace string) *decisions {
	known := d.known[namespace]
	if known == nil {
		known = &decisions{by: map[string]*admitted{}, reopenBy: map[string]*admitted{}, ruled: map[ruledKey][]admission.Ruling{}}
		d.known[namespace] = known
	}
	return known
}

func newDoorman(s *surroundings) *doorman {
	d := &doorman{s: s, known: map[string]*decisions{}, reads: map[admission.Rules]admission.Keys{}, blind: map[admission.Ref]string{}}
	for _, rules := range s.admission.Expressions {
		d.reads[rules] = rules.Reads()
	}
	for _, p := range s.admissionPolicies() {
		for _, f := range p.Faults {
			if f.Cause == admission.CauseKyvernoEphemeral {
				d.blind[p.Policy] = f.Reason
			}
		}
	}
	return d
}

// decide asks whether a pod like this one would be admitted again.
func (d *doorman) decide(ctx context.Context, pod *corev1.Pod, digest Digest, j *Judgement) *admitted {
	identity := identity(pod, d.s.keys)
	key := string(digest[:]) + identity
	if d.s.keys.All || d.s.probes.AskServer != nil || len(d.s.admission.Expressions) > 0 {
		// They may read of the spec what no rule does, and the digest does not tell apart.
		return d.fresh(ctx, pod, j, identity)
	}
	d.mu.Lock()
	known := d.in(pod.Namespace).by[key]
	d.mu.Unlock()
	if known == nil {
		known = d.fresh(ctx, pod, j, identity)
		d.mu.Lock()
		d.in(pod.Namespace).by[key] = known
		d.mu.Unlock()
	}
	return known
}

// identity is what of a pod's metadata is read, as a key.
func identity(pod *corev1.Pod, keys admission.Keys) string {
	var b strings.Builder
	b.WriteString(pod.Namespace)
	if keys.AnyLabels {
		fmt.Fprintf(&b, "%q", pod.Labels)
	}
	writeOnly(&b, pod.Labels, keys.Labels)
	if keys.AnyAnnotations {
		fmt.Fprintf(&b, "%q", pod.Annotations)
	}
	writeOnly(&b, pod.Annotations, keys.Annotations)
	for _, k := range slices.Sorted(maps.Keys(pod.Annotations)) {
		// The Pod Security Standards read these, always.
		if readAnnotation(k) {
			fmt.Fprintf(&b, "%q=%q", k, pod.Annotations[k])
		}
	}
	if keys.Names {
		fmt.Fprintf(&b, "%q", cmp.Or(pod.GenerateName, pod.Name))
	}
	if ref := ControllerOf(pod.OwnerReferences); ref != nil {
		b.WriteString("\x00" + ref.Kind)
		if keys.Names {
			b.WriteString("/" + ref.Name)
		}
	}
	return b.String()
}

func (d *doorman) fresh(ctx context.Context, pod *corev1.Pod, j *Judgement, identity string) *admitted {
	like := asCreated(pod)
	subject := d.s.subject(like)
	a := &admitted{decision: d.s.admission.Decide(subject)}
	if d.s.probes.AskServer != nil && ctx.Err() == nil {
		ruling, err := d.s.probes.AskServer(ctx, like)
		d.unasked(pod, err)
		if err == nil || apierrors.IsForbidden(err) {
			a.decision = confirm(a.decision, ruling)
		}
	}
	if len(j.Paths) > 0 {
		a.cells = d.cells(subject, j, &a.decision)
		return a
	}
	if d.s.keys.All {
		a.reopen, a.reopens, a.because = d.reopenings(subject)
		return a
	}
	if all := casts(pod, d.s.keys); all[0] != (cast{}) {
		identity += fmt.Sprintf("\x00%q", all)
	}
	d.mu.Lock()
	known := d.in(pod.Namespace).reopenBy[identity]
	d.mu.Unlock()
	if known == nil {
		known = &admitted{}
		known.reopen, known.reopens, known.because = d.reopenings(subject)
		d.mu.Lock()
		d.in(pod.Namespace).reopenBy[identity] = known
		d.mu.Unlock()
	}
	a.reopen, a.reopens, a.because = known.reopen, known.reopens, known.because
	return a
}

// unasked records that the API server did not answer a dry run, nil for that it did. A
// right that is missing is missing for all pods of a namespace.
func (d *doorman) unasked(pod *corev1.Pod, err error) {
	if !apierrors.IsForbidden(err) {
		d.s.failed("dry run of a pod like "+pod.Namespace+"/"+pod.Name, err, "whether the API server would admit it again")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.in(pod.Namespace)
	if known.unasked {
		return
	}
	known.unasked = true
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.failures = append(d.s.failures, FailureOf("dry runs", pod.Namespace, err, "whether the API server would admit the pods again"))
}

// subject is the pod with what is known around it.
func (s *surroundings) subject(pod *corev1.Pod) admission.Subject {
	sub := admission.Subject{Pod: pod, OwnerKind: "Pod", OwnerName: pod.Name}
	sub.Namespace, sub.NamespaceUnknown = s.namespace(pod.Namespace)
	if ref := ControllerOf(pod.OwnerReferences); ref != nil {
		sub.OwnerKind, sub.OwnerName = ref.Kind, ref.Name
	}
	return sub
}

// asCreated is a pod like the given one as it was when it was to be created: on no
// node, without what only the server writes and what was added later.
func asCreated(pod *corev1.Pod) *corev1.Pod {
	like := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, GenerateName: pod.GenerateName, Namespace: pod.Namespace,
			Labels: pod.Labels, Annotations: pod.Annotations, OwnerReferences: pod.OwnerReferences, Finalizers: pod.Finalizers,
		},
		Spec: pod.Spec,
	}
	like.Spec.NodeName, like.Spec.EphemeralContainers = "", nil
	return like
}

// confirm joins what the API server itself said on a dry run. Where it contradicts
// the policies, a refusal stands and an admission does not: it may be owed to an
// exemption of the user who asked.
func confirm(ours admission.Decision, server admission.Ruling) admission.Decision {
	said := ours.Answer
	ours.Rulings = append(slices.Clip(ours.Rulings), server)
	switch {
	case server.Answer == admission.Unknown:
	case server.Answer == admission.Refuses && said != admission.Refuses:
		ours.Answer, ours.Reason = admission.Refuses, "the API server refuses it on a dry run: "+server.Message
	case server.Answer == admission.Admits && said == admission.Refuses:
		ours.Answer = admission.Unknown
		ours.Reason = "contradiction: the API server admits it on a dry run of this user's, though " + ours.Reason
	case server.Answer == admission.Admits && said == admission.Unknown:
		ours.Answer, ours.Reason = admission.Admits, "the API server admits it on a dry run"
	case server.Answer == admission.Refuses:
		ours.Reason += "; the API server confirms it on a dry run"
	}
	return ours
}

// mergeAdmission takes what admission says of another part of the pods into l: what
// is let in stays.
func (l *Layers) mergeAdmission(a *admitted) {
	if l.Admission.Answer == "" || rankAdmission(a.decision.Answer) < rankAdmission(l.Admission.Answer) {
		l.Admission = a.decision
	}
	if a.reopen != "" && (l.Reopen == "" || rankAdmission(a.reopen) < rankAdmission(l.Reopen)) {
		l.Reopen, l.ReopenReason = a.reopen, a.because
	}
	if !slices.Equal(l.Reopens, a.reopens) {
		l.Reopens = union(l.Reopens, a.reopens)
	}
}

func rankAdmission(a admission.Answer) int {
	return slices.Index([]admission.Answer{admission.Admits, admission.Unknown, admission.Refuses}, a)
}

// withAdmission is a copy of the layers in which every path has admission's cell.
func (l *Layers) withAdmission(a *admitted) *Layers {
	copied := *l
	copied.Paths = slices.Clone(l.Paths)
	for i := range copied.Paths {
		p := &copied.Paths[i]
		cell, ok := a.cells[pathKey{p.Path, p.Container}]
		if !ok {
			cell = Cell{Answer: StopsUnknown, Reason: fmt.Sprintf("admission was not asked about %s", p.Path)}
		}
		p.Admission = cell
	}
	return &copied
}
