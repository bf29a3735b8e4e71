package set

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// maxName leaves room for the endings of the objects' names, which are labels too.
const maxName = 36

// Admissions lists the mechanisms as the user may ask for them.
func Admissions() []Admission {
	return []Admission{AdmissionAuto, AdmissionPSA, AdmissionKyverno, AdmissionKyvernoCEL, AdmissionVAP, AdmissionNone}
}

// Parts lists the parts, in the order in which they are applied.
func Parts() []Part {
	return []Part{PartAdmission, PartCapabilities, PartChroot, PartTools}
}

// Validate tells everything that is wrong with the options. Auto is right: it is
// settled later.
func (o *Options) Validate() error {
	var errs []error
	if msgs := validation.IsDNS1123Label(o.Name); len(msgs) > 0 {
		errs = append(errs, fmt.Errorf("set name %q: %s", o.Name, strings.Join(msgs, "; ")))
	} else if len(o.Name) > maxName {
		errs = append(errs, fmt.Errorf("set name %q: more than %d characters", o.Name, maxName))
	}
	if err := o.Scope.Validate(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs,
		oneOf("admission", o.Admission, Admissions()...),
		oneOf("level", o.Level, psa.LevelBaseline, psa.LevelRestricted),
		oneOf("action", o.Action, ActionBlock, ActionAudit),
		oneOf("fit", o.Fit, FitFull, FitPrecise))
	if _, err := psa.ParseVersion(o.PSSVersion); err != nil {
		errs = append(errs, fmt.Errorf("version of the Pod Security Standards %q: %w", o.PSSVersion, err))
	}
	chosen, err := o.choice()
	if err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, o.selectable(chosen))
	}
	return errors.Join(errs...)
}

func oneOf[T ~string](what string, value T, allowed ...T) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s %q: one of %s is wanted", what, value, join(allowed))
}

func join[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

// choice is what of the set is chosen.
type choice struct {
	admission bool
	elements  map[Part][]armor.Element
}

// has tells whether anything of the part is chosen.
func (c *choice) has(p Part) bool {
	if p == PartAdmission {
		return c.admission
	}
	return len(c.elements[p]) > 0
}

// runtime tells whether a part of KubeArmor's is chosen.
func (c *choice) runtime() bool { return len(c.elements) > 0 }

// partOf is the part that an element belongs to.
func partOf(e armor.Element) Part {
	switch e.Kind {
	case armor.Capability:
		return PartCapabilities
	case armor.Chroot:
		return PartChroot
	case armor.Tool:
		return PartTools
	}
	return ""
}

// choice reads Only, Without, the admission and the action. Unknown names and an empty
// rest are errors.
func (o *Options) choice() (*choice, error) {
	only, err := names("only", o.Only)
	if err != nil {
		return nil, err
	}
	without, err := names("without", o.Without)
	if err != nil {
		return nil, err
	}
	wanted := func(name string, part Part) bool {
		in := len(only) == 0 || slices.Contains(only, name) || slices.Contains(only, string(part))
		return in && !slices.Contains(without, name) && !slices.Contains(without, string(part))
	}
	c := &choice{elements: map[Part][]armor.Element{}}
	c.admission = o.Admission != AdmissionNone && wanted(string(PartAdmission), PartAdmission)
	audited := 0
	for _, e := range armor.Elements() {
		part := partOf(e)
		switch {
		case !wanted(e.Name, part):
		case o.Action == ActionAudit && part == PartCapabilities:
			audited++
		default:
			c.elements[part] = append(c.elements[part], e)
		}
	}
	switch {
	case c.admission || c.runtime():
		return c, nil
	case audited > 0:
		return nil, errors.New("nothing of the set is left: KubeArmor audits no capabilities, so action audit leaves them out")
	}
	return nil, errors.New("nothing of the set is left: only and without, with the admission, take out all of it")
}

// names reads names of parts and elements. Capabilities may be written in capitals and
// with "CAP_" before.
func names(list string, given []string) ([]string, error) {
	known := Parts()
	for _, e := range armor.Elements() {
		if !slices.Contains(known, Part(e.Name)) {
			known = append(known, Part(e.Name))
		}
	}
	var read []string
	for _, written := range given {
		name := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(written)), "cap_")
		if !slices.Contains(known, Part(name)) {
			return nil, fmt.Errorf("%s %q: neither a part nor an element of the set; those are %s", list, written, join(known))
		}
		read = append(read, name)
	}
	return read, nil
}

// selectable tells whether every chosen part can mean the same pods by the labels.
func (o *Options) selectable(c *choice) error {
	if len(o.Scope.Labels) == 0 {
		return nil
	}
	var errs []error
	if c.admission && o.Admission == AdmissionPSA {
		errs = append(errs, errors.New("admission psa: labels of a namespace hold for all of its pods, so pods cannot be chosen by their labels; choose vap, kyverno-cel or kyverno, or none"))
	}
	if c.runtime() {
		for _, key := range sortedKeys(o.Scope.Labels) {
			if why := unselectable(key); why != "" {
				errs = append(errs, fmt.Errorf("label %s: KubeArmor %s; choose other labels, or leave the runtime parts out", key, why))
			}
		}
	}
	return errors.Join(errs...)
}

// unselectable says what KubeArmor does with a label that it does not compare as it
// stands on the pod, "" for all others.
func unselectable(key string) string {
	switch {
	case key == "pod-template-hash", key == "pod-template-generation", key == "controller-revision-hash":
		return "does not see it"
	case key == "kubearmor.io/container.name":
		return "takes it for names of containers"
	case strings.Contains(key, "kubernetes.io/hostname"), strings.Contains(key, "kubearmor.io/hostname"):
		return "takes it for a pattern, which pods without it meet too"
	case key == "namespaceName":
		return "takes it for the namespace's name"
	}
	return ""
}
