package deploytest

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// TestRolesAreNarrow holds what no role of ours may say, whatever the values.
func TestRolesAreNarrow(t *testing.T) {
	t.Parallel()
	all := accessRenderings(t, "escape-scanner")
	for _, r := range all {
		for who, grants := range r.grants(t) {
			for _, g := range grants {
				for _, complaint := range tooWide(g) {
					t.Errorf("%s: %s: %s: %s", r.name, who, g, complaint)
				}
			}
		}
	}
}

// dangerous are resources that nothing of ours has to do with, by what could be done.
var dangerous = map[string]string{
	"secrets":                         "reads what is secret",
	"serviceaccounts":                 "acts as others",
	"serviceaccounts/token":           "acts as others",
	"nodes/proxy":                     "speaks with kubelets past the API server",
	"pods/proxy":                      "speaks with pods past every NetworkPolicy",
	"services/proxy":                  "speaks with pods past every NetworkPolicy",
	"pods/attach":                     "types into what runs",
	"pods/ephemeralcontainers":        "changes pods that run",
	"roles":                           "rules over rights",
	"rolebindings":                    "rules over rights",
	"clusterroles":                    "rules over rights",
	"clusterrolebindings":             "rules over rights",
	"validatingwebhookconfigurations": "sees all that is written",
	"mutatingwebhookconfigurations":   "changes all that is written",
}

// tooWide is what is wrong with a rule.
func tooWide(g grant) []string {
	var complaints []string
	rule := g.rule
	for _, words := range [][]string{rule.Verbs, rule.APIGroups, rule.Resources} {
		if slices.ContainsFunc(words, func(w string) bool { return w == "*" || len(w) > 1 && w[:2] == "*/" }) {
			complaints = append(complaints, "it has a wildcard")
		}
		if len(words) == 0 {
			complaints = append(complaints, "it lacks a part")
		}
	}
	if len(rule.NonResourceURLs) > 0 {
		complaints = append(complaints, "it is about what is no resource")
	}
	for _, verb := range []string{"escalate", "bind", "impersonate", "deletecollection", "approve", "sign", "use"} {
		if slices.Contains(rule.Verbs, verb) {
			complaints = append(complaints, "it may "+verb)
		}
	}
	for _, resource := range rule.Resources {
		why, found := dangerous[resource]
		if found && !relaySecrets(g) {
			complaints = append(complaints, "with "+resource+" it "+why)
		}
	}
	if g.namespace == "" && slices.ContainsFunc(rule.Resources, func(r string) bool { return r == "pods/portforward" || r == "pods/log" }) {
		complaints = append(complaints, "it reaches into all namespaces")
	}
	return complaints
}

// relaySecrets are the two Secrets by which KubeArmor's relay is believed, and believes.
// They are read by name, and only where the user asks for it.
func relaySecrets(g grant) bool {
	return g.namespace == "kubearmor" && slices.Equal(g.rule.Resources, []string{"secrets"}) && slices.Equal(g.rule.Verbs, []string{"get"}) &&
		slices.Equal(g.rule.ResourceNames, []string{"kubearmor-client-certs", "kubearmor-ca"})
}

// Unless a value asks for it, nobody reads a Secret, runs or makes anything in a pod.
func TestDefaultRolesOnlyRead(t *testing.T) {
	t.Parallel()
	for _, r := range append(manifests(t), release(t, "escape-scanner", "escape-scanner")) {
		for who, grants := range r.grants(t) {
			for _, g := range grants {
				for _, resource := range g.rule.Resources {
					if slices.Contains([]string{"secrets", "configmaps", "pods/exec", "pods/portforward"}, resource) {
						t.Errorf("%s: %s: %s", r.name, who, g)
					}
				}
				writes := slices.ContainsFunc(g.rule.Verbs, func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
				ours := []string{"openreports.io", "wgpolicyk8s.io", "events.k8s.io", "coordination.k8s.io"}
				if writes && !slices.ContainsFunc(g.rule.APIGroups, func(group string) bool { return slices.Contains(ours, group) }) {
					t.Errorf("%s: %s: %s: it writes", r.name, who, g)
				}
			}
		}
	}
}

func TestTooWide(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		grant grant
		want  bool
	}{
		{grantOf("", "list", "", "pods"), false},
		{grantOf("", "*", "", "pods"), true},
		{grantOf("", "list", "*", "pods"), true},
		{grantOf("", "list", "", "*"), true},
		{grantOf("", "get", "", "*/log"), true},
		{grantOf("", "get", "", "secrets"), true},
		{grantOf("kubearmor", "get", "", "secrets"), true},
		{grantOf("", "bind", "rbac.authorization.k8s.io", "clusterroles"), true},
		{grantOf("", "get", "", "nodes/proxy"), true},
		{grantOf("", "get", "", "pods/log"), true},
		{grantOf("probe", "get", "", "pods/log"), false},
	} {
		if got := tooWide(test.grant); (len(got) > 0) != test.want {
			t.Errorf("%s: %q", test.grant, got)
		}
	}
}

func grantOf(namespace, verb, group, resource string) grant {
	return grant{"a role", namespace, rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}}
}
