package set

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Render makes the objects of the set. The options must be valid, and the admission
// settled. The same options and facts make the same set, to the byte.
func Render(opts Options, facts Facts) (*Set, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Admission == AdmissionAuto {
		return nil, errors.New("admission auto: it must be settled before the set is rendered")
	}
	chosen, err := opts.choice()
	if err != nil {
		return nil, err
	}
	r := &renderer{opts: &opts, facts: facts, choice: chosen}
	r.scopeNotes()
	if r.choice.admission {
		if err := r.admission(); err != nil {
			return nil, err
		}
	}
	if r.asked(PartCapabilities, PartChroot, PartTools) {
		if err := r.runtime(); err != nil {
			return nil, err
		}
	}
	return &Set{Options: opts, Objects: r.objects, Notes: r.notes, Spared: r.spared}, nil
}

// Chosen are the elements that the set forbids at run time, in the end, where it is cut
// in full. They are fewer than were asked for under ActionAudit: KubeArmor audits no
// capabilities.
func (s *Set) Chosen(parts ...Part) []armor.Element {
	chosen, err := s.Options.choice()
	if err != nil {
		return nil
	}
	var elements []armor.Element
	for _, p := range Parts() {
		if len(parts) == 0 || slices.Contains(parts, p) {
			elements = append(elements, chosen.elements[p]...)
		}
	}
	return elements
}

// renderer collects the set.
type renderer struct {
	opts    *Options
	facts   Facts
	choice  *choice
	objects []Object
	notes   []string
	spared  []Spared
}

func (r *renderer) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// asked tells whether one of the parts was asked for, the action aside.
func (r *renderer) asked(parts ...Part) bool {
	block := *r.opts
	block.Action = ActionBlock
	chosen, err := block.choice()
	return err == nil && slices.ContainsFunc(parts, chosen.has)
}

func (r *renderer) scopeNotes() {
	if len(r.opts.Scope.Labels) > 0 {
		r.note("Pods are chosen by labels: whoever may change a pod's labels may take it out of the set.")
	}
	if len(r.opts.Scope.Namespaces) > 0 {
		return
	}
	r.note("Never in scope: the namespaces %s.", strings.Join(always(r.opts.Scope), ", "))
	if len(r.opts.Scope.Exclude) > 0 {
		r.note("Left out as asked: the namespaces %s.", strings.Join(sorted(r.opts.Scope.Exclude), ", "))
	}
}

// always are the namespaces that no scope takes in.
func always(s targets.Scope) []string {
	names := targets.Always()
	if s.Own != "" {
		names = append(names, s.Own)
	}
	return sorted(names)
}

// excluded are the namespaces that a scope of the whole cluster leaves out.
func excluded(s targets.Scope) []string {
	return sorted(slices.Concat(always(s), s.Exclude))
}

// sorted is a sorted copy without repeats.
func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// namespaces are those of the cluster in scope, for what must stand in each of them.
func (r *renderer) namespaces(why string) ([]string, error) {
	if r.facts.Namespaces == nil {
		return nil, fmt.Errorf("%s, and the cluster's namespaces are not known: name them, or let a cluster be read", why)
	}
	var in []string
	for _, ns := range r.facts.Namespaces {
		if r.opts.Scope.Covers(ns) {
			in = append(in, ns)
		}
	}
	if len(in) == 0 {
		r.note("None of the cluster's namespaces is in scope.")
	}
	return in, nil
}

func (r *renderer) admission() error {
	var objects []Object
	var notes []string
	var err error
	switch r.opts.Admission {
	case AdmissionPSA:
		objects, err = r.podSecurity()
	case AdmissionKyverno:
		objects, err = r.kyverno()
	case AdmissionKyvernoCEL:
		objects, notes, err = renderKyvernoCEL(*r.opts)
	case AdmissionVAP:
		objects, notes, err = renderVAP(*r.opts)
	case AdmissionAuto, AdmissionNone:
	}
	if err != nil {
		return err
	}
	r.objects = append(r.objects, objects...)
	for _, text := range notes {
		r.note("%s", text)
	}
	return nil
}

// runtime renders KubeArmor's policies.
func (r *renderer) runtime() error {
	r.runtimeNotes()
	fits := r.fits()
	cuts, err := r.full()
	if r.opts.Fit == FitPrecise {
		cuts, err = r.precise(fits)
	}
	if err != nil {
		return err
	}
	for _, c := range cuts {
		object, err := r.policy(c)
		if err != nil {
			return err
		}
		r.objects = append(r.objects, object)
	}
	return nil
}
