package armor

import "slices"

// Inert reports whether nothing in the policy ever has an effect: it has no rule, or
// only audits capabilities.
func (p *Policy) Inert() bool {
	return p.others == 0 && p.process.rules == 0 && p.file.rules == 0 && !p.capabilities.has(Block) && !p.capabilities.has(Allow)
}

// JudgeLabels are the labels that Judge and Predict read, beside those by which
// policies were selected.
func JudgeLabels() []string { return []string{ciliumLabel} }

// JudgeAnnotations are the annotations of a pod that Judge and Predict read.
func JudgeAnnotations() []string { return []string{policyAnnotation} }

// Faults are what is wrong with the policy itself, whatever pods it selects.
func (p *Policy) Faults() []Toothless {
	// What an allow list does hangs on the namespace.
	return slices.DeleteFunc(p.inForm(&Pod{}), func(t Toothless) bool { return t.Cause == CauseAllowList })
}

// Alike is a container about which Judge says the same as about c, and the same for as
// many others as can be: answers are kept by it. A container that was looked into is
// like no other.
func Alike(policies []*Policy, c Container) Container {
	if c.Paths != nil {
		return c
	}
	like := Container{Kind: c.Kind, Image: imageFamily(c.Image).example()}
	if slices.ContainsFunc(policies, func(p *Policy) bool { return len(p.Selector.Containers) > 0 }) {
		like.Name = c.Name
	}
	return like
}

// example is an image of the family.
func (f family) example() string {
	switch f {
	case familyBusyBox:
		return "busybox"
	case familyMergedBin:
		return "fedora"
	case familyUnknown:
	}
	return ""
}
