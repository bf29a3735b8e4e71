package alerts

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Rule is a row of the table that weighs alerts. The first that fits decides.
type Rule struct {
	ID string
	// When says for people when it fits, Means what it stands for. Means ends the reason
	// of an alert.
	When, Means string
	Incident    bool
	// Severity is that of a deed that was stopped. Passed is that of one that was not,
	// where it is another.
	Severity, Passed scan.Severity
}

// Rules lists the rows in their order.
func Rules() []Rule {
	all := make([]Rule, len(ruleTable))
	for i := range ruleTable {
		all[i] = ruleTable[i].Rule
	}
	return all
}

type rule struct {
	Rule
	match func(*sight) bool
}

const (
	low      = scan.SeverityLow
	medium   = scan.SeverityMedium
	high     = scan.SeverityHigh
	critical = scan.SeverityCritical
)

// ruleTable is in the order in which it is asked.
var ruleTable = concat(nodeRules, runtimeRules, capabilityRules, stepRules, toolRules, otherRules)

func concat(parts ...[]rule) []rule {
	var all []rule
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// nodeRules are about policies of the host: no container is named.
var nodeRules = []rule{
	{
		Rule{ID: "node-step", When: "on the node itself (a policy of the host): a capability, chroot or another step",
			Means: "it was done on the node itself, and whether somebody came out of a container to do it is not known", Severity: medium},
		func(s *sight) bool { return s.onNode && s.class != scan.ClassTool && s.class != scan.ClassOther },
	},
	{
		Rule{ID: "node-other", When: "on the node itself: anything else",
			Means: "it was done on the node itself, by no container that is known", Severity: low},
		func(s *sight) bool { return s.onNode },
	},
}

// runtimeRules are about the container runtime, which asks for capabilities when it
// puts a process into a container: exec, probes, hooks.
var runtimeRules = []rule{
	{
		Rule{ID: "runtime-noise", When: "blocked; the program is `/runc` (or crun, youki, or their copies in memory) and has no parent in the container; the capability is one that joining takes; the container cannot hold it",
			Means: "it is the container's runtime that joins it for an exec or a probe, and nobody inside can do more with that name", Severity: low},
		func(s *sight) bool { return s.runtime && s.holds == no },
	},
	{
		Rule{ID: "runtime-or-alike", When: "the same, but the container can hold the capability, or that is not known",
			Means: "it looks like the container's runtime that joins it for an exec or a probe; a file of that name in the container would look the same, and was stopped", Severity: medium},
		func(s *sight) bool { return s.runtime },
	},
}

var capabilityRules = []rule{
	{
		Rule{ID: "capability-on-open-path", When: "a capability that an open path of the container goes by, on a workload that is exposed, or whose verdict is unknown",
			Means: "it is a step of an open way out", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool {
			return s.capability != "" && s.verdict != scan.VerdictGuarded && s.along() && !s.stepper()
		},
	},
	{
		Rule{ID: "stepper-on-open-path", When: "the same, asked for by a program that is there to step out (nsenter, mount, unshare, …) or that lies where anybody may write",
			Means: "it is a step of an open way out, by a program that is there for it", Incident: true, Severity: critical},
		func(s *sight) bool {
			return s.capability != "" && s.verdict != scan.VerdictGuarded && s.along()
		},
	},
	{
		Rule{ID: "capability-on-guarded-path", When: "a capability that an open path of the container goes by, on a guarded workload",
			Means: "it is a step of a way out that policies are to stop", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool { return s.capability != "" && len(s.served) > 0 && s.holds != no },
	},
	{
		Rule{ID: "stepper-somewhere", When: "by such a program, where the pod is not known, or neither its spec nor a verdict says that no path is open",
			Means: "it is a step out by a program that is there for it, and whether a way out is open is not known", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool { return s.capability != "" && !s.known && (s.stepper() || ofHost(s.capability)) },
	},
	{
		Rule{ID: "stepper-without-path", When: "by such a program, and no open path goes by the capability",
			Means: "no open way out goes by it, but honest software does not try, and a user namespace of the container's own may give it", Incident: true, Severity: medium, Passed: high},
		func(s *sight) bool { return s.stepper() },
	},
	{
		Rule{ID: "capability-not-its-own", When: "a capability that the container cannot hold, and that the kernel never asks for on behalf of others (SYS_MODULE, SYS_RAWIO, BPF, …)",
			Means: "the kernel does not ask KubeArmor about it for one who does not hold it, so somebody gained it, or the spec is not what runs", Incident: true, Severity: medium, Passed: high},
		func(s *sight) bool { return s.holds == no && ofHost(s.capability) },
	},
	{
		Rule{ID: "capability-noise", When: "a capability that the container cannot hold, by any other program",
			Means: "the alert alone is no incident, as file systems and programs ask for what they can do without", Severity: low, Passed: medium},
		func(s *sight) bool { return s.holds == no },
	},
	{
		Rule{ID: "capability-beside-the-path", When: "a capability that no open path goes by, and nothing is open, or all of it is stopped",
			Means: "no open way out goes by it", Severity: low},
		func(s *sight) bool { return s.capability != "" && s.settled() },
	},
	{
		Rule{ID: "capability-somewhere", When: "any other capability: something else is open, or what is open is not known",
			Means: "the alert alone is no incident, and nothing shows that it is harmless", Severity: medium},
		func(s *sight) bool { return s.class == scan.ClassCapability },
	},
}

// stepRules are about chroot and the other steps.
var stepRules = []rule{
	{
		Rule{ID: "step-on-open-path", When: "chroot or another escape step that belongs to an open path of the container; exposed, or the verdict is unknown",
			Means: "it is a step of an open way out", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool { return s.escapes() && len(s.served) > 0 && s.verdict != scan.VerdictGuarded },
	},
	{
		Rule{ID: "step-on-guarded-path", When: "the same on a guarded workload",
			Means: "it is a step of a way out that policies are to stop", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool { return s.escapes() && len(s.served) > 0 },
	},
	{
		Rule{ID: "step-of-two-uses", When: "a step that honest software takes too (mount, strace, a runtime's client or socket), and no open path that it belongs to is known",
			Means: "honest software does it too, and no open way out that it belongs to is known", Severity: medium},
		func(s *sight) bool { return s.escapes() && s.dual && !s.closed() },
	},
	{
		Rule{ID: "step-of-two-uses-closed", When: "the same on a closed or sealed workload",
			Means: "honest software does it too, and no way out is open", Severity: low},
		func(s *sight) bool { return s.escapes() && s.dual },
	},
	{
		Rule{ID: "step-somewhere", When: "chroot or another escape step, where the pod or its verdict is not known",
			Means: "honest software in containers does not do it, and whether a way out is open is not known", Incident: true, Severity: high, Passed: critical},
		func(s *sight) bool { return s.escapes() && !s.known },
	},
	{
		Rule{ID: "step-without-path", When: "chroot or another escape step that belongs to no open path of the container",
			Means: "honest software in containers does not do it, though no open way out goes by it", Incident: true, Severity: medium, Passed: high},
		func(s *sight) bool { return s.escapes() },
	},
}

var toolRules = []rule{
	{
		Rule{ID: "tool-from-outside", When: "a deployment tool that the runtime started itself (exec, probe, hook), and something is open or that is not known",
			Means: "the container's runtime started it, for an exec or a probe", Severity: medium},
		func(s *sight) bool { return s.class == scan.ClassTool && !s.settled() && runtimeAlike(s.alert.Parent) },
	},
	{
		Rule{ID: "tool-with-way-out", When: "a deployment tool in a container with an open path, on a workload that is exposed, or whose verdict is unknown",
			Means: "who fetches tools in a container with an open way out may be on it", Incident: true, Severity: medium, Passed: high},
		func(s *sight) bool { return s.class == scan.ClassTool && !s.settled() && len(s.open) > 0 },
	},
	{
		Rule{ID: "tool-somewhere", When: "a deployment tool, where it is not known whether something is open, or only from another container",
			Means: "whether a way out is open to it is not known", Severity: medium},
		func(s *sight) bool { return s.class == scan.ClassTool && !s.settled() },
	},
	{
		Rule{ID: "tool-note", When: "a deployment tool on a guarded, closed or sealed workload",
			Means: "no way out is open, or each is stopped", Severity: low},
		func(s *sight) bool { return s.class == scan.ClassTool },
	},
}

var otherRules = []rule{
	{
		Rule{ID: "other-note", When: "anything else on a guarded, closed or sealed workload, or what was stopped",
			Means: "it is no step out that is known", Severity: low},
		func(s *sight) bool { return s.settled() || s.blocked && s.known },
	},
	{
		Rule{ID: "other", When: "anything else",
			Means: "it is no step out that is known, and what it is good for here is not known", Severity: medium},
		func(*sight) bool { return true },
	},
}

// along reports whether the deed is a step of an open path, or of one that the spec
// opens where there is no verdict yet.
func (s *sight) along() bool {
	if s.holds == no {
		return false
	}
	return len(s.served) > 0 || s.holds == yes && !s.known && opens(s.capability)
}

// escapes reports whether the deed is a step out that is no capability and no tool.
func (s *sight) escapes() bool {
	return s.class != scan.ClassCapability && s.step != "" && s.step != stepTool
}

// sentence is the reason of an alert.
func (s *sight) sentence(r *rule) string {
	return s.what() + ", " + s.whereIs() + ": " + r.Means
}

// what says what was done.
func (s *sight) what() string {
	name := cut(s.name, shortText)
	if name == "" {
		name = "a program"
	}
	how := "and was not stopped"
	if s.blocked {
		how = "and was stopped"
	}
	switch {
	case s.class == scan.ClassCapability:
		return fmt.Sprintf("%s asked for %s %s", name, cut(s.capability, shortText), how)
	case s.file != "":
		return fmt.Sprintf("%s reached for %s %s", name, cut(s.file, shortText), how)
	case s.alert.Operation == operationProcess:
		return fmt.Sprintf("%s was called %s", name, how)
	}
	return fmt.Sprintf("%s did something that a policy names %s", name, how)
}

// whereIs says what of the place decides.
func (s *sight) whereIs() string {
	switch {
	case s.onNode:
		return "outside of any pod"
	case len(s.served) > 0:
		return fmt.Sprintf("on a workload that is %s by %s", s.verdict, list(s.served))
	case s.verdict == "" && s.holds == unknown:
		return "in a pod of which nothing is known"
	case s.verdict == "":
		return "on a workload without a verdict" + s.holding()
	}
	return fmt.Sprintf("on a workload whose verdict is %s%s", s.verdict, s.holding())
}

// holding says what is known of the capability there.
func (s *sight) holding() string {
	switch s.holds {
	case no:
		return ", in a container that cannot hold it (" + s.whyNot + ")"
	case yes:
		return ", in a container that can hold it"
	case unknown:
	}
	return ""
}

// list is at most three of the names, and how many there are more.
func list(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
