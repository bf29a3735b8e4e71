package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/scan"
)

// secretValue is planted where an inventory must not have it from.
const secretValue = "s3cr3t-value"

// withSecrets puts the value wherever pods carry what is not read.
func withSecrets(p *corev1.Pod) {
	p.Annotations = map[string]string{"example.com/token": secretValue, "kubectl.kubernetes.io/last-applied-configuration": secretValue}
	c := &p.Spec.Containers[0]
	c.Command, c.Args = []string{"/app", secretValue}, []string{"--token=" + secretValue}
	c.Env = []corev1.EnvVar{{Name: "TOKEN", Value: secretValue}}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{secretValue}}}}
}

// saved scans with --save-inventory, and reads the inventory back.
func saved(t *testing.T, scanArgs func(save ...string) *liveAudit) (live, back *liveAudit, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.jsonl")
	live = scanArgs("--save-inventory", file)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatalf("%v\nstderr: %s", err, live.stderr)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	back = liveParse(t, liveRun(t, "scan", "-f", file, "-o", "jsonl"))
	return live, back, string(content)
}

// wantSameAudit compares all events but for what place, source and time make of them.
func wantSameAudit(t *testing.T, live, back *liveAudit) {
	t.Helper()
	if live.code != back.code {
		t.Errorf("exit %d live, %d read back: %s", live.code, back.code, back.stderr)
	}
	if len(live.verdicts) == 0 {
		t.Error("there is nothing to compare")
	}
	if back.start.Source != scan.SourceManifests || back.start.Cluster != live.start.Cluster || back.start.ServerVersion != live.start.ServerVersion ||
		!slices.Equal(back.start.Namespaces, live.start.Namespaces) || back.start.Selector != live.start.Selector {
		t.Errorf("start: %+v live, %+v read back", live.start, back.start)
	}
	if a, b := comparable(t, live), comparable(t, back); !slices.Equal(a, b) {
		for i := range max(len(a), len(b)) {
			x, y := "", ""
			if i < len(a) {
				x = a[i]
			}
			if i < len(b) {
				y = b[i]
			}
			if x != y {
				t.Fatalf("event %d\nlive      %s\nread back %s", i, x, y)
			}
		}
	}
}

// comparable are the events of an audit, one line each, without the places.
func comparable(t *testing.T, a *liveAudit) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(a.stdout) {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Start != nil, e.Progress != nil:
			continue
		case e.Finding != nil:
			e.Finding.Location = nil
		case e.Verdict != nil:
			e.Verdict.Location = nil
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	return lines
}

// admissionPolicy creates a policy that refuses privileged pods here, and its binding.
func (s liveSpace) admissionPolicy(name, expression string) {
	s.Helper()
	client := s.server.Client().AdmissionregistrationV1()
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"example.com/note": secretValue}},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.name}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: expression}},
		},
	}
	if _, err := client.ValidatingAdmissionPolicies().Create(s.Context(), policy, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	if _, err := client.ValidatingAdmissionPolicyBindings().Create(s.Context(), binding, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := client.ValidatingAdmissionPolicyBindings().Delete(s.cleanup(), name, metav1.DeleteOptions{}); err != nil {
			s.Error(err)
		}
		if err := client.ValidatingAdmissionPolicies().Delete(s.cleanup(), name, metav1.DeleteOptions{}); err != nil {
			s.Error(err)
		}
	})
}

func TestLiveInventoryReadsBackTheSame(t *testing.T) {
	s := newLiveSpace(t)
	s.volume("root", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}})
	s.pod("root", claiming("root"), withSecrets)
	s.pod("bad", privileged, withSecrets)
	s.pod("good", withSecrets)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"), withSecrets)
	s.pod("web-5d8f-b", ownedBy(set, "5d8f"))
	s.pod("web-5d8f-c", ownedBy(set, "5d8f"), privileged)
	forged := set
	forged.UID = "forged"
	s.pod("forged", ownedBy(forged, "5d8f"))
	// They rule on pods to come, not on these.
	s.admissionPolicy("inventory-privileged", "object.spec.containers.all(c, !has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged)")
	s.admissionPolicy("inventory-annotated", "!has(object.metadata.annotations) || !('example.com/refuse' in object.metadata.annotations)")
	nodes := s.server.Client().CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "inventory-node", Labels: map[string]string{"kubearmor.io/enforcer": "bpf"}, Annotations: map[string]string{"example.com/note": secretValue},
	}}
	if _, err := nodes.Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(s.cleanup(), node.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})

	for name, args := range map[string][]string{
		"all": nil, "a namespace": {"-n", s.name}, "a selector": {"-n", s.name, "-l", "pod-template-hash=5d8f"}, "nowhere": {"-n", s.name + ",nowhere"}, "pages": {"--page-size", "1"}, "the server asked": {"-n", s.name, "--ask-server"},
	} {
		t.Run(name, func(t *testing.T) {
			live, back, text := saved(t, func(save ...string) *liveAudit {
				return liveScan(t, s.server.Config(), append(save, args...)...)
			})
			wantSameAudit(t, live, back)
			for line := range strings.Lines(text) {
				if strings.Contains(line, secretValue) {
					t.Errorf("a secret got in: %s", line)
				}
			}
			if !strings.Contains(text, `"web-5d8f-a"`) {
				t.Error("the pods are missing")
			}
			if len(back.start.Notes) != len(live.start.Notes)+1 || !strings.Contains(back.start.Notes[0], "was recorded at 2026-11-22T12:00:00Z") {
				t.Errorf("notes: %q", back.start.Notes)
			}
		})
	}
}

