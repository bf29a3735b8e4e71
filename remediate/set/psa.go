package set

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
)

// podSecurityMode is one of the three things that a namespace's labels can ask for.
type podSecurityMode struct {
	name, level, version string
}

func podSecurityModes(enforce bool) []podSecurityMode {
	modes := []podSecurityMode{
		{"warn", psa.WarnLevelLabel, psa.WarnVersionLabel},
		{"audit", psa.AuditLevelLabel, psa.AuditVersionLabel},
	}
	if enforce {
		modes = append(modes, podSecurityMode{"enforce", psa.EnforceLevelLabel, psa.EnforceVersionLabel})
	}
	return modes
}

// podSecurity renders the labels of every namespace in scope.
func (r *renderer) podSecurity() ([]Object, error) {
	namespaces := r.opts.Scope.Namespaces
	if len(namespaces) == 0 {
		known, err := r.namespaces("admission psa: each namespace is labelled by itself")
		if err != nil {
			return nil, err
		}
		namespaces = known
		r.note("Pod-security labels stand on each namespace: namespaces to come are not labelled before the next apply.")
	}
	r.note("The API server enforces pod-security labels on pods only: for a controller that would make such pods it warns.")
	if r.facts.NamespaceLabels == nil {
		r.note("The labels that the namespaces have are not known here: a stricter level on one of them would be lowered.")
	}
	var objects []Object
	for _, ns := range sorted(namespaces) {
		r.noteStricter(ns)
		object, err := r.opts.forms(PartAdmission, func(enforce bool) any { return r.labelled(ns, enforce) })
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// labelled is a namespace with nothing but the labels of the set.
func (r *renderer) labelled(namespace string, enforce bool) *corev1.Namespace {
	labels := map[string]string{LabelSet: r.opts.Name, LabelVersion: Version}
	for _, mode := range podSecurityModes(enforce) {
		labels[mode.level], labels[mode.version] = string(r.opts.Level), r.opts.PSSVersion
		if r.stricter(namespace, mode) {
			// Applied as it is, so that no earlier apply of ours takes it away with it.
			there := r.facts.NamespaceLabels[namespace]
			labels[mode.level] = there[mode.level]
			delete(labels, mode.version)
			if version, ok := there[mode.version]; ok {
				labels[mode.version] = version
			}
		}
	}
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels},
	}
}

// stricter tells whether the namespace asks for more already.
func (r *renderer) stricter(namespace string, mode podSecurityMode) bool {
	there, ok := r.facts.NamespaceLabels[namespace][mode.level]
	if !ok {
		return false
	}
	level, err := psa.ParseLevel(there)
	return err == nil && psa.CompareLevels(level, r.opts.Level) > 0
}

func (r *renderer) noteStricter(namespace string) {
	for _, mode := range podSecurityModes(r.opts.Action == ActionBlock) {
		if r.stricter(namespace, mode) {
			r.note("Namespace %s has %s at %s already, which is stricter than %s and stays as it is.",
				namespace, mode.name, r.facts.NamespaceLabels[namespace][mode.level], r.opts.Level)
		}
	}
}
