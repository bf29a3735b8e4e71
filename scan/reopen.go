package scan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// attempt is one way to put an escape path into a pod that has none.
type attempt struct {
	// how tells it from the plain way, empty for that.
	how  string
	open func(*corev1.PodSpec)
	// debugged: it is put into a pod that runs.
	debugged bool
}

// attemptsAt are the ways to put the path in, the plain one first: a policy may look
// at some containers only, and know a capability by one of its names. There are none
// for a path that no row of pathLayerOf knows.
func attemptsAt(id string) []attempt {
	l := pathLayerOf(id)
	if l.reopen == nil {
		return nil
	}
	all := []attempt{{open: l.reopen}}
	if _, mounted := hostPathOfRule(id); mounted {
		return append(all, mountedOtherwise(id, l.reopen)...)
	}
	if !inContainer(id) {
		return all
	}
	if id != "escape-privileged" && id != "escape-unmasked-proc" {
		all = append(all, attempt{how: " as CAP_…", open: spelled(l.reopen, withPrefix)}, attempt{how: " in lower case", open: spelled(l.reopen, lowerCase)}, attempt{how: " as ALL", open: spelled(l.reopen, asAll)})
	}
	all = append(all, inInit(all)...)
	if id == "escape-hostnetwork-admin" {
		return all
	}
	return append(all, attempt{how: " in an ephemeral container", debugged: true, open: func(s *corev1.PodSpec) {
		l.reopen(s)
		moveToEphemeral(s)
	}})
}

// inInit are the attempts made in an init container.
func inInit(all []attempt) []attempt {
	moved := make([]attempt, len(all))
	for i, a := range all {
		moved[i] = attempt{how: " in an init container" + a.how, open: func(s *corev1.PodSpec) {
			a.open(s)
			moveToInit(s)
		}}
	}
	return moved
}

// mountedOtherwise are other ways to mount a path of the host. Read-only, where the
// path leads out all the same, a policy may take it for harmless; and one that looks
// at mounts may look at those of some containers only.
func mountedOtherwise(id string, open func(*corev1.PodSpec)) []attempt {
	var all []attempt
	switch id {
	case "escape-host-root", "escape-host-proc", "escape-host-dev", "escape-runtime-socket", "escape-etcd-dir", "escape-host-secrets":
		all = append(all, attempt{how: " read-only", open: func(s *corev1.PodSpec) {
			open(s)
			mounts := s.Containers[0].VolumeMounts
			mounts[len(mounts)-1].ReadOnly = true
		}})
	}
	return append(all, inInit([]attempt{{open: open}})...)
}

// inContainer reports whether a path lies in fields of a container alone, where no
// other field of the pod has to open for it.
func inContainer(id string) bool {
	return id == "escape-privileged" || id == "escape-unmasked-proc" || id == "escape-hostnetwork-admin" ||
		strings.HasPrefix(id, "escape-cap-") && id != "escape-cap-mknod-device"
}

// spelled opens a path with the capabilities in other words.
func spelled(open func(*corev1.PodSpec), respell func(*corev1.Capabilities)) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		open(s)
		respell(s.Containers[0].SecurityContext.Capabilities)
	}
}

func withPrefix(c *corev1.Capabilities) {
	for i, name := range c.Add {
		c.Add[i] = "CAP_" + name
	}
}

// lowerCase is how the runtimes take names as well.
func lowerCase(c *corev1.Capabilities) {
	for i, name := range c.Add {
		c.Add[i] = corev1.Capability(strings.ToLower(string(name)))
	}
}

// asAll adds all of them: dropping all at once would leave none.
func asAll(c *corev1.Capabilities) { c.Add, c.Drop = []corev1.Capability{"ALL"}, nil }

// moveToInit puts what is in the pod's container into an init container, and leaves a
// clean one in its place.
func moveToInit(s *corev1.PodSpec) {
	opened := s.Containers[0]
	opened.Name = "reopen-init"
	s.InitContainers = append(s.InitContainers, opened)
	s.Containers[0] = cleanContainer()
}

func moveToEphemeral(s *corev1.PodSpec) {
	opened := s.Containers[0]
	opened.Name = "reopen-debug"
	s.EphemeralContainers = append(s.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(opened)})
	s.Containers[0] = cleanContainer()
}

