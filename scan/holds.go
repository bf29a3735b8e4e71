package scan

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CanHold tells whether processes of a container, found by its name, can come to hold
// a capability, as the kernel's own check asks, and why not. It says no only for what
// is certain: the spec speaks for the process that the runtime starts and for all that
// come of it. What a user namespace of the container's own making gives is not meant.
func CanHold(spec *corev1.PodSpec, container, capability string) (can bool, whyNot string) {
	capability = strings.TrimPrefix(strings.ToUpper(capability), "CAP_")
	var d draft
	d.read(Pod{Meta: &metav1.ObjectMeta{}, Spec: spec})
	for i := range d.containers {
		c := &d.containers[i]
		if c.Name != container {
			continue
		}
		caps := c.SecurityContext.Capabilities
		switch {
		case c.privileged():
			return true, ""
		case !c.holds(capability) && (drops(caps.Drop, "ALL") || drops(caps.Drop, capability)):
			return false, "it is dropped"
		case !c.holds(capability):
			return false, "nothing gives it"
		case c.addedAt(capability) >= 0 || !c.noNewPrivileges():
			return true, ""
		}
		if by, yes := d.nonRoot(c); yes {
			return false, by + " starts without it, and allowPrivilegeEscalation: false keeps it so"
		}
		return true, ""
	}
	return true, ""
}
