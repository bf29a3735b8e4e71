package scan

import (
	"context"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Around is what of a cluster stands around its pods, for those who judge other
// things than a scan does.
type Around struct {
	// Nodes are what the nodes enforce, by name.
	Nodes map[string]kernel.Enforcement
	// Admission is what rules on admission today.
	Admission *admission.Set
	// Policies are KubeArmor's that are in force, as far as they could be read.
	Policies *armor.Index
	// Failures are what could not be read.
	Failures []Failure
}

// ReadAround reads everything of the cluster that is not pods, as a scan does. The
// server's version is as the API server gives it, empty when it is not known.
func ReadAround(ctx context.Context, cluster Cluster, opts ClusterOptions, server string) (*Around, error) {
	s := readSurroundings(ctx, cluster, &opts, server)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	around := &Around{Nodes: map[string]kernel.Enforcement{}, Admission: s.admission, Policies: s.armor, Failures: s.failures}
	for name, n := range s.nodes {
		around.Nodes[name] = n.enforcement
	}
	return around, nil
}
