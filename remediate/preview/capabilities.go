package preview

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	sysAdmin    = "sys_admin"
	dacOverride = "dac_override"
)

// joinsNamespaces is why a block of sys_admin keeps programs from being run in a
// container from outside.
const joinsNamespaces = "the runtime's own process needs SYS_ADMIN to join the container's cgroup namespace, and is refused"

// refusesExec tells how far the set keeps the runtime from running a further program in
// the container. A privileged one has no cgroup namespace of its own to be joined.
func (v *view) refusesExec(c *container) bite {
	if c.privileged() {
		return bite{}
	}
	return v.runtime.element(c, sysAdmin)
}

// execs says what becomes of probes and hooks that the runtime runs in the container.
func (v *view) execs(c *container) {
	b := v.refusesExec(c)
	if !b.any() {
		return
	}
	for _, p := range []struct {
		probe        *corev1.Probe
		field, what  string
		afterwards   string
		otherRuntime string
	}{
		{c.StartupProbe, "startupProbe", "its startup probe can never succeed: a new container never counts as started, and its pod is never Ready",
			"the kubelet throws the errors of containerd away", "; a runtime that reports them as failures has the container killed again and again"},
		{c.ReadinessProbe, "readinessProbe", "its readiness probe can never succeed: a new pod never becomes Ready, and a rollout hangs",
			"a pod that is Ready stays so for a while", ""},
		{c.LivenessProbe, "livenessProbe", "its liveness probe gets no answer: nobody sees any more that the container hangs",
			"the kubelet throws the errors of containerd away", "; a runtime that reports them as failures has the container killed again and again"},
	} {
		if p.probe == nil || p.probe.Exec == nil {
			continue
		}
		v.add(Effect{
			Outcome: b.outcome(Breaks), Part: set.PartCapabilities, Element: sysAdmin, Field: c.path + "." + p.field + ".exec",
			What: p.what, Why: sentences(joinsNamespaces, p.afterwards+p.otherRuntime, b.reason),
			Mend: sentences("use an httpGet, tcpSocket or grpc probe", v.spare(c, sysAdmin)),
		}.in(c))
	}
	v.hooks(c, b)
}

// hooks says what becomes of lifecycle hooks that the runtime runs in the container.
func (v *view) hooks(c *container, b bite) {
	if c.Lifecycle == nil {
		return
	}
	e := Effect{Part: set.PartCapabilities, Element: sysAdmin, Mend: sentences("do it in the container's own program, or by an httpGet hook", v.spare(c, sysAdmin))}
	if h := c.Lifecycle.PostStart; h != nil && h.Exec != nil {
		e.Outcome, e.Field = b.outcome(MayBreak), c.path+".lifecycle.postStart.exec"
		e.What = "its postStart hook may be refused, and the container is killed then"
		e.Why = sentences(joinsNamespaces, "a policy takes hold 0.1 to 0.3 seconds after a container starts, so the hook may come before it", b.reason)
		v.add(e.in(c))
	}
	if h := c.Lifecycle.PreStop; h != nil && h.Exec != nil {
		e.Outcome, e.Field = b.outcome(Breaks), c.path+".lifecycle.preStop.exec"
		e.What = "its preStop hook is refused: the container ends without it"
		e.Why = sentences(joinsNamespaces, b.reason)
		v.add(e.in(c))
	}
}

// spare says what would spare the container an element that protects nothing there.
func (v *view) spare(c *container, element string) string {
	way := "or leave " + element + " out (--without " + element + ")"
	if g, why := c.grantOf(&v.pod.Spec, strings.ToUpper(element)); g == grantNone {
		return "--fit precise leaves " + element + " out here: the container cannot hold it (" + why + "), so the block protects nothing; " + way
	}
	return way
}

// kubectlExec says once what becomes of those who run programs in the pod.
func (v *view) kubectlExec() {
	var refused []string
	var b bite
	for i := range v.containers {
		c := &v.containers[i]
		if here := v.refusesExec(c); here.any() {
			refused = append(refused, c.Name)
			if len(refused) == 1 || rank(here.outcome(Breaks)) < rank(b.outcome(Breaks)) {
				b = here
			}
		}
	}
	if len(refused) == 0 {
		return
	}
	v.add(Effect{
		Outcome: b.outcome(MayBreak), Part: set.PartCapabilities, Element: sysAdmin,
		What: "kubectl exec and kubectl cp are refused",
		Why:  sentences("in "+list(refused), joinsNamespaces, b.reason),
		Mend: "kubectl debug still works: no policy reaches ephemeral containers",
	})
}

