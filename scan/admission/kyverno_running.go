package admission

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// KyvernoSelector selects the pods of Kyverno's admission controller, by the label of its
// chart: the first name is that of version 1.10 and later. Others label their pods so too.
const KyvernoSelector = "app.kubernetes.io/component in (admission-controller,kyverno)"

// KyvernoDoubt says why it is not sure that the API server asks Kyverno, empty where it is:
// where a pod of its admission controller is ready. The pods are those that KyvernoSelector
// selects. When Kyverno ends it takes its webhooks along, and its policies stay as they are.
func KyvernoDoubt(pods []corev1.Pod) string {
	found := 0
	for i := range pods {
		if !isKyverno(&pods[i]) {
			continue
		}
		if isReady(&pods[i]) {
			return ""
		}
		found++
	}
	if found == 0 {
		return "no pod of Kyverno's admission controller runs (" + KyvernoSelector + "), and without it nobody asks its policies"
	}
	return "no pod of Kyverno's admission controller is ready, and without it nobody asks its policies"
}

// isKyverno knows Kyverno's pods by the chart's label, whatever the release is called, or by
// the name of their container.
func isKyverno(pod *corev1.Pod) bool {
	return strings.Contains(pod.Labels["app.kubernetes.io/part-of"], kyvernoName) ||
		slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == kyvernoName })
}

const kyvernoName = "kyverno"

func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
