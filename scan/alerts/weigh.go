package alerts

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Weight is what an alert is worth in the place where it was raised.
type Weight struct {
	// Rule is the ID of the row of Rules that decided.
	Rule     string
	Incident bool
	Severity scan.Severity
	// Reason is the one sentence that decides.
	Reason string
	// Paths are the open escape paths of the container of which the deed is a step.
	Paths []string
}

// Weigh says whether an alert is an incident, how severe it is, and why. The place is
// nil where the pod is not known: that makes nothing calmer than the alert alone allows.
func Weigh(a *armor.Alert, place *scan.Place) Weight {
	return weigh(a, deedOf(a), place)
}

func weigh(a *armor.Alert, d deed, place *scan.Place) Weight {
	s := newSight(a, d, place)
	for i := range ruleTable {
		r := &ruleTable[i]
		if !r.match(s) {
			continue
		}
		w := Weight{Rule: r.ID, Incident: r.Incident, Severity: r.Severity, Reason: s.sentence(r), Paths: s.served}
		if r.Passed != "" && !s.blocked {
			w.Severity = r.Passed
		}
		return w
	}
	// The last row takes everything.
	return Weight{Severity: scan.SeverityMedium, Reason: s.what()}
}

// answer is yes, no, or not known.
type answer int

const (
	unknown answer = iota
	yes
	no
)

// sight is an alert with all that is known of its place.
type sight struct {
	deed
	alert   *armor.Alert
	onNode  bool
	verdict scan.Verdict
	// known is true where the verdict settles what is open.
	known bool
	// open are the open paths of the container, served those of which the deed is a step.
	open, served []string
	// holds tells whether the container can hold the capability, and whyNot why not.
	holds  answer
	whyNot string
}

func newSight(a *armor.Alert, d deed, place *scan.Place) *sight {
	s := &sight{deed: d, alert: a, onNode: a.Pod == "" && a.Namespace == ""}
	if place == nil {
		return s
	}
	if v := place.Verdict; v != nil {
		s.verdict = v.Verdict
		s.open = openIn(a.Container, v.Paths, place.Findings)
		s.known = v.Verdict != scan.VerdictUnknown
	}
	spec := specOf(place)
	s.hold(spec)
	if a.Operation == operationFile && s.step == "" && onHost(spec, a.Container, s.file) {
		s.program = hostFileProgram
	}
	for _, path := range s.open {
		if s.serves(path) {
			s.served = append(s.served, path)
		}
	}
	return s
}

func specOf(place *scan.Place) *corev1.PodSpec {
	if place.Pod == nil {
		return nil
	}
	return place.Pod.Spec
}

// hold settles whether the container can hold the capability.
func (s *sight) hold(spec *corev1.PodSpec) {
	switch {
	case s.capability == "":
	case spec != nil && named(spec, s.alert.Container):
		can, whyNot := scan.CanHold(spec, s.alert.Container, s.capability)
		s.holds, s.whyNot = no, whyNot
		if can {
			s.holds = yes
		}
	case s.closed() && opens(s.capability):
		// The pod is gone, and a container that held it would have been a way out.
		s.holds, s.whyNot = no, "no container of the workload has it"
	}
}

func named(spec *corev1.PodSpec, container string) bool {
	for i := range spec.Containers {
		if spec.Containers[i].Name == container {
			return true
		}
	}
	for i := range spec.InitContainers {
		if spec.InitContainers[i].Name == container {
			return true
		}
	}
	return slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == container })
}

// opens tells whether a capability alone is an escape path.
func opens(capability string) bool {
	switch capability {
	case "SYS_ADMIN", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO", "SYS_BOOT", "BPF", "PERFMON":
		return true
	}
	return false
}

// closed reports whether it is certain that nothing is open.
func (s *sight) closed() bool {
	return s.verdict == scan.VerdictClosed || s.verdict == scan.VerdictSealed
}

// settled reports whether it is certain that nothing is open, or that all of it is
// stopped.
func (s *sight) settled() bool { return s.closed() || s.verdict == scan.VerdictGuarded }

// openIn are the open paths that lead out of a container: all of the workload's where
// the findings do not say.
func openIn(container string, paths []string, findings []*scan.Finding) []string {
	if container == "" || len(findings) == 0 {
		return paths
	}
	var open []string
	for _, path := range paths {
		told, here := false, false
		for _, f := range findings {
			if f.Rule == path && f.Open {
				told = true
				here = here || f.Container == "" || f.Container == container
			}
		}
		if here || !told {
			open = append(open, path)
		}
	}
	return open
}

// onHost tells whether a file lies below a path of the host that the container mounts, or
// may, where it is not known which file it was.
func onHost(spec *corev1.PodSpec, container, file string) bool {
	if spec == nil {
		return false
	}
	hosts := map[string]bool{}
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; v.HostPath != nil {
			hosts[v.Name] = true
		}
	}
	below := func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			at := strings.TrimSuffix(m.MountPath, "/")
			return hosts[m.Name] && (file == "" || file == at || strings.HasPrefix(file, at+"/"))
		})
	}
	for i := range spec.Containers {
		if c := &spec.Containers[i]; c.Name == container && below(c) {
			return true
		}
	}
	return false
}

// stepper reports whether a capability was asked for by a program that is there to step
// out, or by one from where no image puts its programs; and no ordinary handling of
// files explains it.
func (s *sight) stepper() bool {
	return s.capability != "" && !ofFiles(s.capability) && (s.scratch || s.steps())
}

// steps reports whether the program that asked is one of the ways out.
func (s *sight) steps() bool { return s.by.step != "" && s.by.step != stepTool }
