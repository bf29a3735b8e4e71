package scan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// instance is an escape path as it stands in a pod.
type instance struct {
	path string
	kind ContainerKind
	// volume is the name of the volume through which it leads, capability the one that
	// gives it, as it is spelled there. Both may be empty.
	volume, capability string
}

func instanceOf(f *Finding) instance {
	in := instance{path: f.Rule, kind: f.ContainerKind}
	switch {
	case strings.HasPrefix(f.Field, "spec.volumes["):
		in.volume = f.Item
	case strings.Contains(f.Field, ".capabilities.add["):
		in.capability = f.Item
	}
	return in
}

// open is what puts such a path into a clean pod, nil where nothing is known to. The
// pod is the one in which it was found.
func (in instance) open(pod *corev1.Pod) func(*corev1.PodSpec) {
	l := pathLayerOf(in.path)
	put := l.reopen
	if at := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == in.volume }); in.volume != "" && at >= 0 {
		put = openVolume(&pod.Spec.Volumes[at])
	}
	if put == nil {
		return nil
	}
	return func(s *corev1.PodSpec) {
		put(s)
		if c := s.Containers[0].SecurityContext; in.capability != "" && c != nil && c.Capabilities != nil {
			c.Capabilities.Add = []corev1.Capability{corev1.Capability(in.capability)}
			if sameCapability(c.Capabilities.Add[0], "ALL") {
				c.Capabilities.Drop = nil
			}
		}
		switch in.kind {
		case KindInit:
			moveToInit(s)
		case KindSidecar:
			moveToInit(s)
			s.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		case KindEphemeral:
			moveToEphemeral(s)
		case KindContainer:
		}
	}
}

// openVolume mounts a volume of the pod's own: what refuses a path of the host need not
// refuse the claim that is bound to one.
func openVolume(v *corev1.Volume) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Volumes = append(s.Volumes, *v)
		c := &s.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/reopen"})
		asRoot(s)
	}
}

// cells says for each open path of each container whether admission stops it.
func (d *doorman) cells(subject admission.Subject, j *Judgement, decision *admission.Decision) map[pathKey]Cell {
	cells := make(map[pathKey]Cell, len(j.Paths))
	same := map[instance]Cell{}
	var clean *admission.Decision
	for i := range j.Findings {
		f := &j.Findings[i]
		if !f.Open {
			continue
		}
		in := instanceOf(f)
		cell, ok := same[in]
		if !ok {
			if clean == nil {
				asked := d.try(subject, "clean", cast{}, nil)
				clean = &asked
			}
			cell = d.cell(subject, in, decision, clean)
			same[in] = cell
		}
		key := pathKey{f.Rule, f.Container}
		cells[key] = worseCell(cells[key], cell)
	}
	return cells
}

// cell tells a refusal that is about the path from one about something else in the
// pod, which would let the path in as soon as that is mended.
func (d *doorman) cell(subject admission.Subject, in instance, decision, clean *admission.Decision) Cell {
	open := in.open(subject.Pod)
	switch {
	case in.kind == KindEphemeral && open != nil:
		return d.ephemeralCell(subject, open, clean)
	case decision.Answer == admission.Admits:
		return Cell{Answer: StopsNo, Reason: decision.Reason}
	case decision.Answer == admission.Unknown:
		return Cell{Answer: StopsUnknown, Reason: decision.Reason}
	}
	var alone admission.Decision
	if open != nil {
		alone = d.try(subject, "", cast{}, open)
	}
	cell := Cell{Answer: StopsNo, Reason: "what admission refuses in these pods is something else"}
	for i := range decision.Rulings {
		r := &decision.Rulings[i]
		if r.Answer != admission.Refuses {
			continue
		}
		switch about, known := aboutPath(r, in, &alone, clean); {
		case about:
			return Cell{Answer: StopsYes, By: []string{r.By.String()}, Reason: r.Message}
		case !known && cell.Answer == StopsNo:
			cell = Cell{Answer: StopsUnknown, By: []string{r.By.String()}, Reason: "refuses these pods; whether for this path is not known"}
		}
	}
	return cell
}

// aboutPath reports whether a policy that refuses a pod does so for the path alone:
// one that has nothing else in it (alone) is refused, and a clean one is not.
func aboutPath(r *admission.Ruling, in instance, alone, clean *admission.Decision) (about, known bool) {
	if r.By.Mechanism == admission.AskedServer || alone.Answer == "" {
		return false, false
	}
	controls := pathLayerOf(in.path).controls
	for i := range alone.Rulings {
		a := &alone.Rulings[i]
		switch {
		case a.By != r.By:
		case a.Answer == admission.Unknown:
			return false, false
		case a.Answer == admission.Refuses && len(a.Controls) > 0:
			about = about || forThis(a, clean) && slices.ContainsFunc(a.Controls, func(c string) bool { return slices.Contains(controls, c) })
		case a.Answer == admission.Refuses && !forThis(a, clean):
			return false, false
		case a.Answer == admission.Refuses:
			about = true
		}
	}
	return about, true
}

// ephemeralCell is what admission does to a path in an ephemeral container, which
// comes by an update of the pod. Only Pod Security is known to judge that as it judges
// the pod.
func (d *doorman) ephemeralCell(subject admission.Subject, open func(*corev1.PodSpec), clean *admission.Decision) Cell {
	alone := d.try(subject, "", cast{}, open)
	for i := range alone.Rulings {
		r := &alone.Rulings[i]
		if r.By.Mechanism == admission.PodSecurity && r.Answer == admission.Refuses && forThis(r, clean) {
			return Cell{Answer: StopsYes, By: []string{r.By.String()}, Reason: r.Message}
		}
	}
	if alone.Answer == admission.Admits {
		return Cell{Answer: StopsNo, Reason: alone.Reason}
	}
	return Cell{Answer: StopsUnknown, Reason: "an ephemeral container comes by an update of the pod, and what policies say of that is not known: " + alone.Reason}
}
