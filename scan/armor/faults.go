package armor

import "slices"

// Faults are what is wrong with the policy itself, whatever pods it selects.
func (p *Policy) Faults() []Toothless {
	// What an allow list does hangs on the namespace.
	return slices.DeleteFunc(p.inForm(&Pod{}), func(t Toothless) bool { return t.Cause == CauseAllowList })
}
