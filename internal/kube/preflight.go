package kube

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Permission is one right that a scan uses, and whether the user has it.
type Permission struct {
	Verb     string `json:"verb"`
	Group    string `json:"group,omitempty"`
	Resource string `json:"resource"`
	// Namespace is where it is asked for; empty means everywhere.
	Namespace string `json:"namespace,omitempty"`
	// For says what is lost without it.
	For     string `json:"for"`
	Allowed bool   `json:"allowed"`
	// Reason is the API server's, where it gives one.
	Reason string `json:"reason,omitempty"`
}

// String is "VERB RESOURCE.GROUP", as kubectl auth can-i takes it.
func (p Permission) String() string {
	r := p.Resource
	if p.Group != "" {
		r += "." + p.Group
	}
	return p.Verb + " " + r
}

// needs are the rights that a scan of these namespaces uses (none means all).
func needs(namespaces []string) []Permission {
	const owners = "whether pods belong to the controllers that they name"
	perms := []Permission{
		{Verb: "list", Resource: "nodes", For: "what the nodes' kernels are"},
		{Verb: "list", Group: "node.k8s.io", Resource: "runtimeclasses", For: "which pods run in a sandbox (asked only when a pod names a class)"},
		{Verb: "list", Resource: "persistentvolumes", For: "which claims lead to a path of the host (asked only when a pod has a claim)"},
	}
	if len(namespaces) == 0 {
		perms = append(perms, Permission{Verb: "list", Resource: "namespaces", For: "which namespaces there are, if pods cannot be listed in all at once"})
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		perms = append(perms,
			Permission{Verb: "list", Resource: "pods", Namespace: ns, For: "everything"},
			Permission{Verb: "list", Group: "apps", Resource: "replicasets", Namespace: ns, For: owners},
			Permission{Verb: "list", Group: "apps", Resource: "deployments", Namespace: ns, For: owners},
			Permission{Verb: "list", Group: "apps", Resource: "statefulsets", Namespace: ns, For: owners},
			Permission{Verb: "list", Group: "apps", Resource: "daemonsets", Namespace: ns, For: owners},
			Permission{Verb: "list", Group: "batch", Resource: "jobs", Namespace: ns, For: owners},
			Permission{Verb: "list", Group: "batch", Resource: "cronjobs", Namespace: ns, For: owners},
			Permission{Verb: "list", Resource: "replicationcontrollers", Namespace: ns, For: owners},
		)
	}
	return perms
}

// Preflight asks the API server for each right that a scan of these namespaces
// (none means all) uses. It reads nothing else.
func (c *Cluster) Preflight(ctx context.Context, namespaces []string) ([]Permission, error) {
	perms := needs(namespaces)
	for i := range perms {
		p := &perms[i]
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: p.Verb, Group: p.Group, Resource: p.Resource, Namespace: p.Namespace},
		}}
		var answer *authorizationv1.SelfSubjectAccessReview
		err := c.retry.firstContact().do(ctx, func() (err error) {
			answer, err = c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("may I %s: %w", p, err)
		}
		p.Allowed = answer.Status.Allowed && !answer.Status.Denied
		p.Reason = strings.Join(nonEmpty(answer.Status.Reason, answer.Status.EvaluationError), "; ")
	}
	return perms, nil
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
