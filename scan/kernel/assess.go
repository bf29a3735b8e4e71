package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Assess weighs what is known of a node: what stops a forbidden step there, and how
// well that is founded. All that it rests on, and all that speaks against it, is
// kept. docs/design/0009-node-evidence.md says why it weighs as it does.
//
// Two things must hold for a rule to be enforced: a KubeArmor agent is ready on the
// node, and it enforces rules of that kind. Each is answered by the best evidence
// that there is for it; hints (kernel, OS image, labels of others) answer neither.
func Assess(n Node, now time.Time) Enforcement {
	if n.Node == nil {
		return Enforcement{Capabilities: Unknown, Processes: Unknown, Agent: Unknown, Reason: "nothing is known of the node"}
	}
	if IsWindows(n.Node) {
		return windows(n, now)
	}
	agent := agentsOf(n, now)
	voices := slices.Concat(probeVoices(n, agent, now), machineVoices(n, now), labelVoices(n, now), hintVoices(n, now))
	silence(n, voices)
	e := Enforcement{Agent: agent.ready, Evidence: agent.pieces}
	w := weigh(agent, voices)
	e.Capabilities, e.Processes, e.Grade, e.Enforcer, e.Reason = w.capabilities, w.processes, w.grade, w.enforcer, w.reason
	for i := range e.Evidence {
		// The ready agent stands first; where none is, all that are not count.
		e.Evidence[i].Decides = w.byAgent && e.Evidence[i].Says == No || (agent.ready == Yes && i == 0 && w.capabilities == Yes)
	}
	for i, v := range voices {
		v.Decides = slices.Contains(w.deciders, i)
		e.Evidence = append(e.Evidence, v.Evidence)
	}
	e.Contradictions = contradictions(n, agent, voices)
	if agent.first != nil && agent.first.Doubt != "" {
		e.Contradictions = append(e.Contradictions, "pod "+agent.first.pod()+" is labelled as KubeArmor's agent, but "+agent.first.Doubt)
	}
	if bpfIsOff(n, voices) {
		e.TurnOn = howToTurnOn(n)
	}
	return e
}

// voice is a piece of evidence and what it says about KubeArmor, if its agent is
// ready: whether rules of each kind are enforced. Most say nothing about one of them.
type voice struct {
	Evidence
	capabilities, processes Answer
	enforcer                string
	// bpf is whether BPF-LSM is in use, or can be, and claim says that in a clause.
	bpf   Answer
	claim string
	// machine marks what a check of the node read.
	machine bool
}

// verdict is what the voices come to.
type verdict struct {
	capabilities, processes Answer
	grade                   Grade
	enforcer, reason        string
	byAgent                 bool
	deciders                []int
}

func weigh(agent agentState, voices []voice) verdict {
	caps, procs := loudest(voices, func(v voice) Answer { return v.capabilities }), loudest(voices, func(v voice) Answer { return v.processes })
	says := func(i int, of func(voice) Answer) (Answer, Grade) {
		if i < 0 {
			return Unknown, ""
		}
		return of(voices[i]), voices[i].Grade
	}
	capsSaid, capsGrade := says(caps, func(v voice) Answer { return v.capabilities })
	procsSaid, procsGrade := says(procs, func(v voice) Answer { return v.processes })
	w := verdict{capabilities: And(agent.ready, capsSaid), processes: And(agent.ready, procsSaid)}
	w.byAgent = agent.ready == No
	w.grade = weaker(conjunct(w.capabilities, agent.ready, capsSaid, capsGrade), conjunct(w.processes, agent.ready, procsSaid, procsGrade))
	if !w.byAgent {
		w.deciders = deciding(voices, caps, procs)
	}
	w.enforcer = enforcerOf(agent, voices, caps, procs)
	w.reason = w.because(agent, voices, caps, procs)
	return w
}

// silence takes the word from a claim that a proof refutes: who says that BPF-LSM, or
// AppArmor, enforces where that is not active does not know what does instead.
func silence(n Node, voices []voice) {
	refuted := func(enforcer string) bool {
		switch enforcer {
		case enforcerBPF:
			return slices.ContainsFunc(voices, func(v voice) bool { return v.machine && v.Grade == Proven && v.bpf == No })
		case enforcerAppArmor:
			return slices.ContainsFunc(voices, func(v voice) bool {
				return v.Source == sourceLSMs && v.Grade.Rank() >= Claimed.Rank() && !slices.Contains(LSMList(n.Machine.LSMs.Value), enforcerAppArmor)
			})
		}
		return false
	}
	for i := range voices {
		if v := &voices[i]; v.Grade == Claimed && refuted(v.enforcer) {
			v.capabilities, v.processes = Unknown, Unknown
			v.Meaning += "; what was read on the node itself refutes that"
		}
	}
}

