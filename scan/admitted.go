package scan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// admitted is what admission says of pods with one look.
type admitted struct {
	decision admission.Decision
	// cells has for each open path whether admission stops it.
	cells map[string]Cell
	// reopen and reopens are as in Layers, empty where a path is open already.
	reopen  admission.Answer
	reopens []string
	because string
}

// doorman decides about admission, once for pods that look the same to it.
type doorman struct {
	s  *surroundings
	mu sync.Mutex
	by map[string]*admitted
	// reopenBy keeps what holds for pods with the same identity.
	reopenBy map[string]*admitted
}

func newDoorman(s *surroundings) *doorman {
	return &doorman{s: s, by: map[string]*admitted{}, reopenBy: map[string]*admitted{}}
}

// decide asks whether a pod like this one would be admitted again.
func (d *doorman) decide(ctx context.Context, pod *corev1.Pod, digest Digest, j *Judgement) *admitted {
	identity := d.identity(pod)
	key := string(digest[:]) + identity
	if d.s.keys.All || d.s.probes.AskServer != nil || len(d.s.admission.Expressions) > 0 {
		// They may read of the spec what no rule does, and the digest does not tell apart.
		return d.fresh(ctx, pod, j, identity)
	}
	d.mu.Lock()
	known := d.by[key]
	d.mu.Unlock()
	if known == nil {
		known = d.fresh(ctx, pod, j, identity)
		d.mu.Lock()
		d.by[key] = known
		d.mu.Unlock()
	}
	return known
}

// identity is what of a pod's metadata admission reads, as a key.
func (d *doorman) identity(pod *corev1.Pod) string {
	var b strings.Builder
	b.WriteString(pod.Namespace)
	write := func(from map[string]string, keys []string) {
		for _, k := range keys {
			if v, ok := from[k]; ok {
				b.WriteString("\x00" + k + "=" + v)
			}
		}
		b.WriteByte(1)
	}
	write(pod.Labels, d.s.keys.Labels)
	write(pod.Annotations, d.s.keys.Annotations)
	if d.s.keys.Names {
		b.WriteString(cmp.Or(pod.GenerateName, pod.Name))
	}
	if ref := ControllerOf(pod.OwnerReferences); ref != nil {
		b.WriteString("\x00" + ref.Kind)
		if d.s.keys.Names {
			b.WriteString("/" + ref.Name)
		}
	}
	return b.String()
}

func (d *doorman) fresh(ctx context.Context, pod *corev1.Pod, j *Judgement, identity string) *admitted {
	like := asCreated(pod)
	subject := d.s.subject(like)
	a := &admitted{decision: d.s.admission.Decide(subject)}
	if d.s.probes.AskServer != nil {
		ruling, err := d.s.probes.AskServer(ctx, like)
		d.s.failed("dry run of a pod like "+pod.Namespace+"/"+pod.Name, err, "whether the API server would admit it again")
		if err == nil {
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
	d.mu.Lock()
	known := d.reopenBy[identity]
	d.mu.Unlock()
	if known == nil {
		known = &admitted{}
		known.reopen, known.reopens, known.because = d.reopenings(subject)
		d.mu.Lock()
		d.reopenBy[identity] = known
		d.mu.Unlock()
	}
	a.reopen, a.reopens, a.because = known.reopen, known.reopens, known.because
	return a
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

// cells says for each open path of the pod whether admission stops it.
func (d *doorman) cells(subject admission.Subject, j *Judgement, decision *admission.Decision) map[string]Cell {
	cells := make(map[string]Cell, len(j.Paths))
	for _, id := range j.Paths {
		cells[id] = d.cell(subject, id, decision)
	}
	return cells
}

// cell tells a refusal that is about the path from one about something else in the
// pod, which would let the path in as soon as that is mended.
func (d *doorman) cell(subject admission.Subject, id string, decision *admission.Decision) Cell {
	switch decision.Answer {
	case admission.Admits:
		return Cell{Answer: StopsNo, Reason: decision.Reason}
	case admission.Unknown:
		return Cell{Answer: StopsUnknown, Reason: decision.Reason}
	case admission.Refuses:
	}
	l := pathLayerOf(id)
	cell := Cell{Answer: StopsNo, Reason: "what admission refuses in these pods is something else"}
	for i := range decision.Rulings {
		r := &decision.Rulings[i]
		if r.Answer != admission.Refuses {
			continue
		}
		about, known := slices.ContainsFunc(r.Controls, func(c string) bool { return slices.Contains(l.controls, c) }), true
		if len(r.Controls) == 0 {
			about, known = d.refusesPath(subject, l, r.By)
		}
		switch {
		case about:
			return Cell{Answer: StopsYes, By: []string{r.By.String()}, Reason: r.Message}
		case !known && cell.Answer == StopsNo:
			cell = Cell{Answer: StopsUnknown, By: []string{r.By.String()}, Reason: "refuses these pods; whether for this path is not known"}
		}
	}
	return cell
}

// refusesPath reports whether the policy refuses a pod for the path alone: one that
// has nothing else in it is refused, and one that has nothing at all is not.
func (d *doorman) refusesPath(subject admission.Subject, l pathLayer, by admission.Ref) (about, known bool) {
	if by.Mechanism == admission.AskedServer || l.reopen == nil {
		return false, false
	}
	refuses := func(pod *corev1.Pod) bool {
		sub := subject
		sub.Pod = pod
		decision := d.s.admission.Decide(sub)
		return slices.ContainsFunc(decision.Rulings, func(r admission.Ruling) bool {
			return r.By == by && r.Answer == admission.Refuses
		})
	}
	clean := cleanPod(subject.Pod.ObjectMeta)
	if refuses(clean) {
		return false, false
	}
	l.reopen(&clean.Spec)
	return refuses(clean), true
}

// reopenings tells whether admission keeps every escape path out of a workload that
// has none, which it lets in, and why it does so with the first.
func (d *doorman) reopenings(subject admission.Subject) (answer admission.Answer, open []string, because string) {
	answer = admission.Refuses
	for _, id := range reopenings() {
		pod := cleanPod(subject.Pod.ObjectMeta)
		pathLayerOf(id).reopen(&pod.Spec)
		sub := subject
		sub.Pod = pod
		decision := d.s.admission.Decide(sub)
		if decision.Answer != admission.Refuses {
			open = append(open, id)
		}
		if rankAdmission(decision.Answer) < rankAdmission(answer) {
			answer, because = decision.Answer, decision.Reason
		}
	}
	return answer, open, because
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
		cell, ok := a.cells[p.Path]
		if !ok {
			cell = Cell{Answer: StopsUnknown, Reason: fmt.Sprintf("admission was not asked about %s", p.Path)}
		}
		p.Admission = cell
	}
	return &copied
}
