package deploytest

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	exitOK         = 0
	exitWrong      = 2
	exitIncomplete = 3
)

// audit is what one scan told.
type audit struct {
	code           int
	stdout, stderr string
	verdicts       []scan.WorkloadVerdict
	failures       []scan.Failure
	end            scan.End
}

func audited(t *testing.T, code int, stdout, stderr string) *audit {
	t.Helper()
	var document struct {
		Verdicts []scan.WorkloadVerdict `json:"verdicts"`
		Failures []scan.Failure         `json:"failures"`
		End      *scan.End              `json:"end"`
	}
	if err := json.Unmarshal([]byte(stdout), &document); err != nil || document.End == nil {
		t.Fatalf("exit %d, %v, and no whole document of JSON: %s\n%s", code, err, stdout, stderr)
	}
	return &audit{code, stdout, stderr, document.Verdicts, document.Failures, *document.End}
}

// asAdmin is a scan by somebody who may do everything.
func asAdmin(t *testing.T, server *kubetest.Server, args ...string) *audit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args = append([]string{"scan", "--kubeconfig", kubetest.Kubeconfig(t, server.Config()), "--output=json", "--fail-on=none"}, args...)
	cmd := exec.CommandContext(ctx, program.path(t), args...)
	cmd.Env, cmd.Dir = []string{"HOME=" + t.TempDir()}, t.TempDir()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return audited(t, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String())
}

// run runs a workload's pod to its end, by another ServiceAccount if one is named.
func (n *node) run(w workload, account string) *audit {
	n.Helper()
	template := w.template.DeepCopy()
	if account != "" {
		template.Spec.ServiceAccountName = account
	}
	r := n.start(n.admitted(w.namespace, w.name, template))
	code := r.wait()
	return audited(n.T, code, r.stdout.String(), r.stderr.String())
}

// told is the document without what differs from run to run and from cluster to cluster:
// when it was, and was looked at, and how the cluster is called.
func (a *audit) told(t *testing.T) string {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal([]byte(a.stdout), &document); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"time", "cluster", "observed", "ageSeconds"} {
		strip(document, name)
	}
	text, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantSame compares two audits, and shows where they begin to differ.
func wantSame(t *testing.T, who string, a, b *audit) {
	t.Helper()
	x, y := strings.Split(a.told(t), "\n"), strings.Split(b.told(t), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			t.Errorf("%s\n%s\nand the audit in the cluster tells\n%s", who, strings.Join(x[max(0, i-9):i+1], "\n"), strings.Join(y[max(0, i-9):i+1], "\n"))
			return
		}
	}
	if len(x) != len(y) {
		t.Errorf("%s %d lines, and the audit in the cluster %d", who, len(x), len(y))
	}
}

func strip(value any, name string) {
	switch value := value.(type) {
	case map[string]any:
		delete(value, name)
		for _, v := range value {
			strip(v, name)
		}
	case []any:
		for _, v := range value {
			strip(v, name)
		}
	}
}

func (a *audit) wantComplete(t *testing.T) {
	t.Helper()
	if a.code != exitOK || a.end.Incomplete || len(a.failures) > 0 {
		t.Errorf("exit %d, incomplete %v, failures %+v\n%s", a.code, a.end.Incomplete, a.failures, a.stderr)
	}
	if len(a.verdicts) < 40 {
		t.Errorf("%d verdicts, want one for each workload of the demo", len(a.verdicts))
	}
}

