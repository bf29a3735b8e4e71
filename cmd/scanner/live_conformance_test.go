package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/scan"
)

// samplePod is a conformance pod under a name that the server takes and no other
// has.
type samplePod struct {
	oracle.Pod
	name string
}

// samplePods are the pods for a level and a version, those that pass and those
// that fail.
func samplePods(t *testing.T, level, version string) []samplePod {
	t.Helper()
	var pods []samplePod
	for _, pod := range oracle.ConformancePods(t, level, version) {
		answer := filepath.Base(filepath.Dir(pod.File))
		name := fmt.Sprintf("%s-%s-%s", level, answer, pod.Pod.Name)
		pods = append(pods, samplePod{pod, strings.ReplaceAll(name, "_", "-")})
	}
	if len(pods) < 40 {
		t.Fatalf("%d pods for %s %s", len(pods), level, version)
	}
	return pods
}

// createAll creates the pods, several at once, and gives the error of each.
func (s liveSpace) createAll(namespace string, pods []samplePod, options metav1.CreateOptions) []error {
	s.Helper()
	// That half of their fields are deprecated is no news.
	config := s.server.Config()
	config.WarningHandler = rest.NoWarnings{}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.Fatal(err)
	}
	client := clientset.CoreV1().Pods(namespace)
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				pod := pods[i].Pod.Pod.DeepCopy()
				pod.Name = pods[i].name
				_, errs[i] = client.Create(s.Context(), pod, options)
			}
		})
	}
	for i := range pods {
		next <- i
	}
	close(next)
	wg.Wait()
	return errs
}

// Of the pods that pod-security-admission ships, the API server refuses exactly
// those that the scan of their files says it would.
func TestLiveServerRefusesWhatTheScanRefuses(t *testing.T) {
	s := newLiveSpace(t)
	server, err := s.server.Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	own := minorOf(server.GitVersion)
	for _, version := range []string{"v1.24", "v1.30", "v1.34", own} {
		for _, level := range []string{"baseline", "restricted"} {
			t.Run(level+"/"+version, func(t *testing.T) {
				enforced := s.server.Namespace(t, map[string]string{
					psa.EnforceLevelLabel: level, psa.EnforceVersionLabel: version,
				})
				pods := samplePods(t, level, version)
				errs := s.createAll(enforced, pods, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				said := verdictsByFile(t, pods, level, version)

				var invalid []string
				refused := 0
				for i, err := range errs {
					pod := pods[i]
					verdict := said[pod.File]
					switch {
					case verdict == nil:
						t.Errorf("%s: no verdict", pod.name)
					case apierrors.IsInvalid(err):
						invalid = append(invalid, pod.name)
					case err == nil && !verdict.PSSAllowed:
						t.Errorf("%s: the server takes it, the scan refuses it by %q", pod.name, verdict.Controls)
					case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity"):
						refused++
						if verdict.PSSAllowed {
							t.Errorf("%s: the scan allows it, the server does not: %v", pod.name, err)
						}
					case err != nil:
						t.Errorf("%s: %v", pod.name, err)
					}
				}
				t.Logf("%d pods: %d refused by the standards, %d by validation: %q", len(pods), refused, len(invalid), invalid)
				if len(invalid) > len(pods)/10 {
					t.Errorf("validation refuses %d of %d pods: this proves too little", len(invalid), len(pods))
				}
				if refused == 0 || refused == len(pods) {
					t.Errorf("%d of %d refused", refused, len(pods))
				}
			})
		}
	}
}

// verdictsByFile are the verdicts of a scan of the pods' files.
func verdictsByFile(t *testing.T, pods []samplePod, level, version string) map[string]*scan.WorkloadVerdict {
	t.Helper()
	args := []string{"scan", "-o", "jsonl", "--level", level, "--pss-version", version, "--fail-on", "none"}
	for _, pod := range pods {
		args = append(args, "-f", pod.File)
	}
	a := liveParse(t, liveRun(t, args...))
	a.wantComplete(t, exitOK)
	verdicts := map[string]*scan.WorkloadVerdict{}
	for i := range a.verdicts {
		verdicts[a.verdicts[i].Location.File] = &a.verdicts[i]
	}
	return verdicts
}

// A pod is judged the same in a cluster, with all that the server filled in, as in
// its file.
func TestLiveScanEqualsScanOfFiles(t *testing.T) {
	s := newLiveSpace(t)
	server, err := s.server.Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	version := minorOf(server.GitVersion)
	pods := append(samplePods(t, "baseline", version), samplePods(t, "restricted", version)...)
	dir := t.TempDir()
	created := 0
	for i, err := range s.createAll(s.name, pods, metav1.CreateOptions{}) {
		if apierrors.IsInvalid(err) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", pods[i].name, err)
		}
		created++
		pod := pods[i].Pod.Pod.DeepCopy()
		pod.Name, pod.Namespace = pods[i].name, s.name
		data, err := yaml.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pods[i].name+".yaml"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, level := range []string{"baseline", "restricted"} {
		t.Run(level, func(t *testing.T) {
			flags := []string{"--level", level, "--fail-on", "none"}
			live := liveScan(t, s.server.Config(), append(flags, "-n", s.name, "--page-size", "17")...)
			live.wantComplete(t, exitOK)
			files := liveParse(t, liveRun(t, append(flags, "scan", "-o", "jsonl", "-f", dir, "--pss-version", version)...))
			files.wantComplete(t, exitOK)
			if len(live.verdicts) != created || len(files.verdicts) != created {
				t.Errorf("%d pods, %d verdicts live, %d of files", created, len(live.verdicts), len(files.verdicts))
			}
			inCluster, inFiles := live.said(), files.said()
			for name, want := range inFiles {
				if got := inCluster[name]; got != want {
					t.Errorf("%s\nlive:  %s\nfiles: %s", name, got, want)
				}
			}
		})
	}
}

// said is what a scan says of each workload, one text each.
func (a *liveAudit) said() map[string]string {
	lines := map[string][]string{}
	for _, v := range a.verdicts {
		lines[v.Workload.Name] = append(lines[v.Workload.Name], fmt.Sprintf("%s %q %q", v.Verdict, v.Controls, v.Paths))
	}
	for _, f := range a.findings {
		// The server writes the old annotation into the field as well; a file has but
		// the one.
		if strings.Contains(f.Workload.Name, "-fail-apparmorprofile") && strings.HasSuffix(f.Field, ".appArmorProfile.type") {
			continue
		}
		lines[f.Workload.Name] = append(lines[f.Workload.Name], fmt.Sprintf("%s %s %s %s", f.Rule, f.Severity, f.Container, f.Field))
	}
	said := map[string]string{}
	for name, text := range lines {
		slices.Sort(text)
		said[name] = strings.Join(text, "\n       ")
	}
	return said
}
