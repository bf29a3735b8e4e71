package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// liveRunIn runs the program in a folder that is kept.
func liveRunIn(t *testing.T, dir string, args ...string) liveResult {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(dir), strings.NewReader(""), args...)
	return liveResult{code, stdout, stderr}
}

func readText(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeText(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lineOf is the line of the first text that contains what is looked for.
func lineOf(t *testing.T, text, want string) int {
	t.Helper()
	before, _, ok := strings.Cut(text, want)
	if !ok {
		t.Fatalf("no %q in the file", want)
	}
	return strings.Count(before, "\n") + 1
}

// somethingOfEverything makes workloads of which a scan has something to say.
func (s liveSpace) somethingOfEverything() {
	s.Helper()
	set := s.replicaSet(s.deployment("web"), "5d8f")
	for _, name := range []string{"web-5d8f-a", "web-5d8f-b"} {
		s.pod(name, ownedBy(set, "5d8f"), privileged)
	}
	s.pod("web-5d8f-c", ownedBy(set, "5d8f"), func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	s.pod("odd", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image = "registry.example/a&b<c>:\u202e1"
		p.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"}
	})
	s.pod("good")
}

func TestLiveOutputsAreThoseOfTheReplay(t *testing.T) {
	s := newLiveSpace(t)
	s.somethingOfEverything()
	limited := userWithout(t, s.server, "live-replay", "nodes", "replicasets", "pods")
	s.server.Allow(t, "live-replay", s.name, liveRights()["pods"])

	for name, test := range map[string]struct {
		kubeconfig string
		code       int
	}{
		"complete":   {kubetest.Kubeconfig(t, s.server.Config()), exitFindings},
		"incomplete": {kubetest.Kubeconfig(t, limited), exitIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			outputs := []string{"-o", "json=live.json", "-o", "jsonl=live.jsonl", "-o", "sarif=live.sarif"}
			scanArgs := append([]string{"scan", "--kubeconfig", test.kubeconfig, "--page-size", "2", "--level", "restricted", "-o", "table"}, outputs...)
			live := liveRunIn(t, dir, scanArgs...)
			if live.code != test.code {
				t.Fatalf("exit %d, want %d: %s", live.code, test.code, live.stderr)
			}
			if strings.Contains(readText(t, dir, "live.jsonl"), `"progress"`) {
				t.Error("a stream has progress in it, which is no result")
			}
			for _, from := range []string{"live.jsonl", "live.json"} {
				for format, want := range map[string]string{
					"table": live.stdout, "json": readText(t, dir, "live.json"), "sarif": readText(t, dir, "live.sarif"), "jsonl": readText(t, dir, "live.jsonl"),
				} {
					if from == "live.json" && format == "jsonl" {
						continue // A document has another order.
					}
					again := liveRunIn(t, dir, "scan", "--from", from, "-o", format)
					if again.code != live.code {
						t.Errorf("%s of %s: exit %d, the live run %d", format, from, again.code, live.code)
					}
					if again.stdout != want {
						t.Errorf("%s of %s differs:\n%s\nlive:\n%s", format, from, again.stdout, want)
					}
				}
			}
			// The same cluster, the same bytes.
			if second := liveRunIn(t, dir, scanArgs...); second.stdout != live.stdout {
				t.Errorf("a second run differs:\n%s\nthe first:\n%s", second.stdout, live.stdout)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

func TestLiveBaseline(t *testing.T) {
	s := newLiveSpace(t)
	s.somethingOfEverything()
	dir := t.TempDir()
	args := []string{"scan", "--kubeconfig", kubetest.Kubeconfig(t, s.server.Config()), "-n", s.name}
	first := liveParse(t, liveRunIn(t, dir, append(args, "-o", "jsonl")...))
	if first.code != exitFindings || len(first.findings) < 4 {
		t.Fatalf("exit %d, %d findings", first.code, len(first.findings))
	}
	writeText(t, first.stdout, dir, "before.jsonl")
	args = append(args, "-o", "jsonl", "--baseline", "before.jsonl")

	same := liveParse(t, liveRunIn(t, dir, args...))
	same.wantComplete(t, exitOK)
	if len(same.findings) != 0 || same.end.Known != len(first.findings) {
		t.Errorf("nothing changed: %d findings, %d known, want %d", len(same.findings), same.end.Known, len(first.findings))
	}
	if !slices.Equal(same.rows(), first.rows()) {
		t.Errorf("verdicts change with the baseline: %q", same.rows())
	}

	// New pods of a known workload, with other names and another hash, are not news.
	set := s.replicaSet(controllerRefOf(t, s, "web"), "6e9a")
	for _, name := range []string{"web-6e9a-x", "web-6e9a-y"} {
		s.pod(name, ownedBy(set, "6e9a"), privileged)
	}
	rolled := liveParse(t, liveRunIn(t, dir, args...))
	if rolled.code != exitOK || len(rolled.findings) != 0 {
		t.Errorf("after a rollout: exit %d, findings %+v", rolled.code, rolled.findings)
	}

	s.pod("newcomer", func(p *corev1.Pod) { p.Spec.HostPID = true })
	news := liveParse(t, liveRunIn(t, dir, args...))
	if news.code != exitFindings || len(news.findings) == 0 {
		t.Errorf("a new pod: exit %d, %d findings", news.code, len(news.findings))
	}
	for _, f := range news.findings {
		if f.Workload.Name != "newcomer" {
			t.Errorf("not new: %+v", f)
		}
	}
}

func controllerRefOf(t *testing.T, s liveSpace, deployment string) metav1.OwnerReference {
	t.Helper()
	d, err := s.server.Client().AppsV1().Deployments(s.name).Get(t.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return controllerRef("apps/v1", "Deployment", deployment, d.UID)
}

const webManifest = `apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: NAMESPACE
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: registry.example/app:1
        securityContext:
          privileged: true # of app
      - name: helper
        image: registry.example/helper:1
        securityContext:
          capabilities:
            add:
            - NET_BIND_SERVICE
            - SYS_ADMIN # of helper
      volumes:
      - name: scratch
        emptyDir: {}
      - name: host
        hostPath: {path: /var/log} # the volume
`

const apiManifest = `# Without a namespace, as a chart writes it.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      hostPID: true
      containers:
      - name: app
        image: registry.example/app:1
`

func TestLiveFindingsNameTheLineToEdit(t *testing.T) {
	s := newLiveSpace(t)
	dir := t.TempDir()
	web := strings.ReplaceAll(webManifest, "NAMESPACE", s.name)
	writeText(t, web, dir, "deploy", "base", "web.yaml")
	writeText(t, apiManifest, dir, "deploy", "api.yaml")
	// Of the same name in another namespace: not ours.
	writeText(t, strings.ReplaceAll(webManifest, "NAMESPACE", "elsewhere"), dir, "deploy", "a-first.yaml")

	// The live pod has one container more, and the others in another order.
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"), func(p *corev1.Pod) {
		adding := func(c corev1.Capability) *corev1.SecurityContext {
			return &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{c}}}
		}
		p.Spec.Containers = []corev1.Container{
			{Name: "mesh", Image: "registry.example/mesh:1", SecurityContext: adding("NET_ADMIN")},
			{Name: "helper", Image: "registry.example/helper:1", SecurityContext: adding("SYS_ADMIN")},
			{Name: "app", Image: "registry.example/app:1", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}},
		}
		p.Spec.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}}}
	})
	for _, name := range []string{"api", "undeclared"} {
		s.pod(name+"-77aa-z9", ownedBy(s.replicaSet(s.deployment(name), "77aa"), "77aa"), func(p *corev1.Pod) { p.Spec.HostPID = true })
	}

	run := liveRunIn(t, dir, "scan", "--kubeconfig", kubetest.Kubeconfig(t, s.server.Config()), "-n", s.name,
		"--manifests", "deploy", "-o", "jsonl", "-o", "sarif=out.sarif")
	a := liveParse(t, run)
	a.wantComplete(t, exitFindings)

	find := func(workload, rule, container string) *scan.Finding {
		t.Helper()
		for i := range a.findings {
			if f := &a.findings[i]; f.Workload.Name == workload && f.Rule == rule && f.Container == container {
				return f
			}
		}
		t.Fatalf("no finding of %s in %s/%s", rule, workload, container)
		return nil
	}
	want := func(f *scan.Finding, file string, line int, field string, nearest bool) {
		t.Helper()
		if l := f.Location; l == nil || l.File != filepath.FromSlash(file) || l.Line != line || l.Field != field || l.Nearest != nearest {
			t.Errorf("%s of %s (%s): %+v\nwant %s:%d, %s", f.Rule, f.Container, f.Field, l, file, line, field)
		}
	}
	const containers = "spec.template.spec.containers"
	base := "deploy/base/web.yaml"
	want(find("web", "privileged", "app"), base, lineOf(t, web, "privileged: true"), containers+"[0].securityContext.privileged", false)
	want(find("web", "capabilities_baseline", "helper"), base, lineOf(t, web, "- SYS_ADMIN"), containers+"[1].securityContext.capabilities.add[1]", false)
	want(find("web", "hostPathVolumes", ""), base, lineOf(t, web, "hostPath:"), "spec.template.spec.volumes[1].hostPath", false)
	mesh := find("web", "capabilities_baseline", "mesh")
	if l := mesh.Location; l == nil || !l.Nearest || l.File != filepath.FromSlash(base) || l.Line != lineOf(t, web, "containers:") {
		t.Errorf("the container that is in no file: %+v", l)
	}
	want(find("api", "hostNamespaces", ""), "deploy/api.yaml", lineOf(t, apiManifest, "hostPID"), "spec.template.spec.hostPID", false)
	if l := find("undeclared", "hostNamespaces", "").Location; l != nil {
		t.Errorf("undeclared: %+v", l)
	}
	if l := a.verdict(t, s.workload("Deployment/api")).Location; l == nil || l.File != filepath.FromSlash("deploy/api.yaml") || l.Line != 2 {
		t.Errorf("verdict on api: %+v", l)
	}

	uris := sarifURIs(t, readText(t, dir, "out.sarif"))
	if want := []string{"cluster/" + s.name + "/Deployment/undeclared.yaml", "deploy/api.yaml", base}; !slices.Equal(uris, want) {
		t.Errorf("SARIF names %q, want %q", uris, want)
	}
	for _, pod := range []string{"web-5d8f", "api-77aa", "undeclared-77aa"} {
		if strings.Contains(readText(t, dir, "out.sarif"), pod) {
			t.Errorf("SARIF has %s in it, which changes with every rollout", pod)
		}
	}
}

