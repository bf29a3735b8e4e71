// Package remediate brings the escapeToHost set into a cluster and out of it again:
// by a plan that is shown first, in steps of which each can be the last, with a
// record in the cluster of what was before.
//
// What the set is stands in remediate/set, what it would do to workloads in
// remediate/preview, whom it concerns in remediate/targets, and the repair of files
// in remediate/repair.
package remediate
