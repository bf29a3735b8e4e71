// Package demo holds the snapshot of a cluster that `scan --demo` audits, and the
// alerts that `watch --demo` plays. The snapshot is what
// `kubectl get -o yaml` returns of the cluster, in multi-document YAML, one file a
// namespace. The software in it is what clusters really run; what is wrong with a
// workload stands in the comment above it.
//
// It belongs to no real cluster. Names under example.com, addresses, digests and
// UIDs are made up, and fixed: tests and golden files depend on them.
package demo

import (
	"bytes"
	"embed"
	"io/fs"
)

const (
	// ClusterName is what the snapshot's cluster is called.
	ClusterName = "demo"
	// ServerVersion is the version of the API server that the snapshot is of. It
	// decides which version of the Pod Security Standards is applied.
	ServerVersion = "v1.36.3"
)

//go:embed cluster/*.yaml
var cluster embed.FS

//go:embed alerts.jsonl
var alerts []byte

// Alerts is a recording of KubeArmor's alerts in the cluster, made of real ones: each was
// raised by such an attempt on a node with BPF-LSM. The pods are those of the demo.
func Alerts() []byte { return bytes.Clone(alerts) }

// Files returns the files of the snapshot, all of them at the top: multi-document
// YAML, every document one object. Objects appear in no particular order across
// files; within a file an owner stands before what it owns.
func Files() fs.FS {
	files, err := fs.Sub(cluster, "cluster")
	if err != nil {
		panic(err) // only an invalid path can fail, and this one is a constant
	}
	return files
}
