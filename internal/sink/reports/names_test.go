package reports

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Every subject has a name that is valid, and no two have the same.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 250)
	seen := map[key]subject{}
	for _, of := range []subject{
		{failures: true},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}, Claims: "ReplicaSet/web (does not exist)"}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "DeploymentWeb", Name: ""}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop2", Kind: "Deployment", Name: "web"}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Rollout", Name: "web.v1"}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Rollout", Name: "web-v1"}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: long}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: long + "b"}}},
		{row: scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Namespace", Name: "shop"}}},
		{row: scan.RowRef{Workload: scan.Workload{Kind: "Node", Name: "ip-10-0-0-1.example.com"}}},
		{row: scan.RowRef{Workload: scan.Workload{Kind: "Exception", Name: "Ünder \x1b[31m/../…"}}},
		{row: scan.RowRef{Workload: scan.Workload{Kind: "ClusterPolicy", Name: "---"}}},
	} {
		k := keyOf(of)
		if errs := validation.IsDNS1123Subdomain(k.name); len(errs) > 0 || len(k.name) > 253 {
			t.Errorf("%+v: name %q: %v", of, k.name, errs)
		}
		if other, taken := seen[k]; taken {
			t.Errorf("%+v and %+v are both %v", of, other, k)
		}
		seen[k] = of
		w := of.row.Workload
		if wantCluster := of.failures || w.Namespace == "" || w.Kind == "Namespace"; (k.namespace == "") != wantCluster {
			t.Errorf("%+v: in namespace %q", of, k.namespace)
		}
		// What the cluster is called by whom does not matter.
		of.row.Workload.Cluster = "another"
		if keyOf(of) != k {
			t.Errorf("%+v: the name goes by the cluster's", of)
		}
	}
}
