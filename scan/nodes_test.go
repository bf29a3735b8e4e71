package scan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// A Linux node that somebody labelled as Windows is still one on which pods may come
// to run: what it does not enforce must not be left out.
func TestAnyNodeAsksTheKubelet(t *testing.T) {
	t.Parallel()
	node := func(name, system, label string, answer kernel.Answer) *nodeState {
		return &nodeState{
			name: name,
			node: &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: label}},
				Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{OperatingSystem: system}},
			},
			enforcement: kernel.Enforcement{Capabilities: answer, Processes: answer},
		}
	}
	good := node("good", "linux", "linux", kernel.Yes)
	for _, test := range []struct {
		name  string
		other *nodeState
		want  kernel.Answer
	}{
		{"a Linux node under a false label", node("other", "linux", "windows", kernel.No), kernel.Unknown},
		{"a Windows node", node("other", "windows", "linux", kernel.No), kernel.Yes},
		{"a node that only its label speaks of", node("other", "", "windows", kernel.No), kernel.Yes},
	} {
		s := &surroundings{nodes: map[string]*nodeState{"good": good, "other": test.other}}
		if got := s.anyNode(); got.Capabilities != test.want {
			t.Errorf("%s: capabilities %q (%s), want %q", test.name, got.Capabilities, got.Reason, test.want)
		}
	}
}