// loudest is the index of the first of the best founded voices that answers, -1 when
// none does. Hints do not answer.
func loudest(voices []voice, of func(voice) Answer) int {
	best := -1
	for i, v := range voices {
		if a := of(v); a != Yes && a != No || v.Grade.Rank() < Claimed.Rank() {
			continue
		}
		if best < 0 || v.Grade.Rank() > voices[best].Grade.Rank() {
			best = i
		}
	}
	return best
}

// conjunct is the grade of an answer that two things together gave.
func conjunct(answer, agent, said Answer, grade Grade) Grade {
	switch {
	case answer == Unknown:
		return ""
	case answer == No && agent == No && said == No:
		return stronger(Claimed, grade)
	case answer == No && agent == No:
		return Claimed
	}
	return grade
}

// deciding are the voices that the answers rest on: those that give them, and where
// that is the conclusion of a check, the readings that it comes from.
func deciding(voices []voice, caps, procs int) []int {
	var deciders []int
	for i, v := range voices {
		if slices.ContainsFunc([]int{caps, procs}, func(by int) bool {
			return by == i || by >= 0 && v.machine && voices[by].machine && v.Grade == Proven && v.bpf == voices[by].bpf
		}) {
			deciders = append(deciders, i)
		}
	}
	return deciders
}

func enforcerOf(agent agentState, voices []voice, caps, procs int) string {
	if agent.ready == No {
		return enforcerNone
	}
	// What stops processes is what enforces: AppArmor does where BPF-LSM does not.
	for _, i := range []int{procs, caps} {
		if i >= 0 && voices[i].enforcer != "" {
			return voices[i].enforcer
		}
	}
	return ""
}

func (w verdict) because(agent agentState, voices []voice, caps, procs int) string {
	if w.byAgent {
		return agent.reason
	}
	var reasons []string
	if agent.ready == Unknown {
		reasons = append(reasons, agent.reason)
	}
	for _, i := range []int{caps, procs} {
		if i >= 0 && !slices.Contains(reasons, voices[i].Meaning) {
			reasons = append(reasons, voices[i].Meaning)
		}
	}
	if caps < 0 {
		reasons = append(reasons, unanswered(agent, voices))
	} else if procs < 0 {
		reasons = append(reasons, "whether AppArmor stops processes instead is not known")
	}
	return strings.Join(reasons, "; ")
}

// unanswered says that nothing tells what the agent enforces with, and what hints
// there are.
func unanswered(agent agentState, voices []voice) string {
	subject, hints, kernelCan := "nothing says what KubeArmor enforces with", false, false
	if agent.ready == Yes {
		subject = "a KubeArmor agent is ready, but nothing says what it enforces with"
	}
	said := []string{"no KubeArmor probe data", "no label " + labelEnforcer + " on the node"}
	for _, v := range voices {
		switch {
		case strings.HasPrefix(v.Source, sourceProbe):
			said[0] = v.Source + ": " + v.Meaning
		case v.Source == sourceLabel:
			said[1] = fmt.Sprintf("%s is %q: %s", v.Source, bounded(v.Value), v.Meaning)
		case v.Grade == Hinted:
			hints = true
		}
		kernelCan = kernelCan || v.Grade == Proven && v.bpf == Yes
	}
	s := subject + " (" + strings.Join(said, "; ") + ")"
	switch {
	case kernelCan:
		s += "; that the kernel can enforce does not say that KubeArmor does"
	case hints:
		s += "; there are only hints"
	}
	return s
}

// bpfIsOff tells whether BPF-LSM is known or hinted to be switched off, as opposed to
// on and of no use.
func bpfIsOff(n Node, voices []voice) bool {
	if n.Machine != nil && otherKernel(n) == "" && isOff(n.Machine) == No {
		return false
	}
	best, grade := Unknown, Grade("")
	for _, v := range voices {
		if (v.bpf == Yes || v.bpf == No) && v.Grade.Rank() > grade.Rank() {
			best, grade = v.bpf, v.Grade
		}
	}
	return best == No
}

// IsWindows tells whether a node runs Windows: as its kubelet says, whose word beats a
// label that anyone who may label nodes can set.
func IsWindows(n *corev1.Node) bool {
	return strings.EqualFold(cmp.Or(n.Status.NodeInfo.OperatingSystem, n.Labels[corev1.LabelOSStable]), "windows")
}

func windows(n Node, now time.Time) Enforcement {
	reason := "the node runs Windows, where KubeArmor does not run and Linux security modules do not exist"
	return Enforcement{
		Capabilities: No, Processes: No, Grade: Proven, Enforcer: enforcerNone, Agent: No, Reason: reason,
		Evidence: []Evidence{seen(Evidence{
			Source: "node info", Value: cmp.Or(n.Node.Status.NodeInfo.OSImage, "windows"), Says: No, Grade: Proven,
			Meaning: reason, Decides: true,
		}, now, now)},
		TurnOn: new(windowsTurnOn()),
	}
}
