package armor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/proto"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

var errNoAlert = errors.New("it has neither a type nor an operation")

// decoder decodes messages of the stream, one at a time.
type decoder struct{ message protobuf.Alert }

// decode reads an alert; ok is false where there is none to be expected.
func (d *decoder) decode(message []byte) (alert armor.Alert, ok bool, err error) {
	if err := proto.Unmarshal(message, &d.message); err != nil {
		return alert, false, fmt.Errorf("a message that is no alert: %w", err)
	}
	ok, err = isAlert(&d.message)
	if !ok {
		return alert, false, err
	}
	return DecodeAlert(&d.message), true, nil
}

// isAlert tells alerts from logs, and from what is neither.
func isAlert(a *protobuf.Alert) (bool, error) {
	switch a.GetType() {
	case "ContainerLog", "HostLog":
		return false, nil
	case "":
		if a.GetOperation() == "" {
			return false, errNoAlert
		}
	}
	return true, nil
}

// DecodeAlert translates an alert of KubeArmor's.
func DecodeAlert(a *protobuf.Alert) armor.Alert {
	out := armor.Alert{
		Time: timeOf(a), Node: a.GetHostName(),
		Namespace: a.GetNamespaceName(), Pod: a.GetPodName(), Container: a.GetContainerName(),
		OwnerKind: a.GetOwner().GetRef(), OwnerName: a.GetOwner().GetName(), Labels: labelsOf(a.GetLabels()),
		Type: a.GetType(), Operation: a.GetOperation(),
		Policy: a.GetPolicyName(), Action: a.GetAction(), Result: a.GetResult(), Enforcer: a.GetEnforcer(),
		Resource: a.GetResource(), Process: a.GetProcessName(), Parent: a.GetParentProcessName(),
		Command: a.GetExecEvent().GetExecutableName(),
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