func cleanContainer() corev1.Container {
	return cleanPod(corev1.Pod{}.ObjectMeta).Spec.Containers[0]
}

// cast is what a made-up pod has of the workload's, empty where nothing reads it:
// policies make exceptions by it.
type cast struct{ image, container, account string }

// casts are those of the pod's containers, without repeats.
func casts(pod *corev1.Pod, keys admission.Keys) []cast {
	var all []cast
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			c := cast{list[i].Image, list[i].Name, pod.Spec.ServiceAccountName}.as(keys)
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	if all == nil {
		return []cast{{}}
	}
	return all
}

// as leaves out what is not read.
func (c cast) as(keys admission.Keys) cast {
	var out cast
	if keys.Images {
		out.image = c.image
	}
	if keys.Containers {
		out.container = c.container
	}
	if keys.Account {
		out.account = c.account
	}
	return out
}

// dress gives a made-up pod the cast. The name is that of the container into which
// something was put.
func (c cast) dress(s *corev1.PodSpec) {
	opened := &s.Containers[0].Name
	for i := range s.InitContainers {
		opened = &s.InitContainers[i].Name
	}
	for i := range s.EphemeralContainers {
		opened = &s.EphemeralContainers[i].Name
	}
	if c.container != "" {
		*opened = c.container
	}
	s.ServiceAccountName = c.account
	if c.image == "" {
		return
	}
	for i := range s.Containers {
		s.Containers[i].Image = c.image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = c.image
	}
	for i := range s.EphemeralContainers {
		s.EphemeralContainers[i].Image = c.image
	}
}

// ruledKey is what the answer of a policy in CEL about a made-up pod hangs on.
type ruledKey struct {
	policy            admission.Rules
	attempt, identity string
	cast              cast
}

// remembered is a policy in CEL that is asked about one made-up spec, once for all
// pods that do not differ in what it reads.
type remembered struct {
	admission.Rules
	door    *doorman
	attempt string
	cast    cast
}

// Rule implements admission.Rules.
func (r remembered) Rule(s admission.Subject) []admission.Ruling {
	keys := r.door.reads[r.Rules]
	if keys.All {
		return r.Rules.Rule(s)
	}
	key := ruledKey{r.Rules, r.attempt, identity(s.Pod, keys), r.cast.as(keys)}
	r.door.mu.Lock()
	known, ok := r.door.in(s.Pod.Namespace).ruled[key]
	r.door.mu.Unlock()
	if !ok {
		known = r.Rules.Rule(s)
		r.door.mu.Lock()
		r.door.in(s.Pod.Namespace).ruled[key] = known
		r.door.mu.Unlock()
	}
	return known
}

// try decides about a clean pod of the workload into which open puts something, nil
// for nothing. name is that of the attempt, the same for the same spec but for the cast;
// empty where there is none.
func (d *doorman) try(subject admission.Subject, name string, as cast, open func(*corev1.PodSpec)) admission.Decision {
	subject.Pod = cleanPod(subject.Pod.ObjectMeta)
	if open != nil {
		open(&subject.Pod.Spec)
	}
	as.dress(&subject.Pod.Spec)
	if name == "" {
		return d.s.admission.Decide(subject)
	}
	set := *d.s.admission
	set.Expressions = make([]admission.Rules, len(d.s.admission.Expressions))
	for i, rules := range d.s.admission.Expressions {
		set.Expressions[i] = remembered{rules, d, name, as}
	}
	return set.Decide(subject)
}

// forThis reports whether a refusal is owed to what a pod has and a clean one has not:
// the policy lets the clean one in, or has something else against it.
func forThis(r *admission.Ruling, clean *admission.Decision) bool {
	refusesClean := false
	for i := range clean.Rulings {
		c := &clean.Rulings[i]
		if c.By != r.By || c.Answer != admission.Refuses {
			continue
		}
		refusesClean = true
		if slices.ContainsFunc(r.Controls, func(id string) bool { return !slices.Contains(c.Controls, id) }) {
			return true
		}
	}
	return !refusesClean
}

// refusers counts who refuses what was attempted.
type refusers struct {
	attempts int
	order    []admission.Ref
	count    map[admission.Ref]int
	// exempt is true where nobody but PodSecurity refuses something.
	exempt bool
}

