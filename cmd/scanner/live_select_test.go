package main

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

func TestLiveNamespaces(t *testing.T) {
	one, two := newLiveSpace(t), newLiveSpace(t)
	one.pod("a", privileged)
	two.pod("b")
	rowOne, rowTwo := one.name+"/Pod/a exposed 1", two.name+"/Pod/b closed 1"
	both := []string{rowOne, rowTwo}
	slices.Sort(both)

	for _, test := range []struct {
		name string
		args []string
		want []string
		code int
		// limited are the namespaces that the start of the stream names.
		limited []string
	}{
		{"no flag is all", nil, both, exitFindings, nil},
		{"-A", []string{"-A"}, both, exitFindings, nil},
		{"-n", []string{"-n", two.name}, []string{rowTwo}, exitOK, []string{two.name}},
		{"-n with several", []string{"-n", one.name + "," + two.name}, both, exitFindings, []string{one.name, two.name}},
		{"-n with one twice", []string{"-n", two.name + ", " + two.name}, []string{rowTwo}, exitOK, []string{two.name}},
		{"-n and small pages", []string{"-n", one.name, "--page-size", "1"}, []string{rowOne}, exitFindings, []string{one.name}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := liveScan(t, one.server.Config(), test.args...)
			a.wantComplete(t, test.code)
			if got := a.rows(); !slices.Equal(got, test.want) {
				t.Errorf("rows %q, want %q", got, test.want)
			}
			if !slices.Equal(a.start.Namespaces, test.limited) {
				t.Errorf("the start names %q, want %q", a.start.Namespaces, test.limited)
			}
		})
	}
}

// kubectl reads the context's namespace where none is given. An audit that did so
// would pass over all others without a word.
func TestLiveContexts(t *testing.T) {
	one, two := newLiveSpace(t), newLiveSpace(t)
	one.pod("a", privileged)
	two.pod("b")
	one.server.Allow(t, "live-contexts", one.name, liveRights()["pods"])
	file := kubetest.KubeconfigOf(t,
		kubetest.Context{Name: "admin", Config: one.server.Config(), Namespace: two.name},
		kubetest.Context{Name: "user", Config: one.server.User(t, "live-contexts")},
	)

	a := liveScanFile(t, file)
	a.wantComplete(t, exitFindings)
	if len(a.verdicts) != 2 || a.start.Cluster != "admin" || a.start.Namespaces != nil {
		t.Errorf("current context: rows %q, start %+v", a.rows(), a.start)
	}
	if a.start.ServerVersion == "" || a.start.PSSVersion != minorOf(a.start.ServerVersion) {
		t.Errorf("server %q, standards %q", a.start.ServerVersion, a.start.PSSVersion)
	}

	a = liveScanFile(t, file, "--context", "user", "-n", one.name)
	if len(a.verdicts) != 1 || a.start.Cluster != "user" {
		t.Errorf("other context: rows %q, start %+v", a.rows(), a.start)
	}
	if a.code != exitIncomplete || !slices.Contains(a.failed(), "nodes: forbidden") {
		t.Errorf("other context: exit %d, failures %q; want the rights of its user", a.code, a.failed())
	}

	result := liveRun(t, "scan", "--kubeconfig", file, "--context", "nowhere")
	if result.code != exitUsage || !strings.Contains(result.stderr, `"nowhere"`) || result.stdout != "" {
		t.Errorf("unknown context: %+v", result)
	}
}

// minorOf is v1.N of a server's version.
func minorOf(version string) string {
	return strings.Join(strings.SplitN(version, ".", 3)[:2], ".")
}

func TestLiveSelector(t *testing.T) {
	s := newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"), labelled("tier", "front"))
	s.pod("web-5d8f-b", ownedBy(set, "5d8f"), labelled("tier", "front"))
	s.pod("db", labelled("tier", "back"), privileged)
	for _, test := range []struct {
		selector string
		want     []string
	}{
		{"tier=front", []string{"Deployment/web closed 2"}},
		{"tier=back", []string{"Pod/db exposed 1"}},
		{"tier in (back, front), tier!=front", []string{"Pod/db exposed 1"}},
		{"!tier", nil},
	} {
		a := liveScan(t, s.server.Config(), "-n", s.name, "-l", test.selector, "--fail-on", "none")
		a.wantRows(t, s.name, test.want...)
		if a.start.Selector != test.selector {
			t.Errorf("%s: the start says %q", test.selector, a.start.Selector)
		}
	}
}

// A selector is misspelt as easily as a namespace, and the server answers both
// with an empty list.
func TestLiveNothingFoundIsNoPass(t *testing.T) {
	s := newLiveSpace(t)
	empty := newLiveSpace(t)
	s.pod("db", labelled("tier", "back"))

	a := liveScan(t, s.server.Config(), "-n", s.name, "-l", "tier=bakc")
	if got := a.failed(); a.code != exitIncomplete || !slices.Equal(got, []string{"selector tier=bakc: not found"}) {
		t.Errorf("selector that matches nothing: exit %d, failures %q", a.code, got)
	}
	a = liveScan(t, s.server.Config(), "-n", s.name, "-l", "tier=bakc", "--allow-incomplete")
	if a.code != exitOK || !a.end.Incomplete {
		t.Errorf("selector that matches nothing, allowed: exit %d, end %+v", a.code, a.end)
	}

	missing := s.name + "-not"
	a = liveScan(t, s.server.Config(), "-n", s.name+","+missing)
	if want := []string{"namespace " + missing + " in " + missing + ": not found"}; a.code != exitIncomplete || !slices.Equal(a.failed(), want) {
		t.Errorf("unknown namespace: exit %d, failures %q, want %q", a.code, a.failed(), want)
	}
	if !slices.Equal(a.rows(), []string{s.name + "/Pod/db closed 1"}) {
		t.Errorf("unknown namespace beside another: %q", a.rows())
	}

	// A namespace that exists and is empty has nothing wrong with it.
	liveScan(t, s.server.Config(), "-n", empty.name).wantComplete(t, exitOK)

	result := liveRun(t, "scan", "--kubeconfig", kubetest.Kubeconfig(t, s.server.Config()), "-l", "a==b==c")
	if result.code != exitUsage || !strings.Contains(result.stderr, "selector") {
		t.Errorf("broken selector: %+v", result)
	}
}

func TestLiveNodesAreInTheStream(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("alone")
	nodes := s.server.Client().CoreV1().Nodes()
	for _, name := range []string{"node-b", "node-a"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		node, err := nodes.Create(t.Context(), node, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := nodes.Delete(s.cleanup(), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		node.Status.NodeInfo.KernelVersion, node.Status.NodeInfo.OSImage = "6.8.0", "Ubuntu of "+name
		if _, err := nodes.UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a := liveScan(t, s.server.Config(), "--page-size", "1")
	a.wantComplete(t, exitOK)
	if len(a.nodes) != 2 || a.nodes[0].Name != "node-a" || a.nodes[1].OSImage != "Ubuntu of node-b" || a.nodes[1].KernelVersion != "6.8.0" {
		t.Errorf("nodes: %+v", a.nodes)
	}
}
