package preview

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Judge says what the set would do to every workload. It changes nothing of what it is
// given and says the same whatever the order of the workloads, nodes and alerts.
func Judge(in Input) *Report {
	r := &Report{Counts: map[Outcome]int{}, Failures: slices.Clone(in.Failures)}
	for _, o := range Outcomes() {
		r.Counts[o] = 0
	}
	j := newJudge(&in)
	r.Failures = append(r.Failures, j.failures...)
	for i := range in.Workloads {
		w := j.workload(&in.Workloads[i])
		r.Counts[w.Outcome]++
		r.Workloads = append(r.Workloads, w)
	}
	slices.SortStableFunc(r.Workloads, func(a, b Workload) int {
		return cmp.Or(rank(a.Outcome)-rank(b.Outcome), a.Workload.Compare(b.Workload))
	})
	return r
}

// rank orders outcomes, the worst first.
func rank(o Outcome) int { return slices.Index(Outcomes(), o) }

// judge is a set with all that its effects hang on.
type judge struct {
	in       *Input
	door     *door
	policies *policies
	nodes    *nodeClasses
	alerts   *sightings
	// elements are those of the set, and covers keeps what was judged of containers.
	elements []armor.Element
	covers   map[coverKey]*armor.Judgement
	failures []scan.Failure
}

func newJudge(in *Input) *judge {
	j := &judge{in: in, nodes: newNodeClasses(in), alerts: newSightings(in.Alerts, in.Workloads), elements: armor.Elements(), covers: map[coverKey]*armor.Judgement{}}
	var objects []set.Object
	var options set.Options
	if in.Set != nil {
		objects, options = in.Set.Objects, in.Set.Options
	}
	j.door = newDoor(in, objects, options, j.unread)
	j.policies = newPolicies(objects, j.unread)
	return j
}

// unread keeps that an object of the set could not be read back, so that what it does is
// not known.
func (j *judge) unread(subject string, err error, affects string) {
	j.failures = append(j.failures, scan.Failure{
		Subject: subject, Reason: scan.FailureInvalid, Message: err.Error(), Affects: affects,
	})
}

// view is one specimen as the rules see it.
type view struct {
	*judge
	workload   *targets.Workload
	specimen   *targets.Specimen
	pod        *corev1.Pod
	containers []container
	// runtime is what the runtime policies do in it.
	runtime *runtime
	effects map[effectKey]Effect
}

// effectKey tells effects apart: those that agree in it are one, the worst of them.
type effectKey struct {
	part                            set.Part
	element, container, field, what string
	kind                            scan.ContainerKind
}

// index is where a container stands in its list: in pods of one workload it may differ.
var index = regexp.MustCompile(`^spec\.(initContainers|containers|ephemeralContainers)\[\d+\]`)

func keyOf(e *Effect) effectKey {
	field := e.Field
	if e.Container != "" {
		field = index.ReplaceAllString(field, "$1")
	}
	return effectKey{e.Part, e.Element, e.Container, field, e.What, e.ContainerKind}
}

func (v *view) add(e Effect) {
	key := keyOf(&e)
	if had, ok := v.effects[key]; ok && rank(had.Outcome) <= rank(e.Outcome) {
		return
	}
	e.Pods = v.specimen.Live
	v.effects[key] = e
}

// in puts a container's name on an effect.
func (e Effect) in(c *container) Effect {
	e.Container, e.ContainerKind = c.Name, c.kind
	return e
}

// workload joins what happens to the specimens of a workload.
func (j *judge) workload(w *targets.Workload) Workload {
	out := Workload{Workload: w.Workload, Outcome: Safe}
	effects := map[effectKey]Effect{}
	if len(w.Specimens) == 0 {
		e := Effect{Outcome: MayBreak, Part: PartRuntime, What: "nothing is known of its pods"}
		effects[keyOf(&e)] = e
	}
	for i := range w.Specimens {
		s := &w.Specimens[i]
		out.Pods += s.Live
		for key, e := range j.specimen(w, s) {
			if had, ok := effects[key]; ok {
				pods := had.Pods + e.Pods
				if rank(had.Outcome) <= rank(e.Outcome) {
					e = had
				}
				e.Pods = pods
			}
			effects[key] = e
		}
	}
	for _, e := range j.alertsOf(w) {
		effects[keyOf(&e)] = e
	}
	for _, e := range effects {
		out.Effects = append(out.Effects, e)
		if rank(e.Outcome) < rank(out.Outcome) {
			out.Outcome = e.Outcome
		}
	}
	slices.SortFunc(out.Effects, compareEffects)
	out.Accepted = j.accepted(w.Workload)
	return out
}

func (j *judge) specimen(w *targets.Workload, s *targets.Specimen) map[effectKey]Effect {
	v := &view{
		judge: j, workload: w, specimen: s, pod: s.Pod,
		containers: containersOf(&s.Pod.Spec), effects: map[effectKey]Effect{},
	}
	v.admission()
	v.runtime = j.runtimeOf(v)
	if v.runtime == nil {
		return v.effects
	}
	v.notCovered()
	for i := range v.containers {
		c := &v.containers[i]
		v.execs(c)
		v.capabilities(c)
		v.writes(c)
		v.programs(c)
	}
	v.kubectlExec()
	return v.effects
}

// accepted says by what the breaking of a workload is accepted.
func (j *judge) accepted(w scan.Workload) string {
	same := func(a scan.Workload) bool {
		if a.Cluster == "" {
			a.Cluster = w.Cluster
		}
		return a == w
	}
	if slices.ContainsFunc(j.in.Accepted, same) {
		return "--accept"
	}
	if j.in.Excepted == nil {
		return ""
	}
	if reason, ok := j.in.Excepted(w); ok {
		return cmp.Or(reason, "an exception without a reason")
	}
	return ""
}

// partOrder is the order in which a reader gets the parts.
func partOrder(p set.Part) int {
	return slices.Index([]set.Part{set.PartAdmission, PartRuntime, set.PartCapabilities, set.PartChroot, set.PartTools}, p)
}

func compareEffects(a, b Effect) int {
	return cmp.Or(
		rank(a.Outcome)-rank(b.Outcome),
		partOrder(a.Part)-partOrder(b.Part),
		strings.Compare(a.Container, b.Container),
		strings.Compare(a.Element, b.Element),
		strings.Compare(a.Field, b.Field),
		strings.Compare(a.What, b.What),
		strings.Compare(string(a.ContainerKind), string(b.ContainerKind)),
	)
}

// partOf is the part of the set that an element belongs to.
func partOf(kind armor.ElementKind) set.Part {
	switch kind {
	case armor.Capability:
		return set.PartCapabilities
	case armor.Chroot:
		return set.PartChroot
	case armor.Tool:
	}
	return set.PartTools
}

func objectName(o *set.Object) string {
	u := o.Final()
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", u.GetKind(), u.GetNamespace(), u.GetName()))
}
