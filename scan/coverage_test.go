package scan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCoveragesApart: a label's value in a file may be anything, and does not pass for
// other labels.
func TestCoveragesApart(t *testing.T) {
	c := &coverages{s: &surroundings{armorLabels: []string{"app", "tier"}}}
	key := func(labels map[string]string) string {
		return c.key(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: labels}})
	}
	guarded := key(map[string]string{"app": "web", "tier": "front"})
	if key(map[string]string{"app": "web", "tier": "front", "other": "x"}) != guarded {
		t.Error("a label that no selector reads tells pods apart")
	}
	for _, app := range []string{"web\x00tier=front", `web"` + "\x00tier=\"front"} {
		if key(map[string]string{"app": app}) == guarded {
			t.Errorf("label app=%q passes for tier=front", app)
		}
	}
}
