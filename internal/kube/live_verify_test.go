package kube

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// admissionObject is an object of a set with both its forms.
func admissionObject(t *testing.T, audit, enforce string) set.Object {
	t.Helper()
	return set.Object{Part: set.PartAdmission, Audit: objectOf(t, audit), Enforce: objectOf(t, enforce)}
}

// verified are the answers by what they are about.
func verified(t *testing.T, config *rest.Config, opts VerifyOptions, stage remediate.Stage, objects ...set.Object) map[string]remediate.Check {
	t.Helper()
	checks := map[string]remediate.Check{}
	for _, c := range NewVerifier(clusterOf(t, config), opts).Verify(t.Context(), stage, objects) {
		subject, _, _ := strings.Cut(c.Subject, ":")
		if _, twice := checks[subject]; twice || c.Message == "" {
			t.Errorf("check %+v", c)
		}
		checks[subject] = c
	}
	return checks
}

func wantChecks(t *testing.T, got map[string]remediate.Check, want map[string]kernel.Answer, says string) {
	t.Helper()
	for subject, answer := range want {
		if got[subject].Answer != answer || !strings.Contains(got[subject].Message, says) {
			t.Errorf("%s: %+v, want %s with %q", subject, got[subject], answer, says)
		}
	}
	if len(got) != len(want) {
		t.Errorf("checks %+v, want %d", got, len(want))
	}
}

// patient waits for what the API server learns by and by.
func patient(namespaces ...string) VerifyOptions {
	return VerifyOptions{Set: set.Options{Scope: targets.Scope{Namespaces: namespaces}}, Timeout: 30 * time.Second}
}

// hasty gives up soon.
func hasty(namespaces ...string) VerifyOptions {
	opts := patient(namespaces...)
	opts.Timeout = 300 * time.Millisecond
	return opts
}

func TestLiveVerifiesPodSecurity(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	object := admissionObject(t,
		"{apiVersion: v1, kind: Namespace, metadata: {name: "+ns+", labels: {pod-security.kubernetes.io/warn: baseline, pod-security.kubernetes.io/audit: baseline}}}",
		"{apiVersion: v1, kind: Namespace, metadata: {name: "+ns+", labels: {pod-security.kubernetes.io/enforce: baseline}}}")
	w := liveWriter(t, server.Config())

	// Nothing is in place.
	wantChecks(t, verified(t, server.Config(), hasty(ns), remediate.StageAudit, object), map[string]kernel.Answer{"warns": kernel.Unknown, "admits": kernel.Unknown}, "")
	got := verified(t, server.Config(), hasty(ns), remediate.StageEnforce, object)
	wantChecks(t, got, map[string]kernel.Answer{"refuses": kernel.No, "admits": kernel.Unknown}, "(waited 300ms)")
	for stage, form := range map[remediate.Stage]*unstructured.Unstructured{remediate.StageAudit: object.Audit, remediate.StageEnforce: object.Enforce} {
		subject := map[remediate.Stage]string{remediate.StageAudit: "warns", remediate.StageEnforce: "refuses"}[stage]
		if _, err := w.Apply(t.Context(), form, remediate.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		wantChecks(t, verified(t, server.Config(), patient(ns), stage, object), map[string]kernel.Answer{subject: kernel.Yes, "admits": kernel.Yes}, "in namespace "+ns)
		// Each stage by itself: the labels of one are not those of the other.
		now, err := server.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Labels = nil
		if _, err := server.Client().CoreV1().Namespaces().Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	// Who may not make pods cannot prove anything, and is told so at once.
	user := server.User(t, "verify-nothing")
	server.Allow(t, "verify-nothing", "", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"list"}})
	began := time.Now()
	got = verified(t, user, patient(ns), remediate.StageEnforce, object)
	wantChecks(t, got, map[string]kernel.Answer{"refuses": kernel.Unknown, "admits": kernel.Unknown}, "")
	if !strings.Contains(got["refuses"].Message, "not allowed to ask") || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), got)
	}

	// Ctrl-C is heard.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range NewVerifier(clusterOf(t, server.Config()), patient(ns)).Verify(ctx, remediate.StageEnforce, []set.Object{object}) {
		if c.Answer != kernel.Unknown || !strings.Contains(c.Message, "interrupted") {
			t.Errorf("interrupted: %+v", c)
		}
	}
}

