package kube

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// WatchWork is what a watch is to do.
type WatchWork struct {
	// Namespaces are those that are followed, none for all.
	Namespaces []string
	// Features are what it does beyond reading. The Lease is LeaseName in LeaseNamespace.
	Features                  []WatchFeature
	LeaseNamespace, LeaseName string
	// ReportsGroup is the API group of the reports that are kept, empty where the cluster
	// is asked which it has.
	ReportsGroup string
	// KubeArmor is its namespace. Relay is true where its relay is looked for there, and TLS
	// where its Secrets are read.
	KubeArmor  string
	Relay, TLS bool
	// ProbeLogs is the namespace of the node probe whose log is read, empty for none.
	ProbeLogs string
}

// WatchNeeds are the rights that a watch uses, and no others. In a cluster the relay is
// reached by its Service, from outside by a port-forward: both are here.
func WatchNeeds(w WatchWork) []Permission {
	n := &rightsNeeded{}
	follow := func(p Permission) {
		for _, verb := range []string{"list", "watch"} {
			p.Verb = verb
			n.add(p)
		}
	}
	for _, p := range needs(w.Namespaces) {
		follow(p)
	}
	for _, kind := range scan.ObjectKinds() {
		follow(Permission{Group: kind.Group, Resource: resourceOf(kind), For: "which policies there are"})
	}
	n.hear(w.KubeArmor, w.Relay, w.TLS)
	n.probeLogs(w.ProbeLogs)
	for _, feature := range w.Features {
		n.feature(feature, w)
	}
	return n.list
}

// hear are the rights of who listens to KubeArmor, which is in the namespace.
func (n *rightsNeeded) hear(namespace string, relay, secrets bool) {
	if relay {
		n.add(Permission{Verb: "list", Resource: "services", Namespace: namespace, For: "how KubeArmor's relay is reached in the cluster"})
		n.add(Permission{Verb: "create", Resource: "pods", Subresource: "portforward", Namespace: namespace, For: "how it is reached from outside"})
	}
	if secrets {
		for _, name := range []string{relayClientSecret, relayCASecret} {
			n.add(Permission{Verb: "get", Resource: "secrets", Name: name, Namespace: namespace, For: "TLS to the relay"})
		}
	}
}

// feature are the rights of what a watch does beyond reading.
func (n *rightsNeeded) feature(feature WatchFeature, w WatchWork) {
	rules := WatchRights(feature)
	if feature == WatchLease {
		rules = LeaseRights(w.LeaseName)
	}
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			if feature == WatchReports && w.ReportsGroup != "" && group != w.ReportsGroup {
				continue
			}
			for _, resource := range rule.Resources {
				for _, ns := range featureNamespaces(feature, resource, w) {
					n.ruled(rule, Permission{Group: group, Resource: resource, Namespace: ns, For: string(feature)})
				}
			}
		}
	}
}

// ruled are the verbs and names of a rule.
func (n *rightsNeeded) ruled(rule rbacv1.PolicyRule, p Permission) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, p.Verb = range rule.Verbs {
		for _, p.Name = range names {
			n.add(p)
		}
	}
}

// featureNamespaces are where a right of a feature is needed.
func featureNamespaces(feature WatchFeature, resource string, w WatchWork) []string {
	switch {
	case feature == WatchLease:
		return []string{w.LeaseNamespace}
	case len(w.Namespaces) == 0:
		return []string{metav1.NamespaceAll}
	case slices.Contains([]string{"clusterreports", "clusterpolicyreports"}, resource):
		// A watch of some namespaces keeps no reports about what belongs to the cluster.
		return nil
	case slices.Contains([]string{"namespaces", "kubearmorclusterpolicies"}, resource):
		return []string{metav1.NamespaceAll}
	case feature == WatchEvents && resource == "events":
		// Those about what belongs to no namespace are in default.
		return append(slices.Clone(w.Namespaces), metav1.NamespaceDefault)
	}
	return w.Namespaces
}
