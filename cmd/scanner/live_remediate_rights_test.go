package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// grant makes a user who has what the roles for a verb grant, and nothing else.
func grant(t *testing.T, server *kubetest.Server, name string, verb kube.Verb, perms []kube.Permission) *rest.Config {
	t.Helper()
	for _, role := range kube.Roles("escape-scanner-remediate-"+string(verb), perms) {
		var granted rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(role.Object, &granted); err != nil {
			t.Fatal(err)
		}
		server.Allow(t, name, role.GetNamespace(), granted.Rules...)
	}
	return server.User(t, name)
}

// unevenCure is a set in a state in which the next apply makes an object, changes one,
// puts one back and takes one away, and a rollback puts back and takes away.
func unevenCure(t *testing.T, server *kubetest.Server) *cure {
	t.Helper()
	c := newCure(t, server, map[string]string{"pod-security.kubernetes.io/warn": "privileged"}, func(o *set.Options) {
		o.Admission = set.AdmissionPSA
		o.Scope.Namespaces = append(o.Scope.Namespaces, server.Namespace(t, nil))
	})
	server.ApplyYAML(t, `
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: `+c.opts.Name+`-tools, namespace: `+c.namespace()+`, labels: {team: platform}}
spec: {process: {matchPaths: [{path: /usr/bin/theirs}]}, action: Audit}
`)
	c.force = true
	c.mustApply()
	err := c.dynamic().Resource(cureKinds()[4]).Namespace(c.namespace()).Delete(t.Context(), c.opts.Name+"-capabilities", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// smaller leaves the second namespace out, and tools and chroot in the first, where
// labels are restricted that were baseline.
func (c *cure) smaller() *cure {
	other := *c
	other.opts.Level = psa.LevelRestricted
	other.opts.Scope.Namespaces = c.opts.Scope.Namespaces[:1]
	other.opts.Only = []string{"admission", "capabilities"}
	return &other
}

func (c *cure) refs() []remediate.Ref {
	var refs []remediate.Ref
	for _, o := range c.set().Objects {
		refs = append(refs, remediate.RefOf(o.Final()))
	}
	return refs
}

// The roles that are printed for a verb are enough, and nothing in them is too much:
// without each right the verb is stopped, says by what, and has lost nothing.
func testRemediateRights(t *testing.T, server *kubetest.Server) {
	c := unevenCure(t, server)
	before := c.dump()
	// Of a rollback without one right something is done.
	for _, verb := range []kube.Verb{kube.VerbPlan, kube.VerbApply, kube.VerbStatus, kube.VerbRollback} {
		all := kube.Needs(verb, kube.Work{Objects: c.refs(), Namespaces: c.opts.Scope.Namespaces, RecordNamespace: c.records})
		// What is read for the preview is read as in a scan, whose tests take those rights
		// away. In the second namespace not all is done that is done in the first.
		about := slices.DeleteFunc(slices.Clone(all), func(p kube.Permission) bool {
			return !strings.HasPrefix(p.For, "the objects of the set") && !strings.HasPrefix(p.For, "the record") || p.Namespace == c.opts.Scope.Namespaces[1] ||
				verb == kube.VerbApply && p.Resource == "configmaps" && (p.Verb == "delete" || p.Verb == "create")
		})
		for i, without := range about {
			t.Run(fmt.Sprintf("%s/without %s", verb, strings.ReplaceAll(without.String(), "/", " ")), func(t *testing.T) {
				here := *c.smaller()
				here.T = t
				rest := slices.DeleteFunc(slices.Clone(all), func(p kube.Permission) bool {
					return p.String() == without.String() && p.Namespace == without.Namespace
				})
				config := grant(t, server, fmt.Sprintf("%s-%s-%d", here.opts.Name, verb, i), verb, rest)
				said := here.tell(verb, config)
				if !strings.Contains(said, without.Resource) || !strings.Contains(said, "cannot "+without.Verb) {
					t.Errorf("it says %q", said)
				}
				if without.Verb == "delete" && without.Resource == "configmaps" {
					// Only the record's end comes after everything else.
					return
				}
				wantSameButRecord(t, before, c.dump(), c.records)
			})
			if t.Failed() {
				return
			}
		}
	}
	// The record is still there, so that nothing is lost; and with all rights.
	c.mustRollback()
	testFirstRecord(t, server)
	c.mustApply()
	for _, verb := range kube.Verbs() {
		t.Run(string(verb)+"/with all", func(t *testing.T) {
			here := *c.smaller()
			here.T = t
			perms := kube.Needs(verb, kube.Work{Objects: c.refs(), Namespaces: c.opts.Scope.Namespaces, RecordNamespace: c.records})
			if said := here.tell(verb, grant(t, server, fmt.Sprintf("%s-%s-all", here.opts.Name, verb), verb, perms)); said != "" {
				t.Errorf("it says %q", said)
			}
			if verb == kube.VerbRollback {
				return
			}
			if verb == kube.VerbApply {
				here.wantAll(here.status(), remediate.StateInPlace)
			}
		})
	}
}

// testFirstRecord has the right to make a record missing where there is none.
func testFirstRecord(t *testing.T, server *kubetest.Server) {
	t.Helper()
	c := newCure(t, server, nil, func(o *set.Options) { o.Only = []string{"tools"} })
	before := c.dump()
	perms := kube.Needs(kube.VerbApply, kube.Work{Objects: c.refs(), Namespaces: c.opts.Scope.Namespaces, RecordNamespace: c.records})
	perms = slices.DeleteFunc(perms, func(p kube.Permission) bool { return p.String() == "create configmaps" })
	said := c.tell(kube.VerbApply, grant(t, server, c.opts.Name, kube.VerbApply, perms))
	if !strings.Contains(said, "cannot create") || !strings.Contains(said, "configmaps") {
		t.Errorf("it says %q", said)
	}
	wantSameObjects(t, before, c.dump())
}

// tell does a verb, and gives what it says of what it was not let do.
func (c *cure) tell(verb kube.Verb, config *rest.Config) string {
	c.Helper()
	w := c.writer(config)
	var said []string
	add := func(err error) {
		if err != nil {
			said = append(said, err.Error())
			if !apierrors.IsForbidden(err) && !strings.Contains(err.Error(), "is forbidden") {
				c.Errorf("another error: %v", err)
			}
		}
	}
	var plan *remediate.Plan
	var err error
	switch verb {
	case kube.VerbStatus:
		_, err := remediate.Sets(c.Context(), w, c.records)
		add(err)
		status, err := remediate.ReadStatus(c.Context(), w, c.opts.Name, c.planOptions())
		add(err)
		if err == nil {
			for _, o := range status.Objects {
				if o.State == remediate.StateUnreadable {
					said = append(said, o.Message)
				}
			}
		}
		return strings.Join(said, "\n")
	case kube.VerbRollback:
		plan, err = remediate.NewRollback(c.Context(), w, c.opts.Name, c.planOptions())
	case kube.VerbPlan, kube.VerbApply:
		plan, err = remediate.NewPlan(c.Context(), w, c.set(), c.planOptions())
	}
	add(err)
	if err != nil {
		return strings.Join(said, "\n")
	}
	for _, change := range plan.Blocked() {
		said = append(said, change.Block.Message)
		if change.Block.By != remediate.BlockedByForbidden || !strings.Contains(change.Block.Message, change.Object.String()) {
			c.Errorf("%s is blocked by %+v", change.Object, change.Block)
		}
	}
	if verb != kube.VerbPlan && len(said) == 0 {
		_, err = plan.Apply(c.Context(), w, remediate.ApplyOptions{By: "test", Now: testTime})
		add(err)
	}
	return strings.Join(said, "\n")
}

// wantSameButRecord compares two dumps but for the record's namespace.
func wantSameButRecord(t *testing.T, before, after map[string]string, records string) {
	t.Helper()
	without := func(dump map[string]string) map[string]string {
		rest := map[string]string{}
		for name, text := range dump {
			if !strings.Contains(name, " "+records+"/") {
				rest[name] = text
			}
		}
		return rest
	}
	wantSameObjects(t, without(before), without(after))
}
