package kube

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// WatchFeature is something that a watch does beyond reading.
type WatchFeature string

// What a watch does beyond reading.
const (
	// WatchReports keeps reports.
	WatchReports WatchFeature = "reports"
	// WatchEvents tells by Kubernetes Events.
	WatchEvents WatchFeature = "events"
	// WatchLease has a Lease decide which of several leads.
	WatchLease WatchFeature = "lease"
)

// LeaseRights are the rights to the Lease that the replicas of a watch share. In its namespace
// there may be Leases by which controllers of the cluster choose who leads: those are not
// touched.
func LeaseRights(name string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		// To create cannot be limited to a name.
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{name}, Verbs: []string{"get", "update"}},
	}
}

// WatchRights are the rights that a feature uses wherever workloads are watched, and no
// others. Those to a Lease are in one namespace, and LeaseRights. Of the two APIs for reports
// the one that is not written may be left out.
func WatchRights(feature WatchFeature) []rbacv1.PolicyRule {
	switch feature {
	case WatchReports:
		verbs := []string{"get", "list", "create", "update", "delete"}
		return []rbacv1.PolicyRule{
			{APIGroups: []string{"openreports.io"}, Resources: []string{"reports", "clusterreports"}, Verbs: verbs},
			{APIGroups: []string{"wgpolicyk8s.io"}, Resources: []string{"policyreports", "clusterpolicyreports"}, Verbs: verbs},
		}
	case WatchEvents:
		// kubectl shows the Events that name the object's UID.
		return []rbacv1.PolicyRule{
			{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
			{APIGroups: []string{""}, Resources: []string{"pods", "replicationcontrollers", "namespaces"}, Verbs: []string{"get"}},
			{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, Verbs: []string{"get"}},
			{APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"get"}},
			{APIGroups: []string{"security.kubearmor.com"}, Resources: []string{"kubearmorpolicies", "kubearmorclusterpolicies"}, Verbs: []string{"get"}},
		}
	case WatchLease:
		// They are to one Lease: LeaseRights.
	}
	return nil
}