// TestAudit runs the audit's pod in the demo cluster made real: with the rights that it
// is given it sees what an administrator sees, and every one of them is needed.
func TestAudit(t *testing.T) {
	server := cluster.Server(t)
	seed(t, server)
	r := release(t, "audits", "audits", "--set", "audit.outputs.stdout=json", "--set", "watch.enabled=false",
		"--set", "rbac.alsoRead[0].apiGroups={argoproj.io}", "--set", "rbac.alsoRead[0].resources={rollouts}")
	restricted(t, server, "audits")
	newInstaller(t).install(r)
	w := r.workload(t, "audit")
	grants := r.grants(t)[account{w.namespace, w.template.Spec.ServiceAccountName}]
	n := newNode(t)
	n.settled(account{w.namespace, w.template.Spec.ServiceAccountName}, grants)

	whole := n.run(w, "")
	whole.wantComplete(t)
	wantSame(t, "an administrator is told", asAdmin(t, server), whole)
	outside := newNode(t)
	outside.outside = true
	wantSame(t, "out of the cluster, with the same token, it tells", outside.run(w, ""), whole)
	t.Run("without", func(t *testing.T) {
		for _, g := range grants {
			for _, group := range g.rule.APIGroups {
				for _, resource := range g.rule.Resources {
					t.Run(strings.Trim(group+" "+resource, " "), func(t *testing.T) {
						t.Parallel()
						testWithout(t, w, grants, group, resource, whole)
					})
				}
			}
		}
	})
}

// testWithout takes one right from the audit's role. The audit says so, and calls nothing
// better than with it.
func testWithout(t *testing.T, w workload, grants []grant, group, resource string, whole *audit) {
	n := newNode(t)
	name := strings.ToLower(strings.NewReplacer(".", "-", " ", "-").Replace("without-" + resource + "-" + group))
	name = strings.Trim(name, "-")
	var rules []rbacv1.PolicyRule
	var left []grant
	for _, g := range grants {
		rule := *g.rule.DeepCopy()
		if slices.Contains(rule.APIGroups, group) {
			rule.Resources = slices.DeleteFunc(rule.Resources, func(r string) bool { return r == resource })
		}
		if len(rule.Resources) > 0 {
			rules = append(rules, rule)
			left = append(left, grant{name, "", rule})
		}
	}
	makeAccount(t, n.server, w.namespace, name)
	bindAll(t, n.server, account{w.namespace, name}, rules)
	n.settled(account{w.namespace, name}, left)

	a := n.run(w, name)
	if a.code != exitIncomplete || !a.end.Incomplete {
		t.Errorf("exit %d, incomplete %v: the right is not missed, and none that is not needed is granted", a.code, a.end.Incomplete)
	}
	named := slices.ContainsFunc(a.failures, func(f scan.Failure) bool {
		return f.Affects != "" && strings.Contains(f.Message, fmt.Sprintf("resource %q in API group %q", resource, group))
	})
	if !named {
		t.Errorf("no failure says that %s of %q may not be listed: %+v", resource, group, a.failures)
	}
	if !strings.Contains(a.stderr, "incomplete") {
		t.Errorf("it does not say that it is incomplete: %s", a.stderr)
	}
	wantNoBetter(t, a, whole)
}

// wantNoBetter compares how many pods of each namespace have a verdict, or a better one.
// Counted so, it does not matter that pods whose owners cannot be read stand in other
// rows. What is not known to be exposed any more may be unknown.
func wantNoBetter(t *testing.T, a, whole *audit) {
	t.Helper()
	better := func(of *audit, namespace string, than int) (pods int) {
		for _, v := range of.verdicts {
			if v.Workload.Namespace == namespace && slices.Index(scan.Verdicts(), v.Verdict) > than {
				pods += v.Pods
			}
		}
		return pods
	}
	for _, v := range whole.verdicts {
		for i, verdict := range scan.Verdicts() {
			if verdict == scan.VerdictExposed {
				continue
			}
			if now, was := better(a, v.Workload.Namespace, i), better(whole, v.Workload.Namespace, i); now > was {
				t.Errorf("%s: %d pods are better than %s, which %d are when all is read", v.Workload.Namespace, now, verdict, was)
			}
		}
	}
}

// bindAll lets an account do what the rules say, everywhere.
func bindAll(t *testing.T, server *kubetest.Server, who account, rules []rbacv1.PolicyRule) {
	t.Helper()
	rbac, name := server.Client().RbacV1(), who.namespace+"-"+who.name
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := rbac.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: who.namespace, Name: who.name}},
	}
	if _, err := rbac.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := rbac.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if err := rbac.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}
