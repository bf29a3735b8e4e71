package armor

import (
	"path"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// toothless lists for each policy why it does not bite, or less than it says, in
// the order of the policies.
func toothless(policies []*Policy, pod *Pod, obstacles []obstacle) []Toothless {
	var found []Toothless
	full := entries(policies) > maxRulesPerContainer
	named := make([]namedPaths, len(pod.Containers))
	for _, p := range policies {
		found = append(found, p.inForm(pod)...)
		if p.empty() {
			continue
		}
		for _, o := range obstacles {
			found = append(found, Toothless{Policy: p.Ref, Cause: o.cause, Certain: o.certain, Reason: o.grip.reason, Mend: o.mend})
		}
		found = append(found, p.onNode(&pod.Node)...)
		if full {
			found = append(found, Toothless{Policy: p.Ref, Cause: CauseEnforcer, Certain: true,
				Reason: "the policies that select the pod need more entries than KubeArmor keeps for a container, and which are left out is not known",
				Mend:   "name directories instead of single paths, or drop policies that say the same"})
		}
		for i := range pod.Containers {
			if c := &pod.Containers[i]; p.covers(c.Name) {
				found = append(found, p.inContainer(c, &named[i], policies)...)
			}
		}
	}
	return found
}

// inForm is what the policy itself lacks.
func (p *Policy) inForm(pod *Pod) []Toothless {
	var found []Toothless
	if p.empty() {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseEmpty, Certain: true,
			Reason: because("the policy has no rule that does anything", list(p.Problems)),
			Mend:   "name paths or capabilities, with action Block"})
	} else if len(p.Problems) > 0 {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseEmpty, Certain: true,
			Reason: "a part of the policy does not do what it says: " + list(p.Problems), Mend: "correct that part"})
	}
	if p.capabilities.has(Audit) {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseCapabilityAudit, Certain: true,
			Reason: "action Audit on capabilities yields nothing, not even alerts: only Block and Allow are loaded into the kernel",
			Mend:   "set action Block for capabilities, first where little can break"})
	}
	for _, kind := range []struct {
		section            *section
		annotation, global string
	}{{&p.process, filePosture, pod.FilePosture}, {&p.file, filePosture, pod.FilePosture}, {&p.capabilities, capabilitiesPosture, pod.CapabilityPosture}} {
		if !kind.section.allows {
			continue
		}
		if posture := postureOf(pod, kind.annotation, kind.global); posture.status != Blocked {
			found = append(found, Toothless{Policy: p.Ref, Cause: CauseAllowList, Certain: posture.status == Audited && (kind.global != "" || pod.NamespaceAnnotations[kind.annotation] != ""),
				Reason: "the policy allows, and what it does not name is not stopped: " + posture.reason,
				Mend:   "annotate the namespace " + kind.annotation + ": block, once the list is complete"})
			break
		}
	}
	return found
}

// onNode is what the node's enforcer cannot do for this policy. Where it can do
// nothing at all, that is said for the pod.
func (p *Policy) onNode(node *kernel.Enforcement) []Toothless {
	if node.Agent == kernel.No || node.Processes == kernel.No && node.Capabilities == kernel.No {
		return nil
	}
	var found []Toothless
	add := func(reason, mend string) {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseEnforcer, Certain: true, Reason: reason, Mend: mend})
	}
	if node.Capabilities == kernel.No && (p.capabilities.has(Block) || p.capabilities.has(Allow)) {
		add(because("the node's enforcer does not stop capabilities", node.Reason), "turn BPF-LSM on in the node's kernel")
	}
	if node.Processes == kernel.No && (p.process.has(Block) || p.process.has(Allow)) {
		add(because("the node's enforcer does not stop processes", node.Reason), "turn BPF-LSM on in the node's kernel")
	}
	if node.Enforcer == enforcerBPF && len(p.process.patterns) > 0 {
		add("BPF-LSM does not load matchPatterns", "name the paths under matchPaths, or a folder under matchDirectories")
	}
	return found
}

// inContainer is what in a container keeps the policy from biting.
func (p *Policy) inContainer(c *Container, others *namedPaths, policies []*Policy) []Toothless {
	if o := containerObstacle(c.Kind); o != nil {
		return []Toothless{{Policy: p.Ref, Cause: o.cause, Container: c.Name, Certain: true, Reason: o.grip.reason, Mend: o.mend}}
	}
	var links, applets []string
	for _, file := range p.process.named {
		switch real := c.leads(file); {
		case real == "" || others.has(real, c, policies):
		case path.Base(real) == "busybox" && path.Base(file) != "busybox":
			applets = append(applets, file)
		default:
			links = append(links, file+" → "+real)
		}
	}
	certain := c.Paths != nil
	likely := "is a link"
	if !certain {
		likely = "is most likely a link"
	}
	var found []Toothless
	if len(applets) > 0 {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseBusyBox, Container: c.Name, Certain: certain,
			Reason: list(applets) + ": " + likely + " to BusyBox in this image, and rules match the real path",
			Mend:   "use an image without BusyBox; a rule on " + busybox + " blocks every applet, the shell too"})
	}
	if len(links) > 0 {
		found = append(found, Toothless{Policy: p.Ref, Cause: CauseSymlink, Container: c.Name, Certain: certain,
			Reason: list(links) + ": " + likely + ", and rules match the real path", Mend: "name the real path, too"})
	}
	return found
}

// leads is where a path of a rule leads in the container, as far as is known or
// likely; empty when nothing speaks for another place than itself.
func (c *Container) leads(file string) string {
	real := c.Paths[file]
	if c.Paths == nil {
		inSbin := strings.HasPrefix(file, "/sbin/")
		switch {
		case applet(path.Base(file)) && imageFamily(c.Image) == familyBusyBox:
			real = busybox
		case (inSbin || strings.HasPrefix(file, "/usr/sbin/")) && imageFamily(c.Image) == familyMergedBin:
			real = "/usr/bin/" + path.Base(file)
		case strings.HasPrefix(file, "/bin/"), inSbin && path.Base(file) != "apk":
			real = "/usr" + file
		}
	}
	if real == file {
		return ""
	}
	return real
}

// namedPaths are the files that the policies on one container block or audit, put
// together when they are first asked for.
type namedPaths map[string]bool

// has tells whether a policy on the container names the file, or a folder of it.
func (n *namedPaths) has(file string, c *Container, policies []*Policy) bool {
	if *n == nil {
		*n = namedPaths{}
		for _, p := range policies {
			if !p.covers(c.Name) {
				continue
			}
			for _, named := range p.process.named {
				(*n)[named] = true
			}
		}
	}
	return (*n)[file] || len(rules{policies, processSection, loadedBook}.directory(file, "")) > 0
}
