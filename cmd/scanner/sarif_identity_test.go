package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// checkSARIF holds a file against GitHub's rules and returns its alerts. It must have
// some.
func checkSARIF(t *testing.T, file string, unstable ...string) []oracle.Alert {
	t.Helper()
	check := oracle.NewCodeScanning(t)
	check.Unstable = unstable
	for _, broken := range check.Check(t, []byte(file)) {
		t.Error(broken)
	}
	alerts := oracle.Alerts(t, []byte(file))
	if len(alerts) == 0 {
		t.Fatal("no alerts: there is nothing to compare")
	}
	return alerts
}

// sameAlerts fails where two runs that found the same would open or close an alert.
func sameAlerts(t *testing.T, before, after []oracle.Alert) {
	t.Helper()
	for _, side := range []struct {
		what string
		a, b []oracle.Alert
	}{{"closes", before, after}, {"opens", after, before}} {
		for _, alert := range side.a {
			if !slices.Contains(side.b, alert) {
				t.Errorf("the second run %s %+v", side.what, alert)
			}
		}
	}
}

func TestSARIFOfTheDemoKeepsItsAlerts(t *testing.T) {
	t.Parallel()
	first := liveRun(t, "scan", "--demo", "--fail-on", "none", "-o", "sarif")
	again := liveRun(t, "scan", "--demo", "--fail-on", "none", "-o", "sarif", "--page-size", "3")
	sameAlerts(t, checkSARIF(t, first.stdout), checkSARIF(t, again.stdout))
}

// Documents move in their file, and containers in their pod.
func TestSARIFOfManifestsKeepsItsAlerts(t *testing.T) {
	t.Parallel()
	container := func(name, more string) string {
		return "      - {name: " + name + ", image: registry.example/" + name + ":1" + more + "}\n"
	}
	deployment := func(name, pod string, containers ...string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n  selector: {matchLabels: {app: " + name + "}}\n  template:\n    metadata: {labels: {app: " + name + "}}\n    spec:\n" + pod + "      containers:\n" + strings.Join(containers, "")
	}
	privileged, admin := ", securityContext: {privileged: true}", ", securityContext: {capabilities: {add: [NET_RAW, SYS_ADMIN]}}"
	web := func(order ...string) string { return deployment("web", "      hostPID: true\n", order...) }
	api := deployment("api", "      volumes: [{name: root, hostPath: {path: /}}]\n", container("api", ", volumeMounts: [{name: root, mountPath: /host}]"))
	scanned := func(documents ...string) []oracle.Alert {
		dir := t.TempDir()
		writeText(t, strings.Join(documents, "---\n"), dir, "deploy", "all in one.yaml")
		return checkSARIF(t, liveRunIn(t, dir, "scan", "-f", "deploy", "--level", "restricted", "-o", "sarif").stdout)
	}
	before := scanned(web(container("app", privileged), container("side", admin)), api)
	after := scanned("# moved\n"+api, "# up\n\n"+web(container("side", admin), container("app", privileged)))
	sameAlerts(t, before, after)
	for _, alert := range before {
		if alert.URI != "deploy/all%20in%20one.yaml" || alert.Category != "escape-scanner" {
			t.Errorf("%+v", alert)
		}
	}
}

// rolledOut makes the pods of a Deployment and of a DaemonSet as controllers would, and
// returns what is another at the next rollout.
func (s liveSpace) rolledOut(web metav1.OwnerReference, agent metav1.OwnerReference, hash string, names ...string) []string {
	s.Helper()
	set := s.replicaSet(web, hash)
	unstable := []string{hash, string(set.UID)}
	for i, name := range names {
		changes := []podChange{ownedBy(set, hash), privileged}
		if i == 0 {
			changes = []podChange{ownedBy(agent, ""), func(p *corev1.Pod) { p.Spec.HostPID = true }}
		}
		p := s.pod(name, changes...)
		unstable = append(unstable, p.Name, string(p.UID))
	}
	return unstable
}

// daemonSet creates a DaemonSet.
func (s liveSpace) daemonSet(name string) metav1.OwnerReference {
	s.Helper()
	app := map[string]string{"app": name}
	d, err := s.server.Client().AppsV1().DaemonSets(s.name).Create(s.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: podTemplate(app)},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("daemon set %s: %v", name, err)
	}
	return controllerRef("apps/v1", "DaemonSet", name, d.UID)
}

