package repair

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// judge is Judge of the document of a text, asked once.
func (w *work) judge(e *manifest.Editor) []scan.Finding {
	findings, ok := w.judged[e]
	if !ok {
		if w.judged == nil {
			w.judged = map[*manifest.Editor][]scan.Finding{}
		}
		findings = w.Judge(e.Document())
		w.judged[e] = findings
	}
	return findings
}

// fault says why a change of a document is not proven: what was to be repaired is
// still found, or something new is, or the pod contradicts itself. It is empty when
// there is nothing to say against it.
func (w *work) fault(from, to *manifest.Editor, repaired []scan.Finding) string {
	before, after := w.judge(from), w.judge(to)
	had, has := countPrints(before), countPrints(after)
	for i := range after {
		f := &after[i]
		if f.Excepted == nil && has[f.Fingerprint()] > had[f.Fingerprint()] {
			return fmt.Sprintf("it would bring %s to light, which is not repaired with it", f.Rule)
		}
	}
	for i := range repaired {
		if print := repaired[i].Fingerprint(); has[print] > 0 && has[print] >= had[print] {
			return "it is found all the same after the repair"
		}
	}
	return contradiction(from, to)
}

// contradiction is what a change makes of a pod that is not taken together; empty where
// it does not.
func contradiction(from, to *manifest.Editor) string {
	was := contradictions(from.Document().Spec)
	for _, c := range contradictions(to.Document().Spec) {
		if !slices.Contains(was, c) {
			return c
		}
	}
	return ""
}

// contradictions are settings of a pod that the API server or the kubelet does not
// take together.
func contradictions(spec *corev1.PodSpec) []string {
	var found []string
	pod := spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	check := func(name string, sc *corev1.SecurityContext) {
		if sc == nil {
			sc = &corev1.SecurityContext{}
		}
		if isFalse(sc.AllowPrivilegeEscalation) {
			if isTrue(sc.Privileged) {
				found = append(found, "the API server takes no allowPrivilegeEscalation: false with privileged: true (container "+name+")")
			}
			if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
				found = append(found, "the API server takes no allowPrivilegeEscalation: false with CAP_SYS_ADMIN (container "+name+")")
			}
		}
		nonRoot, user := sc.RunAsNonRoot, sc.RunAsUser
		if nonRoot == nil {
			nonRoot = pod.RunAsNonRoot
		}
		if user == nil {
			user = pod.RunAsUser
		}
		if isTrue(nonRoot) && user != nil && *user == 0 {
			found = append(found, "the kubelet starts no container with runAsNonRoot: true and runAsUser: 0 (container "+name+")")
		}
	}
	for i := range spec.InitContainers {
		check(spec.InitContainers[i].Name, spec.InitContainers[i].SecurityContext)
	}
	for i := range spec.Containers {
		check(spec.Containers[i].Name, spec.Containers[i].SecurityContext)
	}
	for i := range spec.EphemeralContainers {
		check(spec.EphemeralContainers[i].Name, spec.EphemeralContainers[i].SecurityContext)
	}
	return found
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// notToEdit says why a document is not for repair: what makes objects of it later is
// not known here.
func notToEdit(d *manifest.Document, e *manifest.Editor) string {
	if isTemplate(e.Text()) {
		return templateReason
	}
	spec := d.Spec
	if len(spec.Containers) == 0 {
		return "it has no containers: it looks like a patch of another document, and that is the one to repair"
	}
	partial := func(c *corev1.Container) bool { return c.Image == "" }
	if slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool { return partial(&c) }) ||
		slices.ContainsFunc(spec.InitContainers, func(c corev1.Container) bool { return partial(&c) }) {
		return "a container has no image: it looks like a patch of another document, and that is the one to repair"
	}
	if strings.Contains(string(e.Object()), `"$patch":`) {
		return "it is a patch of another document, and that is the one to repair"
	}
	return ""
}
