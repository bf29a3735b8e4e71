package preview

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// door is what the set and what is there without it say of pods that are created.
type door struct {
	rules, today admission.Set
	// labels are what the set puts on namespaces.
	labels map[string]map[string]string
	// active: the set has something to say about admission.
	active bool
	// engine names the fields to change.
	engine *scan.Engine
}

// newDoor reads the set's admission objects back.
func newDoor(in *Input, objects []set.Object, options set.Options, unread func(subject string, err error, affects string)) *door {
	d := &door{labels: map[string]map[string]string{}, rules: admission.Set{Server: in.Server}, today: admission.Set{Server: in.Server}}
	if in.Today != nil {
		d.today = *in.Today
	}
	var vaps, bindings, validating [][]byte
	fail := func(subject string, err error) {
		unread(subject, err, "which pods it would refuse")
		d.rules.Missing = append(d.rules.Missing, subject+" could not be read back: "+err.Error())
	}
	for i := range objects {
		o := &objects[i]
		if o.Part != set.PartAdmission {
			continue
		}
		u := o.Final()
		if u == nil {
			fail("an object of the set", errors.New("it has no form"))
			continue
		}
		d.active = true
		data, err := json.Marshal(u.Object)
		switch {
		case err != nil:
			fail(objectName(o), err)
		case u.GetKind() == "Namespace":
			d.labels[u.GetName()] = u.GetLabels()
		case strings.HasPrefix(u.GetAPIVersion(), "kyverno.io/"):
			rules, err := admission.DecodeKyverno(u.GetKind(), data)
			if err != nil {
				fail(objectName(o), err)
				continue
			}
			d.rules.Kyverno = append(d.rules.Kyverno, rules)
		case strings.HasPrefix(u.GetAPIVersion(), "policies.kyverno.io/"):
			validating = append(validating, data)
		case u.GetKind() == "ValidatingAdmissionPolicy":
			vaps = append(vaps, data)
		case u.GetKind() == "ValidatingAdmissionPolicyBinding":
			bindings = append(bindings, data)
		default:
			fail(objectName(o), errors.New("a kind that the preview cannot evaluate"))
		}
	}
	d.compile(in, vaps, bindings, validating, fail)
	d.prepareEngine(options, in.Server, fail)
	return d
}

// compile reads the policies in CEL. The set brings no exceptions, so what time it is
// does not matter.
func (d *door) compile(in *Input, vaps, bindings, validating [][]byte, fail func(string, error)) {
	if len(vaps) > 0 {
		read, errs := admission.NewVAPs(vaps, bindings, nil, serverVersion(in.Server))
		for _, v := range read {
			d.rules.Expressions = append(d.rules.Expressions, v)
		}
		for _, err := range errs {
			fail("the set's admission policy", err)
		}
	}
	if len(validating) > 0 {
		read, errs := admission.NewValidatingPolicies(validating, nil, "", time.Time{})
		for _, p := range read {
			d.rules.Expressions = append(d.rules.Expressions, p)
		}
		for _, err := range errs {
			fail("the set's admission policy", err)
		}
	}
}

func serverVersion(v psa.Version) string {
	if v == (psa.Version{}) || v.Latest() {
		return ""
	}
	return v.String()
}

// prepareEngine makes the engine that names fields, at the level of the set and at the
// version that the server would judge by.
func (d *door) prepareEngine(options set.Options, server psa.Version, fail func(string, error)) {
	if !d.active {
		return
	}
	version := psa.LatestVersion()
	if options.PSSVersion != "" {
		asked, err := psa.ParseVersion(options.PSSVersion)
		if err != nil {
			fail("the set's version of the Pod Security Standards", err)
			return
		}
		version = asked
	}
	if server != (psa.Version{}) && server.Older(version) {
		version = server
	}
	engine, err := scan.NewEngine(options.Level, version)
	if err != nil {
		fail("the set's level", err)
		return
	}
	d.engine = engine
}

// subject is the specimen as it would be created anew, in its namespace with these
// labels over its own.
func (v *view) subject(labels map[string]string) admission.Subject {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: *v.pod.ObjectMeta.DeepCopy(),
		Spec:       v.pod.Spec,
	}
	pod.UID, pod.ResourceVersion, pod.ManagedFields = "", "", nil
	pod.Spec.NodeName, pod.Spec.EphemeralContainers = "", nil
	s := admission.Subject{Pod: pod, OwnerKind: v.workload.Kind, OwnerName: v.workload.Name}
	if ref := scan.ControllerOf(pod.OwnerReferences); ref != nil {
		s.OwnerKind, s.OwnerName = ref.Kind, ref.Name
	}
	ns := v.in.Namespaces[v.pod.Namespace]
	switch {
	case ns == nil && len(labels) == 0:
		s.NamespaceUnknown = "it was not read"
	case ns == nil:
		s.Namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v.pod.Namespace, Labels: labels}}
	case len(labels) == 0:
		s.Namespace = ns
	default:
		laid := *ns
		laid.Labels = maps.Clone(ns.Labels)
		if laid.Labels == nil {
			laid.Labels = map[string]string{}
		}
		maps.Copy(laid.Labels, labels)
		s.Namespace = &laid
	}
	return s
}

