package preview_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	scanarmor "github.com/escape-scanner/escape-scanner/scan/armor"
)

// recordings is what a real KubeArmor with BPF-LSM did, testdata has the scripts of what
// was tried.
const recordings = "../../scan/armor/testdata/recordings"

func documents(t testing.TB, file string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordings, file))
	if err != nil {
		t.Fatal(err)
	}
	var docs []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		doc := &unstructured.Unstructured{}
		err := dec.Decode(doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		docs = append(docs, doc)
	}
}

// recordedSet are the policies that were in force.
func recordedSet(t testing.TB, file string) *set.Set {
	t.Helper()
	parts := map[string]set.Part{"escape-caps": set.PartCapabilities, "escape-chroot": set.PartChroot, "escape-pkg": set.PartTools}
	s := &set.Set{}
	for _, doc := range documents(t, "policies/"+file) {
		s.Objects = append(s.Objects, set.Object{Part: parts[doc.GetName()], Enforce: doc})
	}
	return s
}

// recordedPods are the pods of the recordings by the names of their workloads.
func recordedPods(t testing.TB, file string) map[string]*corev1.Pod {
	t.Helper()
	pods := map[string]*corev1.Pod{}
	for _, doc := range documents(t, file) {
		data, err := doc.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{}
		switch doc.GetKind() {
		case "Pod":
			err = json.Unmarshal(data, pod)
		case "Deployment":
			var d appsv1.Deployment
			err = json.Unmarshal(data, &d)
			pod.ObjectMeta, pod.Spec = d.Spec.Template.ObjectMeta, d.Spec.Template.Spec
			pod.Namespace = d.Namespace
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		pods[doc.GetName()] = pod
	}
	return pods
}

// statuses are the exit statuses of attempts, of one section of a file with several.
func statuses(t testing.TB, file, section string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordings, file))
	if err != nil {
		t.Fatal(err)
	}
	found, in := map[string]int{}, section == ""
	for line := range strings.Lines(string(data)) {
		if head, ok := strings.CutPrefix(line, "== "); ok {
			in = strings.HasPrefix(head, section+" ")
		}
		name, rest, ok := strings.Cut(line, "|")
		if !ok || !in {
			continue
		}
		number, _, _ := strings.Cut(rest, "|")
		status, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		found[name] = status
	}
	if len(found) == 0 {
		t.Fatalf("%s: no results", file)
	}
	return found
}

// attempts are the commands of a script of attempts, as the shell takes them.
func attempts(t testing.TB, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if fields := strings.SplitN(strings.TrimSpace(line), " ", 3); len(fields) == 3 && fields[0] == "t" {
			found[fields[1]] = "eval " + fields[2]
		}
	}
	return found
}

func previewOf(s *set.Set, name string, pod *corev1.Pod) preview.Workload {
	w := workloadOf("Deployment", name, targets.Specimen{Pod: pod, Live: 1, Nodes: []string{"node1"}})
	return preview.Judge(inputOf(s, w)).Workloads[0]
}

// breaking tells what the preview says of programs called in a container.
func breaking(w preview.Workload) (certain, possible bool) {
	for _, e := range w.Effects {
		if e.Part != set.PartChroot && e.Part != set.PartTools || e.Element == "" {
			continue
		}
		certain, possible = certain || e.Outcome == preview.Breaks, possible || e.Outcome == preview.MayBreak
	}
	return certain, possible
}

