package sink

import (
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Object is the object of the cluster that a row is about, without its UID, which no event
// tells; nil where the row is about none. The version is empty for kinds of which only
// the name is known.
func Object(w scan.Workload) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}
	switch w.Kind {
	case "Exception":
		// It stands in the configuration.
		return nil
	case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet":
		ref.APIVersion = "apps/v1"
	case "Job", "CronJob":
		ref.APIVersion = "batch/v1"
	case "Pod", "ReplicationController":
		ref.APIVersion = "v1"
	case "Namespace", "Node":
		// A finding about a namespace names it as its own too.
		ref.APIVersion, ref.Namespace = "v1", ""
	case "KubeArmorPolicy", "KubeArmorClusterPolicy", "KubeArmorHostPolicy":
		ref.APIVersion = "security.kubearmor.com/v1"
	}
	return ref
}

// Text is what others may be given of a text: what could act on a terminal is made visible,
// and it has at most so many bytes.
func Text(s string, most int) string {
	clean := report.Clean(head(s, most))
	if len(s) <= most && len(clean) <= most {
		return clean
	}
	const end = "…"
	return head(clean, most-len(end)) + end
}

// head is the beginning of a text, whole characters of at most so many bytes.
func head(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