func (r *refusers) add(by []admission.Ref) {
	r.attempts++
	exempt := true
	for _, ref := range by {
		if r.count[ref] == 0 {
			r.order = append(r.order, ref)
		}
		r.count[ref]++
		exempt = exempt && ref.Mechanism == admission.PodSecurity
	}
	r.exempt = r.exempt || exempt
}

// String says who keeps all of it out.
func (r *refusers) String() string {
	var all []string
	for _, ref := range r.order {
		// PodSecurity comes first, and may be exempted: another that does it alone is
		// the better reason.
		if r.count[ref] == r.attempts && (r.exempt || ref.Mechanism != admission.PodSecurity) {
			all = []string{ref.String()}
			break
		}
	}
	said := " refuses them"
	if len(all) == 0 {
		said = " together refuse them"
		for _, ref := range r.order {
			all = append(all, ref.String())
		}
	}
	if r.exempt {
		said += ", unless the API server's configuration exempts the pods from Pod Security"
	}
	return strings.Join(all, ", ") + said
}

// reopenings tells whether admission keeps every escape path out of a workload that
// has none, which of them it lets in, and why it does so with the first, or who keeps
// them out.
func (d *doorman) reopenings(subject admission.Subject) (answer admission.Answer, open []string, because string) {
	answer = admission.Refuses
	by := &refusers{count: map[admission.Ref]int{}}
	all := casts(subject.Pod, d.s.keys)
	clean := make([]admission.Decision, len(all))
	for i := range all {
		clean[i] = d.try(subject, "clean", all[i], nil)
	}
	for _, id := range reopenings() {
		worst := admission.Refuses
		for i := range all {
			got, reason := d.reopening(subject, id, all[i], &clean[i], by)
			if rankAdmission(got) < rankAdmission(worst) {
				worst = got
			}
			if rankAdmission(got) < rankAdmission(answer) {
				answer, because = got, reason
			}
		}
		if worst != admission.Refuses {
			open = append(open, id)
		}
	}
	if answer == admission.Refuses {
		because = by.String()
	}
	return answer, open, because
}

// reopening tells whether admission keeps one path out, however it is put in.
func (d *doorman) reopening(subject admission.Subject, id string, as cast, clean *admission.Decision, by *refusers) (answer admission.Answer, because string) {
	attempts := attemptsAt(id)
	if len(attempts) == 0 {
		return admission.Unknown, "which pod would open " + id + " is not known"
	}
	answer = admission.Refuses
	for _, a := range attempts {
		asked := subject
		asked.Debugged = a.debugged
		decision := d.try(asked, id+a.how, as, a.open)
		got, reason := decision.Answer, decision.Reason
		if got == admission.Refuses {
			var refs []admission.Ref
			if refs, reason = d.refusing(id, &decision, clean); reason != "" {
				got = admission.Unknown
			} else {
				by.add(refs)
			}
		}
		if rankAdmission(got) < rankAdmission(answer) {
			answer, because = got, reason
			if a.how != "" {
				because = strings.TrimSpace(a.how) + ": " + reason
			}
		}
		if answer == admission.Admits {
			break
		}
	}
	return answer, because
}

// refusing are those that refuse a pod for the path in it. Where that does not keep
// the path out for certain, why says so.
func (d *doorman) refusing(id string, decision, clean *admission.Decision) (by []admission.Ref, why string) {
	var blind string
	seen := false
	for i := range decision.Rulings {
		r := &decision.Rulings[i]
		if r.Answer != admission.Refuses || !forThis(r, clean) {
			continue
		}
		by = append(by, r.By)
		policy := r.By
		policy.Rule = ""
		if reason, ok := d.blind[policy]; ok {
			blind = fmt.Sprintf("only %s refuses it, and may not see it in an ephemeral container: %s", policy, reason)
		} else {
			seen = true
		}
	}
	switch {
	case len(by) == 0:
		return nil, "what refuses it refuses a pod of this workload without the path as well, and would let it in once that is mended: " + decision.Reason
	case !seen && inContainer(id) && id != "escape-hostnetwork-admin":
		return by, blind
	}
	return by, ""
}
