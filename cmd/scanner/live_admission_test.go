package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// labelSets are the ways in which the namespaces of the test below are labelled.
func labelSets() map[string]map[string]string {
	type labels = map[string]string
	sets := map[string]labels{
		"no labels":                    nil,
		"warn and audit only":          {psa.WarnLevelLabel: "restricted", psa.AuditLevelLabel: "restricted"},
		"baseline, warn restricted":    {psa.EnforceLevelLabel: "baseline", psa.WarnLevelLabel: "restricted"},
		"a version without a level":    {psa.EnforceVersionLabel: "v1.24"},
		"a version beyond the server":  {psa.EnforceLevelLabel: "restricted", psa.EnforceVersionLabel: "v1.99"},
		"invalid level":                {psa.EnforceLevelLabel: "Baseline"},
		"invalid level, old version":   {psa.EnforceLevelLabel: "strict", psa.EnforceVersionLabel: "v1.24"},
		"invalid version":              {psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "1.24"},
		"invalid level of warn, audit": {psa.EnforceLevelLabel: "baseline", psa.WarnLevelLabel: "x", psa.AuditLevelLabel: "x"},
	}
	for _, level := range []string{"privileged", "baseline", "restricted"} {
		for _, version := range []string{"v1.24", "v1.30", "v1.34", "latest"} {
			if level != "privileged" || version == "latest" {
				sets[level+":"+version] = labels{psa.EnforceLevelLabel: level, psa.EnforceVersionLabel: version}
			}
		}
	}
	return sets
}

// What is said of admission by a namespace's labels is what the API server does, to
// the words: for the conformance pods, under every level, several versions, labels
// that only report and labels that mean nothing.
func TestLiveAdmissionByLabelsIsTheServers(t *testing.T) {
	server := liveServers.Server(t)
	version, err := server.Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	own, err := psa.ParseVersion(minorOf(version.GitVersion))
	if err != nil {
		t.Fatal(err)
	}
	client := quietClient(t, server.Config())
	pods := defaultedPods(t, client, server.Namespace(t, nil), own)
	total, refused := 0, 0
	for name, labels := range labelSets() {
		t.Run(name, func(t *testing.T) {
			namespace := labelledNamespace(t, client, server.Namespace(t, nil), labels)
			errs := dryRunAll(t, client, namespace.Name, pods)
			for i, err := range errs {
				pod := pods[i].DeepCopy()
				pod.Namespace = namespace.Name
				set := admission.Set{Server: own}
				said := set.Decide(admission.Subject{Pod: pod, Namespace: namespace, OwnerKind: "Pod", OwnerName: pod.Name})
				total++
				switch {
				case err == nil:
					if said.Answer != admission.Admits {
						t.Errorf("%s: the server takes it; said: %s, %s", pod.Name, said.Answer, said.Reason)
					}
				case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity"):
					refused++
					message, _, _ := strings.Cut(said.Rulings[0].Message, "; the label's value")
					message, _, _ = strings.Cut(message, " (the API server's own")
					if said.Answer != admission.Refuses || !strings.HasSuffix(err.Error(), message) {
						t.Errorf("%s: said: %s, %s\nthe server: %v", pod.Name, said.Answer, message, err)
					}
				default:
					t.Errorf("%s: %v", pod.Name, err)
				}
			}
		})
	}
	t.Logf("%d pods × %d labellings: %d asked, %d refused", len(pods), len(labelSets()), total, refused)
	if refused < total/4 || refused > total*3/4 {
		t.Errorf("%d of %d refused: this proves too little", refused, total)
	}
}

