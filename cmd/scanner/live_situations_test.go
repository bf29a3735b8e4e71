package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// Every situation is made real, one after the other, and scanned there, without what is
// around it in the folders: a server tells what there is not. It is scanned once more
// from the inventory that the scan saved, which must say the same to the word. Where the
// API server by itself decides about admission it is asked as well, and must agree.
func TestLiveSituations(t *testing.T) {
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.Kyverno)
	all := loadSituations(t)
	for _, name := range situationNamespaces(all) {
		_, err := server.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			server.NamedNamespace(t, name, nil)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			if s.expect.Refused != "" {
				s.checkRefused(t, server)
				return
			}
			s.settle(t, server)
			s.makeReal(t, server)
			s.scanLive(t, kubeconfig)
			s.askServer(t, server, kubeconfig)
		})
	}
}

// situationNamespaces are those that any situation is in. They stay for all of them:
// to make and remove them each time takes longer than all else.
func situationNamespaces(all []situation) []string {
	var names []string
	for _, s := range all {
		for _, o := range s.objects {
			names = append(names, o.GetNamespace())
			if o.GetKind() == "Namespace" {
				names = append(names, o.GetName())
			}
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
}

// settle waits until nothing refuses pods in the situation's namespaces: the API
// server's own memory of the labels and policies of the situation before may lag.
func (s *situation) settle(t *testing.T, server *kubetest.Server) {
	t.Helper()
	for _, namespace := range situationNamespaces([]situation{*s}) {
		awaitAnswer(t, server, namespace, func(refused error) bool { return refused == nil })
	}
}

// awaitAnswer waits until the API server answers so to a pod that most policies refuse.
func awaitAnswer(t *testing.T, server *kubetest.Server, namespace string, want func(refused error) bool) {
	t.Helper()
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	err = wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		_, refused = client.CoreV1().Pods(namespace).Create(ctx, wildPod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return want(refused), nil
	})
	if err != nil {
		t.Fatalf("namespace %s: %v: the API server's last answer was: %v", namespace, err, refused)
	}
}

// wildPod has what the policies of the situations refuse.
func wildPod() *corev1.Pod {
	p := livePod("wild", privileged)
	p.Spec.HostPID, p.Spec.HostNetwork = true, true
	p.Spec.Volumes = []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	return p
}

// makeReal makes the objects, as a server would have them: with UIDs of its own, and
// ephemeral containers added by an update, which is the only way to get them.
func (s *situation) makeReal(t *testing.T, server *kubetest.Server) {
	t.Helper()
	var objects []*unstructured.Unstructured
	debugged := map[string]*corev1.Pod{}
	for _, o := range s.objects {
		o = o.DeepCopy()
		o.SetUID("")
		owners := o.GetOwnerReferences()
		for i := range owners {
			owners[i].UID = ""
		}
		if len(owners) > 0 {
			o.SetOwnerReferences(owners)
		}
		if _, found, _ := unstructured.NestedSlice(o.Object, "spec", "ephemeralContainers"); found {
			var p corev1.Pod
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p); err != nil {
				t.Fatal(err)
			}
			debugged[p.Namespace+"/"+p.Name] = &p
			unstructured.RemoveNestedField(o.Object, "spec", "ephemeralContainers")
		}
		objects = append(objects, o)
	}
	server.ApplyYAML(t, asList(t, objects))
	for _, want := range debugged {
		pods := server.Client().CoreV1().Pods(want.Namespace)
		p, err := pods.Get(t.Context(), want.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.Spec.EphemeralContainers = want.Spec.EphemeralContainers
		if _, err := pods.UpdateEphemeralContainers(t.Context(), p.Name, p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkRefused makes sure that the API server does not store the object, and so that
// nothing can be said of it live.
func (s *situation) checkRefused(t *testing.T, server *kubetest.Server) {
	t.Helper()
	for _, o := range s.objects {
		if objectName(o) != s.expect.Refused {
			continue
		}
		namespace := &corev1.Namespace{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, namespace); err != nil {
			t.Fatal(err)
		}
		namespace.Name = "refused"
		_, err := server.Client().CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsInvalid(err) {
			t.Errorf("%s: the API server does not refuse it: %v", s.expect.Refused, err)
		}
		return
	}
	t.Errorf("there is no %s", s.expect.Refused)
}

// scanLive scans the cluster, saves its inventory, and scans that.
func (s *situation) scanLive(t *testing.T, kubeconfig string) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "inventory.jsonl")
	live := parseSaid(t, liveRun(t, "scan", "--kubeconfig", kubeconfig, "-o", "jsonl", "--save-inventory", saved))
	s.check(t, live, s.expect.situationOutcome)
	if t.Failed() {
		return
	}
	again := parseSaid(t, liveRun(t, "scan", "-f", saved, "-o", "jsonl"))
	if want, got := live.words(), again.words(); !slices.Equal(want, got) {
		t.Errorf("the saved inventory says\n%s\nand the cluster said\n%s",
			strings.Join(without(got, want), "\n"), strings.Join(without(want, got), "\n"))
	}
}

// askServer scans with --ask-server where nothing but the API server itself decides:
// there is no Kyverno that it could ask.
func (s *situation) askServer(t *testing.T, server *kubetest.Server, kubeconfig string) {
	t.Helper()
	theirs := slices.ContainsFunc(s.objects, func(o *unstructured.Unstructured) bool { return o.GetNamespace() == "kyverno" })
	if t.Failed() || theirs {
		return
	}
	asked := false
	for name, w := range s.expect.Workloads {
		asked = asked || w.Admission != ""
		if w.Admission == string(admission.Refuses) {
			namespace, _, _ := strings.Cut(name, "/")
			awaitAnswer(t, server, namespace, func(refused error) bool { return apierrors.IsForbidden(refused) || apierrors.IsInvalid(refused) })
		}
	}
	if !asked {
		return
	}
	got := parseSaid(t, liveRun(t, "scan", "--kubeconfig", kubeconfig, "-o", "jsonl", "--ask-server"))
	s.check(t, got, s.expect.situationOutcome)
	for i := range got.verdicts {
		v := &got.verdicts[i]
		if v.Layers == nil || !slices.ContainsFunc(v.Layers.Admission.Rulings, func(r admission.Ruling) bool {
			return r.By.Mechanism == admission.AskedServer && r.Answer == v.Layers.Admission.Answer
		}) {
			t.Errorf("%s: the API server does not confirm what admission is said to do: %+v", v.Workload, v.Layers)
		}
	}
}

// words is everything that was said of workloads, policies and nodes, in lines.
func (a *said) words() []string {
	var lines []string
	for i := range a.verdicts {
		v := &a.verdicts[i]
		lines = append(lines, fmt.Sprintf("%s is %s: %s (%d pods)", v.Workload, v.Verdict, v.Reason, v.Pods))
		if v.Layers == nil {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: admission %s: %s; reopen %s %v", v.Workload, v.Layers.Admission.Answer, v.Layers.Admission.Reason, v.Layers.Reopen, v.Layers.Reopens))
		for _, p := range v.Layers.Paths {
			lines = append(lines, fmt.Sprintf("%s: %s in %q is %s: %s; %+v %+v %+v", v.Workload, p.Path, p.Container, p.State, p.Reason, p.Admission, p.Runtime, p.Kernel))
		}
	}
	for _, f := range a.findings {
		lines = append(lines, fmt.Sprintf("%s %s on %s %s %s: %s %q %s", f.Severity, f.Rule, f.Workload, f.Container, f.Field, f.Message, f.Policies, f.Mend))
	}
	for _, p := range a.policies {
		lines = append(lines, fmt.Sprintf("%s %s/%s bites %s: %q (%d workloads, %d pods)", p.Kind, p.Namespace, p.Name, p.Bites, p.Reasons, p.Workloads, p.Pods))
	}
	for _, n := range a.nodes {
		if e := n.Enforcement; e != nil {
			lines = append(lines, fmt.Sprintf("node %s: %s %s %s %s: %s", n.Name, e.Capabilities, e.Processes, e.Agent, e.Grade, e.Reason))
		}
	}
	slices.Sort(lines)
	return lines
}

// without are the lines of a that b has not.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}