// What was forbidden is so when it is read back: class, message and what follows.
func TestLiveInventoryOfWhatMayNotBeRead(t *testing.T) {
	s, other := newLiveSpace(t), newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	s.pod("bad", privileged, claiming("data"))
	other.pod("unseen", privileged)
	users := map[string]*rest.Config{}
	for _, without := range []string{"nodes", "namespaces", "replicasets", "deployments", "persistentvolumes"} {
		users[without] = userWithout(t, s.server, "inventory-without-"+without, without)
	}
	some := userWithout(t, s.server, "inventory-some", "pods")
	s.server.Allow(t, "inventory-some", s.name, liveRights()["pods"])
	users["pods of the other namespaces"] = some
	for name, user := range users {
		t.Run(name, func(t *testing.T) {
			live, back, _ := saved(t, func(save ...string) *liveAudit { return liveScan(t, user, save...) })
			wantSameAudit(t, live, back)
			if live.code != exitIncomplete || len(back.failures) == 0 {
				t.Errorf("exit %d, failures %q", live.code, back.failed())
			}
			if !slices.ContainsFunc(back.failures, func(f scan.Failure) bool {
				return f.Reason == scan.FailureForbidden && strings.Contains(f.Message, "inventory-")
			}) {
				t.Errorf("failures: %+v", back.failures)
			}
		})
	}
}

func TestDemoInventoryReadsBackTheSame(t *testing.T) {
	for name, args := range map[string][]string{
		"all": nil, "some": {"-n", "ci,sandbox"}, "a selector": {"-l", "app.kubernetes.io/name=runner"}, "restricted": {"--level", "restricted"}, "none": {"-l", "app=none"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "demo.jsonl")
			live := liveParse(t, liveRun(t, append([]string{"scan", "--demo", "-o", "jsonl", "--save-inventory", file}, args...)...))
			again := []string{"scan", "-o", "jsonl", "-f"}
			if i := slices.Index(args, "--level"); i >= 0 {
				again = append([]string{"scan", "-o", "jsonl", "--level", args[i+1]}, "-f")
			}
			back := liveParse(t, liveRun(t, append(again, file)...))
			if name == "none" {
				live.verdicts = append(live.verdicts, scan.WorkloadVerdict{})
			}
			wantSameAudit(t, live, back)
			for _, v := range back.verdicts {
				if v.Workload.Kind == "Pod" && v.Location == nil {
					t.Errorf("%s has no place", v.Workload)
				}
			}
			// By a pipe it is the same.
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := invoke(t.Context(), testDeps(t.TempDir()), strings.NewReader(string(text)), append(again, "-")...)
			piped := liveParse(t, liveResult{code, stdout, stderr})
			if !slices.Equal(comparable(t, piped), comparable(t, back)) || code != back.code {
				t.Errorf("exit %d by a pipe, %d from the file", code, back.code)
			}
		})
	}
}

// The inventory appears when it is whole: a run that is stopped, or cannot write,
// leaves nothing and what stood there before stays.
func TestInventoryIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "demo.jsonl")
	if err := os.WriteFile(file, []byte("older\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := testDeps(dir)
	now := d.now
	calls := 0
	d.now = func() (at time.Time) {
		// The clock is asked when the run begins: before anything is read.
		if calls++; calls == 1 {
			cancel()
		}
		return now()
	}
	code, _, stderr := invoke(ctx, d, nil, "scan", "--demo", "-o", "json=out.json", "--save-inventory", file)
	if code != exitInterrupted {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "older\n" {
		t.Errorf("%q, %v", text, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}

	if code, _, stderr := invoke(t.Context(), testDeps(dir), nil, "scan", "--demo", "--fail-on", "none", "--save-inventory", "demo.jsonl"); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 10_000 {
		t.Errorf("%+v, %v", info, err)
	}
	code, _, stderr = invoke(t.Context(), testDeps(dir), nil, "scan", "--demo", "--save-inventory", "no/such/folder")
	if code != exitUsage || !strings.Contains(stderr, "save-inventory: ") || !strings.Contains(stderr, "no/such/folder") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