// admission says what becomes of the specimen when it is created anew.
func (v *view) admission() {
	if !v.door.active {
		return
	}
	subject := v.subject(v.door.labels[v.pod.Namespace])
	decision := v.door.rules.Decide(subject)
	switch decision.Answer {
	case admission.Refuses:
		v.refused(&decision)
	case admission.Unknown:
		if !v.ofSet(&decision) {
			return
		}
		v.add(Effect{Outcome: MayBreak, Part: set.PartAdmission,
			What: "whether it would be admitted " + v.next() + " is not known", Why: decision.Reason})
	case admission.Admits:
		v.reported(&decision)
	}
}

// ofSet tells whether the set's own rules leave a decision open: where it brings no
// labels for the namespace, those that are there are not its business.
func (v *view) ofSet(d *admission.Decision) bool {
	if len(v.door.rules.Missing) > 0 || len(v.door.labels[v.pod.Namespace]) > 0 {
		return true
	}
	return slices.ContainsFunc(d.Rulings, func(r admission.Ruling) bool {
		return r.Answer == admission.Unknown && r.By.Mechanism != admission.PodSecurity
	})
}

// next says when the specimen is created anew.
func (v *view) next() string {
	switch v.workload.Kind {
	case "CronJob", "Job":
		return "at each run"
	case "Pod":
		return "if it is created again"
	}
	return "at its next start"
}

// refused tells the controls and the fields for which the specimen is refused.
func (v *view) refused(d *admission.Decision) {
	today := v.door.today.Decide(v.subject(nil))
	if today.Answer == admission.Refuses {
		v.add(Effect{Outcome: Safe, Part: set.PartAdmission,
			What: "is refused today already", Why: today.Reason})
		return
	}
	outcome, why := Breaks, d.Reason
	if running := v.unlikeTemplate(); running > 0 {
		outcome = MayBreak
		why = sentences(why, fmt.Sprintf("the %d pods that run differ from the template, so something changes them when they are created", running))
	}
	if v.specimen.Live > 0 {
		why = sentences(why, "what runs goes on until then")
	}
	what := "would be refused " + v.next()
	found := v.blame(d)
	if len(found) == 0 {
		v.add(Effect{Outcome: outcome, Part: set.PartAdmission, What: what, Why: why})
	}
	for i := range found {
		f := &found[i]
		v.add(Effect{Outcome: outcome, Part: set.PartAdmission, Element: f.Rule, Container: f.Container,
			ContainerKind: f.ContainerKind, Field: f.Field, What: what + ": " + f.Message, Why: why, Mend: mendOf(f)})
	}
}

// unlikeTemplate counts the live pods of a workload whose template is judged and which
// all differ from it.
func (v *view) unlikeTemplate() int {
	if v.specimen.Live > 0 {
		return 0
	}
	n := 0
	for i := range v.workload.Specimens {
		n += v.workload.Specimens[i].Live
	}
	return n
}

// blame are the findings of the controls that refuse.
func (v *view) blame(d *admission.Decision) []scan.Finding {
	if v.door.engine == nil {
		return nil
	}
	var controls []string
	for _, r := range d.Rulings {
		if r.Answer == admission.Refuses {
			controls = append(controls, r.Controls...)
		}
	}
	spec := v.pod.Spec
	spec.EphemeralContainers = nil
	judged := v.door.engine.Judge(scan.Pod{Meta: &v.pod.ObjectMeta, Spec: &spec}, scan.Facts{})
	return slices.DeleteFunc(judged.Findings, func(f scan.Finding) bool {
		return f.Category != scan.CategoryPSS || len(controls) > 0 && !slices.Contains(controls, f.Rule)
	})
}

// mendOf says the single change of a field that was tried and found to help.
func mendOf(f *scan.Finding) string {
	if f.Fix == nil {
		return ""
	}
	mend := "remove " + f.Field
	if f.Fix.Op == scan.FixSet {
		mend = "set " + f.Field + " to " + string(f.Fix.Value)
	}
	return sentences(mend, f.Fix.Note)
}

// reported says what is only reported: nothing breaks by it.
func (v *view) reported(d *admission.Decision) {
	for _, r := range d.Rulings {
		if r.Toothless == nil || !onlyReports(r.Toothless.Cause) ||
			r.By.Mechanism == admission.PodSecurity && len(v.door.labels[v.pod.Namespace]) == 0 {
			continue
		}
		message := r.Message
		if len(r.Controls) > 0 {
			message = strings.Join(r.Controls, ", ")
		}
		v.add(Effect{Outcome: Safe, Part: set.PartAdmission,
			What: "would be reported " + v.next() + ", not refused", Why: sentences(r.By.String(), message)})
		return
	}
}

func onlyReports(cause admission.Cause) bool {
	return slices.Contains([]admission.Cause{admission.CausePSANotEnforced, admission.CauseKyvernoAudit, admission.CauseVAPNotEnforced}, cause)
}
