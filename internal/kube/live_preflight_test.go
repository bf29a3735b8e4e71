package kube

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// preflight gives the rights that are asked for, as "VERB RESOURCE NAMESPACE".
func preflight(t *testing.T, cluster *Cluster, namespaces []string, looks Looks) map[string]bool {
	t.Helper()
	perms, err := cluster.Preflight(t.Context(), namespaces, looks)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, p := range perms {
		row := p.String() + " " + p.Namespace
		if _, twice := rows[row]; twice {
			t.Errorf("%s is asked for twice", row)
		}
		if p.For == "" {
			t.Errorf("%s: what for?", row)
		}
		rows[row] = p.Allowed
	}
	return rows
}

func TestLivePreflightAsksForTheKindsThatThereAre(t *testing.T) {
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	server.ApplyYAML(t, `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.policies.kyverno.io}
spec: {group: policies.kyverno.io, version: v1, groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true, service: {name: gone, namespace: default}}
`)
	user := server.User(t, "preflight-some")
	server.Allow(t, "preflight-some", "", rbacv1.PolicyRule{APIGroups: []string{"security.kubearmor.com"}, Resources: []string{"kubearmorpolicies"}, Verbs: []string{"list"}})
	rows := preflight(t, clusterOf(t, user), nil, Looks{})
	for row, allowed := range map[string]bool{
		"list kubearmorpolicies.security.kubearmor.com ":                       true,
		"list kubearmorclusterpolicies.security.kubearmor.com ":                false,
		"list validatingadmissionpolicies.admissionregistration.k8s.io ":       false,
		"list validatingadmissionpolicybindings.admissionregistration.k8s.io ": false,
		"list namespaces ": false,
		"list pods ":       false,
		"list validatingpolicies.policies.kyverno.io ": false, // Of a group that does not answer.
	} {
		if got, asked := rows[row]; !asked || got != allowed {
			t.Errorf("%q: asked %v, allowed %v, want %v", row, asked, got, allowed)
		}
	}
	for _, row := range []string{"list clusterpolicies.kyverno.io ", "create pods ", "create pods/exec ", "create daemonsets.apps kube-system"} {
		if _, asked := rows[row]; asked {
			t.Errorf("%q is asked for, and nothing needs it", row)
		}
	}
}

func TestLivePreflightAsksForLooksOnlyWithTheirFlags(t *testing.T) {
	server := live.Server(t)
	user := server.User(t, "preflight-looks")
	a, b := server.Namespace(t, nil), server.Namespace(t, nil)
	server.Allow(t, "preflight-looks", a, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}})
	cluster := clusterOf(t, user)
	without := preflight(t, cluster, []string{a, b}, Looks{})
	if _, asked := without["list pods "]; !asked {
		t.Error("KubeArmor's agents are not looked for beyond the namespaces")
	}
	for _, test := range []struct {
		name  string
		looks Looks
		want  map[string]bool
	}{
		{"agents", Looks{Agents: true}, map[string]bool{"create pods/exec ": false}},
		{"images", Looks{Images: true}, map[string]bool{"create pods/exec " + a: true, "create pods/exec " + b: false}},
		{"dry runs", Looks{AskServer: true}, map[string]bool{"create pods " + a: false, "create pods " + b: false}},
		{"nodes", Looks{ProbeNamespace: "c"}, map[string]bool{
			"create daemonsets.apps c": false, "delete daemonsets.apps c": false, "list daemonsets.apps c": false, "list pods c": false, "get pods/log c": false,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := preflight(t, cluster, []string{a, b}, test.looks)
			for row, allowed := range test.want {
				if got, asked := rows[row]; !asked || got != allowed || has(without, row) {
					t.Errorf("%q: asked %v, allowed %v, want %v and only with the flag", row, asked, got, allowed)
				}
			}
			if len(rows) != len(without)+len(test.want) {
				t.Errorf("%d rights, want %d and these %d", len(rows), len(without), len(test.want))
			}
		})
	}
	// What two of them need is asked for once, which preflight checks.
	preflight(t, cluster, nil, Looks{Agents: true, Images: true, AskServer: true, ProbeNamespace: a})
}

func has(rows map[string]bool, row string) bool {
	_, asked := rows[row]
	return asked
}
