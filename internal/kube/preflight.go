package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Permission is one right that a scan uses, and whether the user has it.
type Permission struct {
	Verb     string `json:"verb"`
	Group    string `json:"group,omitempty"`
	Resource string `json:"resource"`
	// Subresource is "exec" or "log", empty for the resource itself.
	Subresource string `json:"subresource,omitempty"`
	// Name is the one object that is meant, empty for all.
	Name string `json:"name,omitempty"`
	// Namespace is where it is asked for; empty means everywhere.
	Namespace string `json:"namespace,omitempty"`
	// For says what is lost without it.
	For     string `json:"for"`
	Allowed bool   `json:"allowed"`
	// Reason is the API server's, where it gives one.
	Reason string `json:"reason,omitempty"`
}

// String is "VERB RESOURCE.GROUP/SUBRESOURCE", as kubectl auth can-i takes it.
func (p Permission) String() string {
	r := p.Resource
	if p.Group != "" {
		r += "." + p.Group
	}
	if p.Subresource != "" {
		r += "/" + p.Subresource
	}
	if p.Name != "" {
		r += "/" + p.Name
	}
	return p.Verb + " " + r
}

// same reports whether the other is the same right, whatever it is for.
func (p Permission) same(other Permission) bool {
	return p.String() == other.String() && p.Namespace == other.Namespace
}

// Looks are the ways of looking closer for which the user asks, and which take rights
// of their own.
type Looks struct {
	// Agents are read by exec, and Images looked into by exec.
	Agents, Images bool
	// AgentNamespace is where KubeArmor's agents are, empty where that is not known.
	AgentNamespace string
	// AskServer is a dry run for each pod.
	AskServer bool
	// ProbeNamespace is where nodes are checked from, empty for no check.
	ProbeNamespace string
	// ProbeLogs is the namespace of the node probe whose logs are read, empty for none.
	ProbeLogs string
	// Reports is the group of the API that reports are written to, empty for none.
	Reports string
}

// needs are the rights that a scan of these namespaces uses (none means all).
func needs(namespaces []string) []Permission {
	const owners = "whether pods belong to the controllers that they name"
	perms := []Permission{
		{Verb: "list", Resource: "nodes", For: "what the nodes' kernels are and enforce"},
		{Verb: "list", Group: "node.k8s.io", Resource: "runtimeclasses", For: "which pods run in a sandbox (asked only when a pod names a class)"},
		{Verb: "list", Resource: "persistentvolumes", For: "which claims lead to a path of the host (asked only when a pod has a claim)"},
		{Verb: "list", Resource: "namespaces", For: "what namespaces' labels ask of admission, and which there are"},
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	} else {
		perms = append(perms, Permission{Verb: "list", Resource: "pods", For: "on which nodes KubeArmor's agents run, and whether Kyverno does"})
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

// needsOfKinds are the rights to read the policies of the kinds that the server has. Of
// a group that does not tell what it has, all are asked for.
func (c *Cluster) needsOfKinds(ctx context.Context) ([]Permission, error) {
	var perms []Permission
	for _, kind := range scan.ObjectKinds() {
		mapping, err := c.mapping(ctx, kind.WithVersion(""))
		switch {
		case apierrors.IsNotFound(err):
			continue
		case ctx.Err() != nil:
			return nil, err
		}
		resource := ""
		if err == nil {
			resource = mapping.Resource.Resource
		} else {
			guess, _ := meta.UnsafeGuessKindToResource(kind.WithVersion(""))
			resource = guess.Resource
		}
		layer := "what admission refuses, and which policies do not bite"
		if strings.HasSuffix(kind.Group, "kubearmor.com") {
			layer = "what is blocked at run time, and which policies do not bite"
		}
		perms = append(perms, Permission{Verb: "list", Group: kind.Group, Resource: resource, For: layer})
	}
	return perms, nil
}

// needsOf are the rights that looking closer takes.
func needsOf(looks Looks, namespaces []string) []Permission {
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	var perms []Permission
	in := func(namespaces []string, p Permission) {
		for _, ns := range namespaces {
			p.Namespace = ns
			if !slices.ContainsFunc(perms, p.same) {
				perms = append(perms, p)
			}
		}
	}
	exec := Permission{Verb: "create", Resource: "pods", Subresource: "exec"}
	if looks.Agents {
		exec.For = "what KubeArmor's agents say of their nodes (--kubearmor-exec)"
		in([]string{looks.AgentNamespace}, exec)
	}
	if looks.Images {
		exec.For = "which programs are behind the paths that policies name (--inspect-images)"
		in(namespaces, exec)
	}
	if looks.AskServer {
		in(namespaces, Permission{Verb: "create", Resource: "pods", For: "whether the API server itself admits the pods again (--ask-server; a dry run)"})
	}
	if looks.ProbeNamespace != "" {
		const why = "what the nodes' kernels say themselves (--probe-nodes)"
		at := []string{looks.ProbeNamespace}
		in(at, Permission{Verb: "create", Group: "apps", Resource: "daemonsets", For: why})
		in(at, Permission{Verb: "delete", Group: "apps", Resource: "daemonsets", For: why + ", and whether anything is left of it"})
		in(at, Permission{Verb: "list", Group: "apps", Resource: "daemonsets", For: "whether an earlier --probe-nodes left anything behind"})
		in(at, Permission{Verb: "list", Resource: "pods", For: why})
		in(at, Permission{Verb: "get", Resource: "pods", Subresource: "log", For: why})
	}
	more := &rightsNeeded{}
	more.probeLogs(looks.ProbeLogs)
	if looks.Reports != "" {
		all := &rightsNeeded{}
		all.feature(WatchReports, WatchWork{Namespaces: namespaces, ReportsGroup: looks.Reports})
		for _, p := range all.list {
			p.For = "the reports on the workloads (--reports)"
			more.add(p)
		}
	}
	for _, p := range more.list {
		in([]string{p.Namespace}, p)
	}
	return perms
}

// Preflight asks the API server for each right that a scan of these namespaces
// (none means all) uses, with the looks that it takes. It reads nothing else but which
// kinds there are.
func (c *Cluster) Preflight(ctx context.Context, namespaces []string, looks Looks) ([]Permission, error) {
	perms := needs(namespaces)
	// These first: a server that is not there is told at once.
	if err := c.review(ctx, perms); err != nil {
		return nil, err
	}
	more, err := c.needsOfKinds(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range needsOf(looks, namespaces) {
		if !slices.ContainsFunc(perms, p.same) {
			more = append(more, p)
		}
	}
	if err := c.review(ctx, more); err != nil {
		return nil, err
	}
	return append(perms, more...), nil
}

// review fills in which of the rights the user has.
func (c *Cluster) review(ctx context.Context, perms []Permission) error {
	for i := range perms {
		p := &perms[i]
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: p.Verb, Group: p.Group, Resource: p.Resource, Subresource: p.Subresource, Namespace: p.Namespace,
			},
		}}
		var answer *authorizationv1.SelfSubjectAccessReview
		err := c.retry.firstContact().do(ctx, func() (err error) {
			answer, err = c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err
		})
		if err != nil {
			return fmt.Errorf("may I %s: %w", p, err)
		}
		p.Allowed = answer.Status.Allowed && !answer.Status.Denied
		p.Reason = strings.Join(nonEmpty(answer.Status.Reason, answer.Status.EvaluationError), "; ")
	}
	return nil
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
