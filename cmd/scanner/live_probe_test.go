package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// probeData is the file as KubeArmor 1.7 writes it on a node with BPF-LSM.
const probeData = `{"OSImage":"Debian GNU/Linux 12 (bookworm)","KernelVersion":"6.1.0-28-amd64","KubeletVersion":"v1.36.3","ContainerRuntime":"containerd://2.2.1","ActiveLSM":"BPFLSM","KernelHeaderPresent":true,"HostSecurity":false,"ContainerSecurity":true,"ContainerDefaultPosture":{"file":"audit","network":"audit","capabilities":"audit"},"HostDefaultPosture":{},"HostVisibility":""}`

// parseProbes gives the flags of a command line.
func parseProbes(t *testing.T, args ...string) (*probeFlags, *pflag.FlagSet) {
	t.Helper()
	f, fs := &probeFlags{}, newFlagSet()
	f.add(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f, fs
}

func TestLiveProbes(t *testing.T) {
	server := liveServers.Server(t)
	namespace := server.Namespace(t, nil)
	machine, err := json.Marshal(kernel.Machine{Time: time.Now(), Kernel: "6.1.0", BPFListed: kernel.Yes, Loads: kernel.Unknown, Conclusion: kernel.Yes})
	if err != nil {
		t.Fatal(err)
	}
	kubelet := &kubetest.Kubelet{
		Run: func(_ context.Context, c kubetest.Command) (int, error) {
			switch {
			case c.Container == "kubearmor" && strings.Join(c.Args, " ") == "cat /tmp/karmorProbeData.cfg":
				_, _ = io.WriteString(c.Stdout, probeData)
			case c.Container == "web" && c.Args[0] == "sh":
				_, _ = io.WriteString(c.Stdout, "0 = /bin/busybox\nend\n")
			default:
				return 1, nil
			}
			return 0, nil
		},
		Logs: func(string, string, string) (string, error) { return string(machine), nil },
	}
	kubelet.Start(t)
	kubelet.Serve(t, server, namespace)
	server.ApplyYAML(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: %[1]s}
spec: {nodeName: %[1]s, containers: [{name: kubearmor, image: kubearmor}, {name: web, image: web}]}
`, namespace))
	cluster, err := kube.NewCluster(server.Config(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	a := &app{deps: testDeps(t.TempDir()), stderr: &stderr}

	f, fs := parseProbes(t)
	none, err := f.probes(a, cluster)
	if err != nil || f.validate(fs, "") != nil || none.ProbeData != nil || none.Inspect != nil || none.AskServer != nil || none.Machines != nil || stderr.Len() > 0 {
		t.Fatalf("without a flag: %+v, %q (%v)", none, stderr.String(), err)
	}

	f, fs = parseProbes(t, "--kubearmor-exec", "--inspect-images", "--ask-server", "--probe-nodes",
		"--probe-image", "registry.invalid/escape-scanner:\x1b1", "--probe-namespace", namespace, "--probe-timeout", "30s")
	if err := f.validate(fs, ""); err != nil {
		t.Fatal(err)
	}
	probes, err := f.probes(a, cluster)
	if err != nil {
		t.Fatal(err)
	}
	data, err := probes.ProbeData(t.Context(), kernel.Agent{Namespace: namespace, Name: "agent", Node: namespace})
	if err != nil || data.ActiveLSM != "BPFLSM" || !data.ContainerSecurity || data.Pod != namespace+"/agent" || !data.Read.Equal(a.now()) {
		t.Errorf("probe data %+v (%v)", data, err)
	}
	found, err := probes.Inspect(t.Context(), namespace, "agent", "web", []string{"/bin/wget"})
	if err != nil || found["/bin/wget"] != "/bin/busybox" {
		t.Errorf("inspected: %v (%v)", found, err)
	}
	if _, err := probes.Inspect(t.Context(), namespace, "agent", "kubearmor", []string{"/bin/wget"}); err == nil {
		t.Error("a container that answers nothing was believed")
	}
	ruling, err := probes.AskServer(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "like-it"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	})
	if err != nil || ruling.Answer != admission.Admits {
		t.Errorf("asked: %+v (%v)", ruling, err)
	}

	// All that is going to be made is shown, before anything is.
	shown := stderr.String()
	if strings.Contains(shown, "\x1b") {
		t.Errorf("an escape of the flag's reaches the terminal: %q", shown)
	}
	sets := server.Client().AppsV1().DaemonSets(namespace)
	if list, err := sets.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Fatalf("%d DaemonSets before they were asked for (%v)", len(list.Items), err)
	}
	made, err := sets.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Stop()
	first := make(chan *appsv1.DaemonSet, 1)
	go func() {
		event := <-made.ResultChan()
		set, ok := event.Object.(*appsv1.DaemonSet)
		if !ok {
			return
		}
		// The real image's name is no image's name, and nothing here pulls it.
		pod := &corev1.Pod{ObjectMeta: *set.Spec.Template.ObjectMeta.DeepCopy(), Spec: *set.Spec.Template.Spec.DeepCopy()}
		pod.Name, pod.Spec.NodeName, pod.Spec.Containers[0].Image = "probe", namespace, "image"
		pod, err := server.Client().CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "node", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
			_, err = server.Client().CoreV1().Pods(namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Error(err)
		}
		first <- set
	}()
	reports, why, err := probes.Machines(t.Context(), []string{namespace})
	if err != nil || reports[namespace] == nil || reports[namespace].Kernel != "6.1.0" {
		t.Fatalf("%v, %v (%v)", reports, why, err)
	}
	set := <-first
	if !strings.Contains(shown, "name: "+set.Name) || !strings.Contains(shown, "path: /sys") {
		t.Errorf("%s was made, and shown was\n%s", set.Name, shown)
	}
	if list, err := sets.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("%d DaemonSets are left (%v)", len(list.Items), err)
	}
}

func TestProbePlanIsAManifest(t *testing.T) {
	f, fs := parseProbes(t, "--probe-nodes=plan", "--probe-image", "i", "--probe-load")
	if err := f.validate(fs, ""); err != nil || !f.plansOnly() {
		t.Fatalf("plans only: %v (%v)", f.plansOnly(), err)
	}
	var out bytes.Buffer
	if err := f.writePlan(&out); err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(out.Bytes(), &set); err != nil || set.Namespace != kube.DefaultProbeNamespace || set.Kind != "DaemonSet" {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestProbeFlagsThatCannotBeMeant(t *testing.T) {
	for _, test := range []struct {
		args    string
		offline string
		want    string
	}{
		{"--kubearmor-exec", "-f", "--kubearmor-exec: asks a cluster, and -f reads none"},
		{"--ask-server", "--from", "--ask-server: asks a cluster"},
		{"--probe-nodes", "", "--probe-nodes: needs --probe-image"},
		{"--probe-nodes=yes --probe-image=i", "", "--probe-nodes=yes: want no value, or plan"},
		{"--probe-nodes= --probe-image=i", "", "--probe-nodes=: want"},
		{"--probe-load", "", "--probe-load: says how --probe-nodes is done"},
		{"--probe-image=i", "", "--probe-image: says how"},
		{"--probe-nodes --probe-image=i --probe-timeout=0s", "", "--probe-timeout 0s"},
		{"--probe-nodes --probe-image=i --probe-namespace=No_Name", "", "--probe-namespace"},
		{"--probe-nodes --probe-image=i --probe-namespace=", "", "--probe-namespace"},
	} {
		f, fs := parseProbes(t, strings.Fields(test.args)...)
		if err := f.validate(fs, test.offline); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with %q: %v, want %q", test.args, test.offline, err, test.want)
		}
	}
	f, _ := parseProbes(t, "--kubearmor-exec", "--inspect-images", "--ask-server", "--probe-nodes", "--probe-image=i")
	if got, want := f.looks(), (kube.Looks{Agents: true, Images: true, AskServer: true, ProbeNamespace: "kube-system"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