// vapText is a policy that refuses pods in the host's PID namespace, and its binding.
func vapText(name, expression, namespace, action string) (policy, binding string) {
	return `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: ` + name + `}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: "` + expression + `"}]
`, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: ` + name + `}
spec:
  policyName: ` + name + `
  validationActions: [` + action + `]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + namespace + `}}}
`
}

func TestLiveVerifiesPoliciesInCEL(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	for _, test := range []struct {
		name, expression string
		labels           map[string]string
		refuses, admits  kernel.Answer
		says             string
	}{
		{"right", "!object.spec.?hostPID.orValue(false)", nil, kernel.Yes, kernel.Yes, "ValidatingAdmissionPolicy"},
		{"too much", "false", nil, kernel.Yes, kernel.No, "ValidatingAdmissionPolicy"},
		{"nothing", "true", nil, kernel.No, kernel.Unknown, "refuses nothing"},
		// What another refuses first proves nothing of ours.
		{"hidden", "true", map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}, kernel.Unknown, kernel.Unknown, "before ours"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ns := server.Namespace(t, test.labels)
			policy, binding := vapText(ns, test.expression, ns, "Deny")
			server.ApplyYAML(t, policy+"---"+binding)
			objects := []set.Object{admissionObject(t, policy, policy), admissionObject(t, binding, binding)}
			opts := patient(ns)
			if test.refuses != kernel.Yes {
				opts = hasty(ns)
			}
			accept(t, server, ns)
			got := verified(t, server.Config(), opts, remediate.StageEnforce, objects...)
			wantChecks(t, got, map[string]kernel.Answer{"accepted": kernel.Yes, "refuses": test.refuses, "admits": test.admits}, "")
			if !strings.Contains(got["refuses"].Message, test.says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// accept type-checks a policy in the controller manager's place.
func accept(t *testing.T, server *kubetest.Server, name string) {
	t.Helper()
	text := []byte(`{"status":{"observedGeneration":1,"typeChecking":{}}}`)
	_, err := server.Client().AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(t.Context(), name, types.MergePatchType, text, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// What is waited for is looked at again at each tick, and only what is not settled.
func TestLiveVerifyLooksAgain(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	policy, binding := vapText(ns, "!object.spec.?hostPID.orValue(false)", ns, "Deny")
	server.ApplyYAML(t, policy+"---"+binding)
	tick := make(chan time.Time)
	opts := patient(ns)
	opts.Tick = tick
	done := make(chan []remediate.Check)
	go func() {
		done <- NewVerifier(clusterOf(t, server.Config()), opts).Verify(t.Context(), remediate.StageEnforce, []set.Object{admissionObject(t, policy, policy), admissionObject(t, binding, binding)})
	}()
	tick <- time.Time{} // It has looked, and the type check was not there.
	accept(t, server, ns)
	var checks []remediate.Check
	for checks == nil {
		select {
		case tick <- time.Time{}:
		case checks = <-done:
		}
	}
	if len(checks) != 3 || slices.ContainsFunc(checks, func(c remediate.Check) bool { return c.Answer != kernel.Yes }) {
		t.Errorf("%+v", checks)
	}
}

func TestLiveVerifiesNothingOfNothing(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	if got := verified(t, server.Config(), patient(), remediate.StageAudit); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// KubeArmor is asked for where its policies come to stand as they stay.
	policy := objectOf(t, "{apiVersion: security.kubearmor.com/v1, kind: KubeArmorPolicy, metadata: {name: a, namespace: b}}")
	object := set.Object{Part: set.PartTools, Audit: policy, Enforce: policy.DeepCopy()}
	if got := verified(t, server.Config(), hasty(), remediate.StageAudit, object); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	wantChecks(t, verified(t, server.Config(), hasty(), remediate.StageEnforce, object), map[string]kernel.Answer{"KubeArmor's agents": kernel.Unknown}, "no Linux node")

	// What warns nobody is tried where it refuses, or where it is to stay so.
	rules := admissionObject(t, "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: a}}", "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: a}, spec: {}}")
	wantChecks(t, verified(t, server.Config(), hasty(), remediate.StageAudit, rules), map[string]kernel.Answer{"accepted": kernel.Unknown}, "does not serve")
	rules.Enforce = nil
	wantChecks(t, verified(t, server.Config(), hasty(ns), remediate.StageAudit, rules), map[string]kernel.Answer{"accepted": kernel.Unknown, "warns": kernel.Unknown, "admits": kernel.Unknown}, "")
}