// lookInto is what resolving paths inside of the two images yields: Debian 12 has a
// merged /usr, BusyBox links its applets to one file.
func lookInto(image string) map[string]string {
	found := map[string]string{}
	for _, file := range scanarmor.PathsToInspect(nil) {
		dir, name := filepath.Split(file)
		found[file] = ""
		switch {
		case strings.Contains(image, "busybox"):
			if dir == "/bin/" && slices.Contains([]string{"chroot", "wget", "dpkg"}, name) {
				found[file] = "/bin/busybox"
			}
		case name == "chroot" && strings.HasSuffix(dir, "/sbin/"):
			found[file] = "/usr/sbin/chroot"
		case strings.HasSuffix(dir, "/bin/") && dir != "/usr/local/bin/" &&
			slices.Contains([]string{"apt", "apt-get", "dpkg", "make", "curl", "wget"}, name):
			found[file] = "/usr/bin/" + name
		}
	}
	return found
}

// A workload that does what was tried on the real node: what the preview says breaks was
// refused there and not without the policies, and all that was refused is foreseen. Who
// did not look into the container cannot know that a program is not there at all.
func TestRecordedCalls(t *testing.T) {
	t.Parallel()
	s, pods, tried := recordedSet(t, "escape-block.yaml"), recordedPods(t, "apps.yaml"), attempts(t, "attempts.sh")
	seen := 0
	for _, name := range []string{"plain", "caps", "priv", "busy", "other"} {
		under, without := statuses(t, "block-nothrottle."+name+".results", ""), statuses(t, "baseline.results", name)
		for attempt, command := range tried {
			status, ran := under[attempt]
			if !ran {
				continue
			}
			pod := pods[name].DeepCopy()
			pod.Spec.Containers[0].Command = []string{"sh", "-c", "sleep 1; " + command}
			refused, absent := status == 126 && without[attempt] == 0, without[attempt] == 127
			for _, inspected := range []map[string]map[string]string{nil, {"web": lookInto(pod.Spec.Containers[0].Image)}} {
				w := workloadOf("Deployment", name, targets.Specimen{Pod: pod, Live: 1, Nodes: []string{"node1"}, Inspected: inspected})
				certain, possible := breaking(preview.Judge(inputOf(s, w)).Workloads[0])
				switch {
				case certain && !refused && (!absent || inspected != nil):
					t.Errorf("%s: %s: the preview says that it breaks, and it ended with %d", name, attempt, status)
				case refused && !certain:
					t.Errorf("%s: %s was refused, and the preview does not say so (possible: %t)", name, attempt, possible)
				case refused:
					seen++
				}
			}
		}
	}
	if seen < 80 {
		t.Errorf("only %d refusals were compared", seen)
	}
}

// What broke of ordinary software is foreseen, by the effect that is about it.
func TestRecordedBreakage(t *testing.T) {
	t.Parallel()
	const files, folders, others = "files of the image", "nothing can be created", "files of other users"
	about := map[string]string{
		"touch-lower-file": files, "chmod-lower-file": files, "append-lower-file": files, "rm-lower-file": folders,
		"replace-lower-dir": files, "mv-lower-dir": files, "mv-lower-file": files, "hardlink": files, "tar": folders,
		"log-owned-by-www-data": others, "ls-dir-700-of-other": others, "proc-exe-of-other-uid": others,
	}
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "apps.yaml")
	w := previewOf(s, "plain", pods["plain"])
	under, without := statuses(t, "legit-block.plain.results", ""), statuses(t, "legit-block.other.results", "")
	for attempt := range attempts(t, "legit.sh") {
		broke := under[attempt] != 0 && without[attempt] == 0
		what, named := about[attempt]
		if broke != named {
			t.Errorf("%s ended with %d, and is to be about %q", attempt, under[attempt], what)
		}
		foreseen := slices.ContainsFunc(w.Effects, func(e preview.Effect) bool { return strings.Contains(e.What, what) })
		if broke && !foreseen {
			t.Errorf("%s broke, and the preview says nothing of %q", attempt, what)
		}
	}
	if w.Outcome != preview.MayBreak {
		t.Errorf("plain: %s", w.Outcome)
	}
	// Pods that no policy selects are left alone.
	if other := previewOf(s, "other", pods["other"]); len(other.Effects) > 0 {
		t.Errorf("other: %+v", other.Effects)
	}
}