// sarifURIs are the files that the results of a report name, each once.
func sarifURIs(t *testing.T, text string) []string {
	t.Helper()
	var report struct {
		Runs []struct {
			Results []struct {
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	uris := map[string]bool{}
	for _, run := range report.Runs {
		for _, result := range run.Results {
			if len(result.Locations) == 0 || result.Locations[0].PhysicalLocation.Region.StartLine < 1 {
				t.Errorf("a result without a place: %+v", result)
				continue
			}
			uris[result.Locations[0].PhysicalLocation.ArtifactLocation.URI] = true
		}
	}
	return slices.Sorted(maps.Keys(uris))
}

// A broken file beside the others costs its own places and is named.
func TestLiveBrokenManifestIsAFailure(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("api-77aa-z9", ownedBy(s.replicaSet(s.deployment("api"), "77aa"), "77aa"), func(p *corev1.Pod) { p.Spec.HostPID = true })
	dir := t.TempDir()
	writeText(t, apiManifest, dir, "deploy", "api.yaml")
	writeText(t, "kind: Deployment\n  broken: [", dir, "deploy", "broken.yaml")
	args := []string{"scan", "--kubeconfig", kubetest.Kubeconfig(t, s.server.Config()), "-n", s.name, "-o", "jsonl", "--manifests"}

	a := liveParse(t, liveRunIn(t, dir, append(args, "deploy")...))
	if a.code != exitIncomplete || len(a.failures) != 1 || !strings.Contains(a.failures[0].Subject, "broken.yaml") {
		t.Errorf("exit %d, failures %+v", a.code, a.failures)
	}
	if f := a.finding(t, s.workload("Deployment/api"), "hostNamespaces"); f.Location == nil {
		t.Error("the other file is lost")
	}
	result := liveRunIn(t, dir, append(args, "nowhere")...)
	if result.code == exitOK || result.code == exitFindings || !strings.Contains(result.stdout+result.stderr, "nowhere") {
		t.Errorf("no such folder: %+v", result)
	}
}
