package armor

import (
	"strings"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// DecodeAlert translates an alert of KubeArmor's.
func DecodeAlert(a *protobuf.Alert) armor.Alert {
	out := armor.Alert{
		Time: timeOf(a), Node: a.GetHostName(),
		Namespace: a.GetNamespaceName(), Pod: a.GetPodName(), Container: a.GetContainerName(),
		OwnerKind: a.GetOwner().GetRef(), OwnerName: a.GetOwner().GetName(), Labels: labelsOf(a.GetLabels()),
		Type: a.GetType(), Operation: a.GetOperation(),
		Policy: a.GetPolicyName(), Action: a.GetAction(), Result: a.GetResult(), Enforcer: a.GetEnforcer(),
		Resource: a.GetResource(), Process: a.GetProcessName(), Parent: a.GetParentProcessName(),
	}
	return out
}

// timeOf is when it happened, by the node's clock: UpdatedTime to the microsecond,
// Timestamp to the second.
func timeOf(a *protobuf.Alert) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, a.GetUpdatedTime()); err == nil {
		return t.UTC()
	}
	if seconds := a.GetTimestamp(); seconds > 0 {
		return time.Unix(seconds, 0).UTC()
	}
	return time.Time{}
}

// labelsOf reads "app=web,tier=front".
func labelsOf(text string) map[string]string {
	var labels map[string]string
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || key == "" {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels
}
