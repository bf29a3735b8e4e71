package charttest

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
)

// The audit reaches the agent of EKS Pod Identity where it needs credentials for a bucket
// and no Secret has them, and nobody else does.
func TestPodIdentityIsReached(t *testing.T) {
	t.Parallel()
	bucket := "clusterName=c,audit.outputs.s3.enabled=true,audit.outputs.s3.bucket=audits"
	for _, test := range []struct {
		name, set string
		reached   bool
	}{
		{"a bucket", bucket, true},
		{"credentials from a Secret", bucket + ",audit.outputs.s3.existingSecret=audit-bucket", false},
		{"no bucket", "clusterName=c", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			objects := Objects(t, Render(t, "", "--set", test.set, "--show-only", "templates/networkpolicies.yaml"))
			want := []string(nil)
			if test.reached {
				want = []string{"169.254.170.23/32", "fd00:ec2::23/128"}
			}
			audit := find[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy", Release+"-audit")
			if have := peersAtPort80(audit); !slices.Equal(have, want) {
				t.Errorf("the audit reaches %v at port 80, want %v", have, want)
			}
			watch := find[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy", Release+"-watch")
			if have := peersAtPort80(watch); have != nil {
				t.Errorf("the watch reaches %v at port 80", have)
			}
		})
	}
}

// peersAtPort80 are the addresses that a policy lets pods reach at port 80, "all" for a
// rule that names none.
func peersAtPort80(policy *networkingv1.NetworkPolicy) []string {
	var peers []string
	for _, rule := range policy.Spec.Egress {
		if !slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntValue() == 80 }) {
			continue
		}
		if len(rule.To) == 0 {
			peers = append(peers, "all")
		}
		for _, to := range rule.To {
			if to.IPBlock == nil {
				peers = append(peers, "a selector")
				continue
			}
			peers = append(peers, to.IPBlock.CIDR)
		}
	}
	return peers
}
