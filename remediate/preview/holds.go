package preview

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// grant is how a container comes to hold a capability.
type grant int

const (
	// grantNone: it cannot hold it, and the kernel refuses what asks for it already.
	grantNone grant = iota
	// grantBound: only a setuid program or one with file capabilities gives it.
	grantBound
	// grantDefault: the runtime gives it to whoever does not drop it.
	grantDefault
	// grantAll: with all others, by ALL or because the container is privileged.
	grantAll
	// grantNamed: the container asks for it by name.
	grantNamed
)

// grantOf says how the container comes to hold a capability ("SYS_ADMIN"), and why not
// where it cannot.
func (c *container) grantOf(spec *corev1.PodSpec, name string) (g grant, whyNot string) {
	if can, why := scan.CanHold(spec, c.Name, name); !can {
		return grantNone, why
	}
	if c.privileged() {
		return grantAll, ""
	}
	var added []corev1.Capability
	if s := c.SecurityContext; s != nil && s.Capabilities != nil {
		added = s.Capabilities.Add
	}
	switch {
	case names(added, name):
		return grantNamed, ""
	case names(added, "ALL"):
		return grantAll, ""
	case c.nonRoot(spec.SecurityContext):
		return grantBound, ""
	}
	return grantDefault, ""
}

// nonRoot reports whether the container certainly starts as a user other than root.
func (c *container) nonRoot(pod *corev1.PodSecurityContext) bool {
	var uid *int64
	var must *bool
	if pod != nil {
		uid, must = pod.RunAsUser, pod.RunAsNonRoot
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = s.RunAsUser
		}
		if s.RunAsNonRoot != nil {
			must = s.RunAsNonRoot
		}
	}
	if uid != nil {
		return *uid != 0
	}
	return must != nil && *must
}

// names tells whether the list has the capability. Some runtimes read CAP_ in front as
// what it means: what is added so counts.
func names(all []corev1.Capability, name string) bool {
	return slices.ContainsFunc(all, func(c corev1.Capability) bool {
		s := string(c)
		if len(s) > 4 && strings.EqualFold(s[:4], "CAP_") {
			s = s[4:]
		}
		return strings.EqualFold(s, name)
	})
}