// The server enforces on pods alone: a Deployment passes whose pods are refused. A
// mirror pod is refused as any other.
func TestLiveAdmissionEnforcesOnPods(t *testing.T) {
	server := liveServers.Server(t)
	client := quietClient(t, server.Config())
	name := server.Namespace(t, map[string]string{psa.EnforceLevelLabel: "baseline"})
	namespace, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := corev1.PodSpec{HostPID: true, Containers: []corev1.Container{{Name: "c", Image: "example.org/c:1"}}}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: spec},
		},
	}
	if _, err := client.AppsV1().Deployments(name).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Errorf("the Deployment: %v", err)
	}
	for what, pod := range map[string]*corev1.Pod{
		"the Deployment's pod": {ObjectMeta: metav1.ObjectMeta{Name: "web-1"}, Spec: spec},
		"a mirror pod": {
			ObjectMeta: metav1.ObjectMeta{Name: "mirror", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}},
			Spec:       corev1.PodSpec{HostPID: true, NodeName: "node-1", Containers: spec.Containers},
		},
	} {
		_, err := client.CoreV1().Pods(name).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "violates PodSecurity") {
			t.Errorf("%s: %v", what, err)
		}
		pod.Namespace = name
		ruling := (&admission.Set{}).Decide(admission.Subject{Pod: pod, Namespace: namespace}).Rulings[0]
		if ruling.Answer != admission.Refuses {
			t.Errorf("%s: %+v", what, ruling)
		}
	}
}

// quietClient keeps the server's warnings of what it would refuse from the output.
func quietClient(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// labelledNamespace labels a namespace and gives it as the server then has it. Values
// that are not valid are refused on the namespace itself, as the server does; its
// status takes them, as a server without the plugin would.
func labelledNamespace(t *testing.T, client kubernetes.Interface, name string, labels map[string]string) *corev1.Namespace {
	t.Helper()
	namespaces := client.CoreV1().Namespaces()
	namespace, err := namespaces.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range labels {
		metav1.SetMetaDataLabel(&namespace.ObjectMeta, key, value)
	}
	_, err = namespaces.Update(t.Context(), namespace, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
	invalid := false
	for _, fault := range admission.NamespaceFaults(namespace, psa.Version{}) {
		invalid = invalid || fault.Cause == admission.CausePSAInvalid
	}
	if (err != nil) != invalid {
		t.Errorf("labels %v: invalid is %v, and the server says %v", labels, invalid, err)
	}
	namespace, err = namespaces.UpdateStatus(t.Context(), namespace, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}

// defaultedPods are conformance pods with all that the server fills in, without those
// that it takes for invalid: the failing ones of the server's own version, every
// passing one of restricted.
func defaultedPods(t *testing.T, client kubernetes.Interface, namespace string, own psa.Version) []*corev1.Pod {
	t.Helper()
	var pods []*corev1.Pod
	for _, p := range oracle.ConformancePods(t, "*", own.String()) {
		if p.Pass && p.Level == psa.LevelBaseline {
			continue
		}
		pod := p.Pod.DeepCopy()
		pod.Name = strings.ReplaceAll(fmt.Sprintf("%s-%s-%s", p.Level, filepath.Base(filepath.Dir(p.File)), pod.Name), "_", "-")
		pods = append(pods, pod)
	}
	var mu sync.Mutex
	valid := make([]*corev1.Pod, 0, len(pods))
	atOnce(len(pods), func(i int) {
		created, err := client.CoreV1().Pods(namespace).Create(t.Context(), pods[i], metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			created.ObjectMeta = pods[i].ObjectMeta
			valid = append(valid, created)
		case !apierrors.IsInvalid(err):
			t.Errorf("%s: %v", pods[i].Name, err)
		}
	})
	if len(valid) < 100 {
		t.Fatalf("%d of %d pods are valid: this proves too little", len(valid), len(pods))
	}
	return valid
}

// dryRunAll asks the server for each pod whether it would create it.
func dryRunAll(t *testing.T, client kubernetes.Interface, namespace string, pods []*corev1.Pod) []error {
	t.Helper()
	errs := make([]error, len(pods))
	atOnce(len(pods), func(i int) {
		_, errs[i] = client.CoreV1().Pods(namespace).Create(t.Context(), pods[i], metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	})
	return errs
}

// atOnce calls do with the numbers below n, several at once.
func atOnce(n int, do func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