// takenAway deletes the pods of a rollout, and its ReplicaSet.
func (s liveSpace) takenAway(hash string) {
	s.Helper()
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	client := s.server.Client()
	if err := client.CoreV1().Pods(s.name).DeleteCollection(s.Context(), now, metav1.ListOptions{}); err != nil {
		s.Fatal(err)
	}
	if err := client.AppsV1().ReplicaSets(s.name).Delete(s.Context(), "web-"+hash, now); err != nil {
		s.Fatal(err)
	}
}

// A rollout gives pods other names, UIDs and hashes, and another order in every list: the
// alerts stay, in one cluster and in a fleet, of which one cluster cannot be reached.
func TestLiveSARIFKeepsItsAlerts(t *testing.T) {
	s := newLiveSpace(t)
	web := s.deployment("web")
	agent := s.daemonSet("agent")
	dead := &rest.Config{Host: "https://127.0.0.1:1"}
	const odd = "arn:aws:eks:eu-west-1:1:cluster/Prod"
	kubeconfig := kubetest.KubeconfigOf(t, kubetest.Context{Name: "one", Config: s.server.Config()},
		kubetest.Context{Name: odd, Config: s.server.Config()}, kubetest.Context{Name: "dead", Config: dead})
	runs := map[string][]string{
		"cluster": {"scan", "--kubeconfig", kubeconfig, "-n", s.name, "-o", "sarif", "--sarif-category", "nightly"},
		"fleet":   {"scan", "--kubeconfig", kubeconfig, "-n", s.name, "-o", "sarif", "--contexts", "dead,one," + odd},
	}
	before, text := map[string][]oracle.Alert{}, map[string]string{}
	unstable := s.rolledOut(web, agent, "5d8f7", "agent-zz", "web-5d8f7-yy", "web-5d8f7-xx")
	for name, args := range runs {
		text[name] = liveRun(t, args...).stdout
		before[name] = checkSARIF(t, text[name], unstable...)
	}
	s.takenAway("5d8f7")
	unstable = append(unstable, s.rolledOut(web, agent, "9c1b2", "web-agent-aa", "web-9c1b2-bb", "web-9c1b2-cc")...)
	for name, args := range runs {
		sameAlerts(t, before[name], checkSARIF(t, liveRun(t, args...).stdout, unstable...))
	}
	checkFleetRuns(t, text["fleet"], s.name)
	for _, alert := range before["cluster"] {
		if alert.Category != "nightly" || !strings.HasPrefix(alert.URI, "cluster/"+s.name+"/") {
			t.Errorf("%+v", alert)
		}
	}
}

// checkFleetRuns checks that each cluster has its run, and that the one which could not be
// reached is not taken for one without findings.
func checkFleetRuns(t *testing.T, text, namespace string) {
	t.Helper()
	var file struct {
		Runs []struct {
			AutomationDetails struct{ ID string }
			Invocations       []struct {
				ExecutionSuccessful        bool
				ToolExecutionNotifications []struct{ Message struct{ Text string } }
			}
			Results []json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, run := range file.Runs {
		got = append(got, fmt.Sprintf("%s %v", run.AutomationDetails.ID, run.Invocations[0].ExecutionSuccessful))
		if run.Invocations[0].ExecutionSuccessful == (len(run.Results) == 0) {
			t.Errorf("%s: %d results", run.AutomationDetails.ID, len(run.Results))
		}
	}
	if len(got) != 3 || got[0] != "escape-scanner/dead/ false" || got[1] != "escape-scanner/one/ true" || !strings.HasPrefix(got[2], "escape-scanner/arn_aws_eks_eu-west-1_1_cluster_Prod-") {
		t.Fatalf("runs %q", got)
	}
	if n := file.Runs[0].Invocations[0].ToolExecutionNotifications; len(n) == 0 || !strings.Contains(n[0].Message.Text, "cluster") {
		t.Errorf("of the dead cluster it says %v", n)
	}
	for _, alert := range oracle.Alerts(t, []byte(text)) {
		_, cluster, _ := strings.Cut(alert.Category, "/")
		if !strings.HasPrefix(alert.URI, "cluster/"+cluster+"/"+namespace+"/") {
			t.Errorf("%+v", alert)
		}
	}
}