// What asks for SYS_ADMIN by name breaks, and broke.
func TestRecordedCapability(t *testing.T) {
	t.Parallel()
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "apps.yaml")
	for name, want := range map[string]preview.Outcome{"caps": preview.Breaks, "priv": preview.MayBreak, "plain": ""} {
		var got preview.Outcome
		for _, e := range previewOf(s, name, pods[name]).Effects {
			if strings.HasPrefix(e.What, "what it does with") && strings.Contains(e.What, "SYS_ADMIN") {
				got = e.Outcome
			}
		}
		under, without := statuses(t, "block-nothrottle."+name+".results", ""), statuses(t, "baseline.results", name)
		broke := under["mount-tmpfs"] != 0 && without["mount-tmpfs"] == 0
		if got != want || broke != (want != "") {
			t.Errorf("%s: %q, want %q; mounting broke: %t", name, got, want, broke)
		}
	}
}

// Which kinds of containers the policies reached: in those, and in no others, a call
// breaks.
func TestRecordedCoverage(t *testing.T) {
	t.Parallel()
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "coverage-pods.yaml")
	data, err := os.ReadFile(filepath.Join(recordings, "coverage.results"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || pods[fields[0]] == nil {
			continue
		}
		numbers := slices.DeleteFunc(slices.Clone(fields[2:]), func(f string) bool { return strings.Trim(f, "0123456789") != "" })
		var breaks, hidden bool
		for _, e := range previewOf(s, fields[0], pods[fields[0]]).Effects {
			if e.Container == fields[1] {
				breaks = breaks || e.Outcome == preview.Breaks && e.Element == "chroot"
				hidden = hidden || e.Outcome == preview.NotCovered
			}
		}
		blocked := numbers[0] != "0"
		if breaks != blocked || hidden == blocked {
			t.Errorf("%s: breaks %t, not covered %t", strings.TrimSpace(line), breaks, hidden)
		}
		compared++
	}
	if compared != 6 {
		t.Errorf("%d lines compared", compared)
	}
}

func alertsOf(t testing.TB, file string) []scanarmor.Alert {
	t.Helper()
	data, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	var alerts []scanarmor.Alert
	err = armor.ReadRecording(t.Context(), data, func(a scanarmor.Alert) error {
		alerts = append(alerts, a)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return alerts
}

// What audit policies reported would break, and broke when they were to block.
func TestRecordedAlerts(t *testing.T) {
	t.Parallel()
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "apps.yaml")
	var all []targets.Workload
	for _, name := range []string{"priv", "busy", "plain"} {
		all = append(all, workloadOf("Deployment", name, targets.Specimen{Pod: pods[name], Live: 1, Nodes: []string{"node1"}}))
	}
	in := inputOf(s, all...)
	in.Alerts = alertsOf(t, filepath.Join(recordings, "audit.jsonl"))
	refused := statuses(t, "block-nothrottle.priv.results", "")
	for _, w := range preview.Judge(in).Workloads {
		var seen []string
		for _, e := range w.Effects {
			if e.Outcome == preview.Breaks && strings.HasPrefix(e.What, "was seen to call") {
				seen = append(seen, e.Element)
				if refused[e.Element] != 126 {
					t.Errorf("%s was seen, and ended with %d when it was to be blocked", e.Element, refused[e.Element])
				}
				if !strings.Contains(e.Why, "KubeArmor reported it") || !strings.Contains(e.Why, "called by /usr/bin/dash") || e.Pods != 1 {
					t.Errorf("%+v", e)
				}
			}
		}
		want := []string{}
		if w.Workload.Name == "priv" {
			want = []string{"chroot", "apt", "apt-get", "curl", "dpkg", "make", "wget"}
		}
		if !slices.Equal(slices.Sorted(slices.Values(seen)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, want %q", w.Workload.Name, seen, want)
		}
	}
}
