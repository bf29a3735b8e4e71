package kube

import "github.com/escape-scanner/escape-scanner/scan"

// ScanWork is what a scan is to do.
type ScanWork struct {
	// Namespaces are those that are audited, none for all.
	Namespaces []string
	// Looks are the ways of looking closer that are used.
	Looks Looks
	// Reports are kept in the cluster. ReportsGroup is their API group, empty where the
	// cluster is asked which it has.
	Reports      bool
	ReportsGroup string
	// KubeArmor is its namespace. Relay is true where its relay is looked for there, and TLS
	// where its Secrets are read.
	KubeArmor  string
	Relay, TLS bool
}

// ScanNeeds are the rights that a scan uses, and no others. It reads nothing to tell
// them: of the kinds of policies, those that the cluster lacks are here too.
func ScanNeeds(w ScanWork) []Permission {
	n := &rightsNeeded{}
	for _, p := range needs(w.Namespaces) {
		n.add(p)
	}
	for _, kind := range scan.ObjectKinds() {
		n.add(Permission{Verb: "list", Group: kind.Group, Resource: resourceOf(kind), For: "which policies there are"})
	}
	for _, p := range needsOf(w.Looks, w.Namespaces) {
		n.add(p)
	}
	n.hear(w.KubeArmor, w.Relay, w.TLS)
	if w.Reports {
		n.feature(WatchReports, WatchWork{Namespaces: w.Namespaces, ReportsGroup: w.ReportsGroup})
	}
	return n.list
}

// probeLogs are the rights to read what the node probe says, in its namespace.
func (n *rightsNeeded) probeLogs(namespace string) {
	if namespace == "" {
		return
	}
	const why = "what the nodes' kernels say themselves (--node-probe-logs)"
	n.add(Permission{Verb: "list", Resource: "pods", Namespace: namespace, For: why})
	n.add(Permission{Verb: "get", Resource: "pods", Subresource: "log", Namespace: namespace, For: why})
}
