package set

import (
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
)

// Form is one of the forms of the objects.
type Form string

// The forms. Final is the one in which an object stands in the end.
const (
	FormAudit Form = "audit"
	FormFinal Form = "final"
)

// WriteYAML writes the objects as documents, in the order in which they are to be
// applied, each with a comment that says what it is for. Objects that have no such form
// are left out.
func (s *Set) WriteYAML(w io.Writer, form Form) error {
	if err := oneOf("form", form, FormAudit, FormFinal); err != nil {
		return err
	}
	for i := range s.Objects {
		object := &s.Objects[i]
		u := object.Final()
		if form == FormAudit {
			u = object.Audit
		}
		if u == nil {
			continue
		}
		data, err := yaml.Marshal(u.Object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
		var b strings.Builder
		b.WriteString("---\n")
		for _, line := range append([]string{object.Part.purpose()}, object.Why...) {
			b.WriteString("# " + strings.ReplaceAll(line, "\n", " ") + "\n")
		}
		b.Write(data)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return fmt.Errorf("writing %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}

// purpose says in a line what a part is for.
func (p Part) purpose() string {
	switch p {
	case PartAdmission:
		return "Admission: pods that could escape to their host are not taken."
	case PartCapabilities:
		return "Runtime: capabilities that lead out of a container are refused."
	case PartChroot:
		return "Runtime: chroot is not run."
	case PartTools:
		return "Runtime: package managers, make, curl and wget are not run."
	}
	return ""
}
