package main

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Neither KubeArmor nor Kyverno is installed.
func testMissingKinds(t *testing.T, server *kubetest.Server) {
	for admission, kind := range map[set.Admission]string{set.AdmissionKyvernoCEL: "NamespacedValidatingPolicy", set.AdmissionKyverno: "Policy", set.AdmissionVAP: "KubeArmorPolicy"} {
		c := newCure(t, server, nil, func(o *set.Options) {
			if o.Admission = admission; admission != set.AdmissionVAP {
				o.Only = []string{"admission"}
			}
		})
		before := c.dump()
		plan := c.plan(server.Config())
		wantBlocked(t, plan, kind, remediate.BlockedByMissingKind, kind+" "+c.namespace()+"/")
		if _, err := plan.Apply(t.Context(), c.writer(server.Config()), remediate.ApplyOptions{By: "test", Now: testTime}); err == nil || !strings.Contains(err.Error(), kind+" "+c.namespace()+"/") {
			t.Errorf("apply: %v", err)
		}
		wantSameObjects(t, before, c.dump())
		c.mustRollback()
	}
}

// kyvernoKinds are the kinds that a set in CEL of Kyverno's is made of.
func kyvernoKinds() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Group: "policies.kyverno.io", Version: "v1", Resource: "validatingpolicies"},
		{Group: "policies.kyverno.io", Version: "v1", Resource: "namespacedvalidatingpolicies"},
		{Group: "kyverno.io", Version: "v1", Resource: "clusterpolicies"},
		{Group: "kyverno.io", Version: "v1", Resource: "policies"},
	}
}

// Of Kyverno there is half: its kinds, and nothing that acts on them, or a webhook that
// nobody answers.
func testHalfOfKyverno(t *testing.T, server *kubetest.Server) {
	server.InstallCRDs(t, kubetest.Kyverno)
	for admission, kind := range map[set.Admission]string{set.AdmissionKyvernoCEL: "NamespacedValidatingPolicy", set.AdmissionKyverno: "Policy"} {
		t.Run(string(admission), func(t *testing.T) {
			c := newCure(t, server, nil, func(o *set.Options) { o.Admission, o.Only = admission, []string{"admission", "tools"} })
			before := c.everyPolicy()
			c.withoutController()
			c.mustRollback()
			wantSameObjects(t, before, c.everyPolicy())

			c.mustApply()
			webhook := deadWebhook(c)
			eventually(t, "the webhook is asked", func() bool {
				_, err := c.writer(server.Config()).Apply(t.Context(), c.set().Objects[0].Audit, remediate.WriteOptions{DryRun: true, Force: true})
				return err != nil
			})
			// In place, so nothing is to be asked; and what was brought in comes out.
			c.wantAll(c.status(), remediate.StateInPlace)
			c.mustRollback()
			wantSameObjects(t, before, c.everyPolicy())
			wantBlocked(t, c.plan(server.Config()), kind, remediate.BlockedByWebhook, "dead.example.com")
			wantSameObjects(t, before, c.everyPolicy())
			webhook()
		})
	}
	t.Run("taken away", func(t *testing.T) { testKindTakenAway(t, server) })
}

// withoutController applies where nobody acts on the policies, and is told so.
func (c *cure) withoutController() {
	c.Helper()
	cluster, err := kube.NewCluster(c.server.Config(), kube.Options{})
	if err != nil {
		c.Fatal(err)
	}
	verifier := kube.NewVerifier(cluster, kube.VerifyOptions{Set: c.opts, Timeout: 3 * time.Second})
	result, err := c.plan(c.server.Config()).Apply(c.Context(), cluster.Writer(), remediate.ApplyOptions{By: "test", Now: testTime, Verify: verifier.Verify})
	if err != nil || result.Left != 0 {
		c.Errorf("apply: %v", err)
	}
	c.wantAll(c.status(), remediate.StateInPlace)
	for _, check := range result.Checks {
		switch {
		case strings.HasPrefix(check.Subject, "accepted: "):
			if check.Answer != kernel.Unknown || !strings.Contains(check.Message, "controller") {
				c.Errorf("%+v", check)
			}
		case strings.HasPrefix(check.Subject, "refuses: "):
			if check.Answer != kernel.No {
				c.Errorf("%+v", check)
			}
		case check.Answer == kernel.Yes:
			c.Errorf("%+v", check)
		}
	}
}

// everyPolicy are the cure's objects with those of Kyverno.
func (c *cure) everyPolicy() map[string]string {
	c.Helper()
	all := c.dump()
	maps.Copy(all, dumpObjects(c, c.server, kyvernoKinds(), nil))
	return all
}

// deadWebhook is Kyverno's webhook for policies after its pods have gone; it is taken
// away by what is returned.
func deadWebhook(c *cure) func() {
	c.Helper()
	name := "dead-" + c.opts.Name
	c.server.ApplyYAML(c, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: `+name+`}
webhooks:
- name: dead.example.com
  clientConfig: {url: "https://127.0.0.1:1/policyvalidate"}
  failurePolicy: Fail
  timeoutSeconds: 1
  sideEffects: None
  admissionReviewVersions: [v1]
  rules:
  - {apiGroups: [kyverno.io, policies.kyverno.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: ["*"]}
`)
	return func() {
		err := c.server.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(context.WithoutCancel(c.Context()), name, metav1.DeleteOptions{})
		if err != nil {
			c.Error(err)
		}
	}
}

// A product that is uninstalled takes its kinds, and all that was of them: the rest comes
// out as ever.
func testKindTakenAway(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) { o.Admission, o.Only = set.AdmissionKyvernoCEL, []string{"admission", "tools"} })
	before := c.dump()
	eventually(t, "the webhooks of others are gone", func() bool {
		_, err := c.writer(server.Config()).Apply(t.Context(), c.set().Objects[0].Audit, remediate.WriteOptions{DryRun: true})
		return err == nil
	})
	c.mustApply()
	crds := c.dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	const name = "namespacedvalidatingpolicies.policies.kyverno.io"
	if err := crds.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kind is gone", func() bool {
		served, err := servedKind(t, server, "NamespacedValidatingPolicy")
		return err == nil && !served
	})
	for _, o := range c.status().Objects {
		want := remediate.StateInPlace
		if o.Object.Kind == "NamespacedValidatingPolicy" {
			want = remediate.StateMissing
		}
		if o.State != want {
			t.Errorf("%s is %q, want %q: %s", o.Object, o.State, want, o.Message)
		}
	}
	c.mustRollback()
	wantSameObjects(t, before, c.dump())
}

func servedKind(t *testing.T, server *kubetest.Server, kind string) (bool, error) {
	t.Helper()
	cluster, err := kube.NewCluster(server.Config(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Serves(t.Context(), schema.GroupVersionKind{Group: "policies.kyverno.io", Version: "v1", Kind: kind})
}