// capabilities says what becomes of capabilities that the container holds.
func (v *view) capabilities(c *container) {
	var all []string
	var together bite
	for _, e := range v.elements {
		if e.Kind != armor.Capability {
			continue
		}
		b := v.runtime.element(c, e.Name)
		if !b.any() {
			continue
		}
		name := strings.ToUpper(e.Name)
		switch g, _ := c.grantOf(&v.pod.Spec, name); g {
		case grantNamed:
			v.add(Effect{
				Outcome: b.outcome(Breaks), Part: set.PartCapabilities, Element: e.Name, Field: c.path + ".securityContext.capabilities.add",
				What: "what it does with " + name + " is refused", Why: sentences("it asks for "+name+" by name", b.reason), Mend: mendHolding(e.Name),
			}.in(c))
		case grantDefault:
			v.add(v.byDefault(c, e.Name, b).in(c))
		case grantAll:
			if all = append(all, e.Name); len(all) == 1 || rank(b.outcome(Breaks)) < rank(together.outcome(Breaks)) {
				together = b
			}
		case grantBound, grantNone:
		}
	}
	if len(all) > 0 {
		v.add(v.holdsAll(c, all, together).in(c))
	}
}

func mendHolding(elements ...string) string {
	without := strings.Join(elements, ",")
	return "accept it, or leave " + strings.Join(elements, ", ") + " out (--without " + without + ")"
}

// byDefault is what the block of a capability does that runtimes give unasked.
func (v *view) byDefault(c *container, element string, b bite) Effect {
	name := strings.ToUpper(element)
	why := "runtimes give " + name + " unasked, and nothing says that it starts as another user than root"
	if v.runsAsRoot(c) {
		why = "runtimes give " + name + " unasked, and it starts as root"
	}
	return Effect{
		Outcome: b.outcome(MayBreak), Part: set.PartCapabilities, Element: element, Field: c.path + ".securityContext",
		What: "root can no longer read and write files of other users", Why: sentences(why, b.reason),
		Mend: "run it as another user (runAsUser), or drop " + name,
	}
}

// holdsAll is what the block of capabilities does to a container that holds every one.
func (v *view) holdsAll(c *container, elements []string, b bite) Effect {
	names := strings.ToUpper(strings.Join(elements, ", "))
	e := Effect{
		Outcome: b.outcome(MayBreak), Part: set.PartCapabilities, Field: c.path + ".securityContext.capabilities.add",
		What: "what it does with " + names + " is refused",
		Why:  sentences("it adds ALL capabilities; which of them it uses is not known", b.reason), Mend: mendHolding(elements...),
	}
	if len(elements) == 1 {
		e.Element = elements[0]
	}
	if c.privileged() {
		e.Field, e.Why = c.path+".securityContext.privileged", sentences("it is privileged; which of its capabilities it uses is not known", b.reason)
	}
	return e
}

// runsAsRoot tells whether the spec says so.
func (v *view) runsAsRoot(c *container) bool {
	if s := c.SecurityContext; s != nil && s.RunAsUser != nil {
		return *s.RunAsUser == 0
	}
	s := v.pod.Spec.SecurityContext
	return s != nil && s.RunAsUser != nil && *s.RunAsUser == 0
}

// writes says what becomes of a container that writes to its image's file system.
func (v *view) writes(c *container) {
	if c.readOnly() {
		return
	}
	for _, w := range []struct{ element, what string }{
		{sysAdmin, "files of the image can no longer be changed"},
		{dacOverride, "nothing can be created in a folder of the image, not even in /tmp"},
	} {
		b := v.runtime.element(c, w.element)
		if !b.any() {
			continue
		}
		v.add(Effect{
			Outcome: b.outcome(MayBreak), Part: set.PartCapabilities, Element: w.element, What: w.what,
			Field: c.path + ".securityContext.readOnlyRootFilesystem",
			Why:   sentences(v.writable(c), b.reason),
			Mend:  sentences("mount an emptyDir where it writes, and set readOnlyRootFilesystem", v.spare(c, w.element)),
		}.in(c))
	}
}

// writable says what is known of where a container writes.
func (v *view) writable(c *container) string {
	mounts := c.writableMounts(&v.pod.Spec)
	if len(mounts) == 0 {
		return "its root file system is not read-only, and it has no volume to write to"
	}
	return "its root file system is not read-only; what it writes to a volume goes on (" + list(mounts) + ")"
}
