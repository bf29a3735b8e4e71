package armor_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// recordings holds what a real KubeArmor with BPF-LSM did: policies, the pods they
// were tried in, and the exit status and first line of every attempt.
var recordings = filepath.Join("testdata", "recordings")

// recordedNode is what was true of the node of the recordings.
var recordedNode = kernel.Enforcement{
	Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf",
}

// documents decodes every document of a YAML file of the recordings to JSON.
func documents(t testing.TB, file string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordings, file))
	if err != nil {
		t.Fatal(err)
	}
	var docs [][]byte
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		docs = append(docs, doc)
	}
}

func recordedPolicies(t testing.TB, file string) []*armor.Policy {
	t.Helper()
	var policies []*armor.Policy
	for _, doc := range documents(t, filepath.Join("policies", file)) {
		p, err := armor.Decode(armor.KubeArmorPolicy, doc)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		policies = append(policies, p)
	}
	return policies
}

// recordedPod is a pod of the recordings with the capabilities that its first
// container holds, nil for all.
type recordedPod struct {
	armor.Pod
	held []string
}

func (p *recordedPod) holds(name string) bool { return p.held == nil || slices.Contains(p.held, name) }

// runtimeDefaults are the capabilities that containerd gives when a pod says
// nothing.
var runtimeDefaults = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
	"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// recordedPods reads the pods of a file by the names that the results have them
// under.
func recordedPods(t testing.TB, policies []*armor.Policy, files ...string) map[string]*recordedPod {
	t.Helper()
	pods := map[string]*recordedPod{}
	for _, file := range files {
		for _, doc := range documents(t, file) {
			var kind struct{ Kind string }
			if err := json.Unmarshal(doc, &kind); err != nil {
				t.Fatal(err)
			}
			var pod corev1.Pod
			switch kind.Kind {
			case "Pod":
				if err := json.Unmarshal(doc, &pod); err != nil {
					t.Fatal(err)
				}
			case "Deployment":
				var d appsv1.Deployment
				if err := json.Unmarshal(doc, &d); err != nil {
					t.Fatal(err)
				}
				pod.ObjectMeta, pod.Spec = d.Spec.Template.ObjectMeta, d.Spec.Template.Spec
				pod.Name, pod.Namespace = d.Name, d.Namespace
			default:
				continue
			}
			pods[pod.Name] = convert(&pod, armor.PathsToInspect(policies))
		}
	}
	return pods
}

func convert(pod *corev1.Pod, inspect []string) *recordedPod {
	p := &recordedPod{Pod: armor.Pod{
		Namespace: pod.Namespace, Labels: pod.Labels, Annotations: pod.Annotations,
		HostPID: pod.Spec.HostPID, Node: recordedNode,
	}}
	for _, c := range pod.Spec.InitContainers {
		kind := armor.Init
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = armor.Sidecar
		}
		p.Containers = append(p.Containers, armor.Container{Name: c.Name, Image: c.Image, Kind: kind, Paths: lookInto(c.Image, inspect)})
	}
	for _, c := range pod.Spec.Containers {
		p.Containers = append(p.Containers, armor.Container{Name: c.Name, Image: c.Image, Kind: armor.Ordinary, Paths: lookInto(c.Image, inspect)})
	}
	p.held = slices.Clone(runtimeDefaults)
	if sc := pod.Spec.Containers[0].SecurityContext; sc != nil {
		if sc.Privileged != nil && *sc.Privileged {
			p.held = nil
		} else if sc.Capabilities != nil {
			for _, add := range sc.Capabilities.Add {
				p.held = append(p.held, string(add))
			}
		}
	}
	return p
}

// lookInto is what resolving paths inside of the two images yields. Debian 12 has a
// merged /usr; BusyBox links its applets to /bin/busybox.
func lookInto(image string, inspect []string) map[string]string {
	found := map[string]string{}
	for _, file := range inspect {
		found[file] = ""
		switch name := path.Base(file); {
		case strings.Contains(image, "busybox"):
			if path.Dir(file) == "/bin" && slices.Contains([]string{"chroot", "wget", "dpkg", "busybox"}, name) {
				found[file] = "/bin/busybox"
			}
		case slices.Contains([]string{"/usr/sbin", "/sbin"}, path.Dir(file)) && name == "chroot":
			found[file] = "/usr/sbin/chroot"
		case slices.Contains([]string{"/usr/bin", "/bin"}, path.Dir(file)) &&
			slices.Contains([]string{"apt", "apt-get", "dpkg", "make", "curl", "wget", "sleep", "dash", "head", "cut"}, name):
			found[file] = "/usr/bin/" + name
		}
	}
	return found
}

// result is one line of a .results file.
type result struct {
	status int
	line   string
}

func readResults(t testing.TB, file, section string) map[string]result {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordings, file))
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]result{}
	in := section == ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if head, ok := strings.CutPrefix(line, "== "); ok {
			in = section != "" && strings.HasPrefix(head, section+" ")
			continue
		}
		parts := strings.SplitN(line, "|", 3)
		if !in || len(parts) != 3 {
			continue
		}
		status, err := strconv.Atoi(parts[1])
		if err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		results[parts[0]] = result{status, parts[2]}
	}
	if len(results) == 0 {
		t.Fatalf("%s: no results", file)
	}
	return results
}

// worked tells whether the attempt reached what it was after.
func (a attempt) worked(r result) bool {
	if a.shows != "" {
		return strings.HasPrefix(r.line, a.shows)
	}
	return r.status == a.status
}

// predict joins what becomes of the deeds of an attempt. held is false when the pod
// lacks a capability that the attempt needs: then it never works.
func predict(t testing.TB, policies []*armor.Policy, pod *recordedPod, container string, deeds string) (status armor.Status, held bool) {
	t.Helper()
	status = armor.NotCovered
	for deed := range strings.FieldsSeq(deeds) {
		var outcomes []armor.Status
		for one := range strings.SplitSeq(deed, "|") {
			if strings.HasPrefix(one, "/") {
				outcomes = append(outcomes, armor.Predict(policies, pod.Pod, container, armor.Deed{Exec: one}).Status)
				continue
			}
			// "+" is a capability that is asked for whatever the container holds: by
			// the overlay file system in its mounter's name, or in a new user namespace.
			name, always := strings.CutPrefix(one, "+")
			if always || pod.holds(name) {
				outcomes = append(outcomes, armor.Predict(policies, pod.Pod, container, armor.Deed{Capability: name}).Status)
			}
		}
		switch {
		case len(outcomes) == 0:
			return status, false
		case slices.ContainsFunc(outcomes, func(s armor.Status) bool { return s != armor.Blocked && s != armor.Unknown }):
		case slices.Contains(outcomes, armor.Unknown):
			if status != armor.Blocked {
				status = armor.Unknown
			}
		default:
			status = armor.Blocked
		}
	}
	return status, true
}

// tally counts predictions against what happened.
type tally struct{ equal, unknown, skipped, falselyBlocked, falselyPassed int }

func (c *tally) add(o tally) {
	c.equal += o.equal
	c.unknown += o.unknown
	c.skipped += o.skipped
	c.falselyBlocked += o.falselyBlocked
	c.falselyPassed += o.falselyPassed
}

func compare(t *testing.T, policies []*armor.Policy, pod *recordedPod, attempts map[string]attempt, before, after map[string]result) tally {
	t.Helper()
	container := pod.Containers[len(pod.Containers)-1].Name
	selected := armor.NewIndex(policies).Select(pod.Namespace, pod.Labels)
	var c tally
	for name, was := range before {
		a, ok := attempts[name]
		if !ok {
			t.Errorf("attempt %s: not in the table", name)
			continue
		}
		is, ok := after[name]
		if !ok {
			t.Errorf("attempt %s: not in the recording with policies", name)
			continue
		}
		predicted, held := predict(t, selected, pod, container, a.deeds)
		if !a.worked(was) || !held {
			// It does not work without policies either: nothing to tell.
			c.skipped++
			continue
		}
		switch blocked := !a.worked(is); {
		case predicted == armor.Unknown:
			c.unknown++
			t.Logf("%s: unknown", name)
		case blocked == (predicted == armor.Blocked):
			c.equal++
		case predicted == armor.Blocked:
			c.falselyBlocked++
			t.Errorf("%s: predicted to be blocked, and ran: %d %q", name, is.status, is.line)
		default:
			c.falselyPassed++
			t.Errorf("%s: predicted to pass (%s), and was blocked: %d %q", name, predicted, is.status, is.line)
		}
	}
	return c
}

func TestPredictionsEqualWhatKubeArmorDid(t *testing.T) {
	type recording struct{ name, policies, pod, before, section, after string }
	list := []recording{
		{"legit-block", "escape-block.yaml", "plain", "legit-block.other.results", "", "legit-block.plain.results"},
		{"legit-block", "escape-block.yaml", "other", "legit-block.other.results", "", "legit-block.other.results"},
		{"audit", "escape-audit.yaml", "busy", "baseline.results", "busy", "audit.busy.results"},
		{"audit", "escape-audit.yaml", "priv", "baseline.results", "priv", "audit.priv.results"},
	}
	for _, pod := range []string{"plain", "caps", "priv", "busy", "other"} {
		list = append(list, recording{"block-nothrottle", "escape-block.yaml", pod, "baseline.results", pod, "block-nothrottle." + pod + ".results"})
	}
	for _, pod := range []string{"plain", "caps", "priv", "privpid", "pidcaps", "hostroot", "shocker"} {
		list = append(list, recording{"escape-block", "escape-block.yaml", pod, "escape-without." + pod + ".results", "", "escape-block." + pod + ".results"})
	}
	var all tally
	for _, r := range list {
		t.Run(r.name+"/"+r.pod, func(t *testing.T) {
			policies := recordedPolicies(t, r.policies)
			pod := recordedPods(t, policies, "apps.yaml", "escape-pods.yaml")[r.pod]
			attempts := attemptsOf(r.name)
			if r.pod == "busy" {
				attempts = inBusyBox(attempts)
			}
			c := compare(t, policies, pod, attempts, readResults(t, r.before, r.section), readResults(t, r.after, ""))
			t.Logf("%d equal, %d unknown, %d that do not work without policies either", c.equal, c.unknown, c.skipped)
			if c.equal == 0 {
				t.Error("nothing was compared")
			}
			all.add(c)
		})
	}
	t.Logf("in all: %d equal, %d unknown, %d skipped, %d falsely blocked, %d falsely passed",
		all.equal, all.unknown, all.skipped, all.falselyBlocked, all.falselyPassed)
	if all.unknown*10 > all.equal+all.unknown {
		t.Errorf("%d of %d predictions are unknown", all.unknown, all.equal+all.unknown)
	}
}

// Without looking into the containers fewer things can be told, and none wrongly.
func TestPredictionsWithoutLookingIntoContainersAreNotWrong(t *testing.T) {
	policies := recordedPolicies(t, "escape-block.yaml")
	pods := recordedPods(t, policies, "apps.yaml")
	for _, name := range []string{"plain", "caps", "priv", "busy", "other"} {
		t.Run(name, func(t *testing.T) {
			pod := pods[name]
			for i := range pod.Containers {
				pod.Containers[i].Paths = nil
			}
			attempts := attemptsOf("block-nothrottle")
			if name == "busy" {
				attempts = inBusyBox(attempts)
			}
			c := compare(t, policies, pod, attempts, readResults(t, "baseline.results", name), readResults(t, "block-nothrottle."+name+".results", ""))
			t.Logf("%d equal, %d unknown, %d skipped", c.equal, c.unknown, c.skipped)
		})
	}
}

// coverage.results counts for each container how often chroot was blocked and ran.
// A new container's first exec escapes, so one run among many blocked is no breach.
func TestCoverageOfKindsOfContainers(t *testing.T) {
	policies := recordedPolicies(t, "escape-block.yaml")
	pods := recordedPods(t, policies, "coverage-pods.yaml", "apps.yaml")
	pods["plain"].Containers = append(pods["plain"].Containers, armor.Container{Name: "dbg", Kind: armor.Ephemeral, Image: "docker.io/local/debian:12"})
	data, err := os.ReadFile(filepath.Join(recordings, "coverage.results"))
	if err != nil {
		t.Fatal(err)
	}
	ix := armor.NewIndex(policies)
	seen := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(strings.NewReplacer("(init container)", "", "(restartable init)", "", "(ephemeral)", "").Replace(line))
		if len(fields) < 4 || fields[0] == "#" {
			continue
		}
		blocked, err := strconv.Atoi(fields[2])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		pod := pods[fields[0]]
		got := armor.Predict(ix.Select(pod.Namespace, pod.Labels), pod.Pod, fields[1], armor.Deed{Exec: "/usr/sbin/chroot"})
		if (got.Status == armor.Blocked) != (blocked > 0) || got.Status == armor.Unknown {
			t.Errorf("%s %s: predicted %s (%s), recorded %d times blocked", fields[0], fields[1], got.Status, got.Reason, blocked)
		}
		seen++
	}
	if seen != 7 {
		t.Errorf("%d containers in coverage.results, want 7", seen)
	}
}

// burst and smoke: one policy on chroot, tried in two pods, always 126.
func TestOnePolicyOnChroot(t *testing.T) {
	policies := recordedPolicies(t, "chroot-block.yaml")
	pods := recordedPods(t, policies, "apps.yaml")
	for file, name := range map[string]string{"burst.priv.results": "priv", "smoke.plain.results": "plain"} {
		data, err := os.ReadFile(filepath.Join(recordings, file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte("126")) {
			t.Fatalf("%s: no exec was blocked", file)
		}
		pod := pods[name]
		got := armor.Predict(policies, pod.Pod, pod.Containers[0].Name, armor.Deed{Exec: "/usr/sbin/chroot"})
		if got.Status != armor.Blocked {
			t.Errorf("%s: %s (%s)", file, got.Status, got.Reason)
		}
	}
}

// Every alert that names a policy is about something that this policy decides on:
// KubeArmor's own word on which policy it was.
func TestAlertsNameThePolicyThatDecides(t *testing.T) {
	for file, policyFile := range map[string]string{
		"audit.jsonl": "escape-audit.yaml", "escape-block.jsonl": "escape-block.yaml", "entrypoint.jsonl": "entrypoint.yaml",
	} {
		policies := recordedPolicies(t, policyFile)
		pods := recordedPods(t, policies, "apps.yaml", "escape-pods.yaml")
		data, err := os.ReadFile(filepath.Join(recordings, file))
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for scanner := bufio.NewScanner(bytes.NewReader(data)); scanner.Scan(); {
			var alert struct {
				Msg struct{ PodName, Operation, ProcessName, Source, Resource, PolicyName, Action string }
			}
			if err := json.Unmarshal(scanner.Bytes(), &alert); err != nil {
				t.Fatal(err)
			}
			m := alert.Msg
			name, _, _ := strings.Cut(m.PodName, "-")
			pod := pods[name]
			if m.PolicyName == "" || pod == nil {
				continue
			}
			deed := armor.Deed{Capability: m.Resource, From: m.ProcessName}
			if m.Operation == "Process" {
				deed = armor.Deed{Exec: m.ProcessName, From: m.Source}
			}
			want := armor.Blocked
			if m.Action == "Audit" {
				want = armor.Audited
			}
			got := armor.Predict(policies, pod.Pod, pod.Containers[0].Name, deed)
			if got.Status != want || len(got.By) != 1 || got.By[0].Name != m.PolicyName {
				t.Errorf("%s: %s %+v: %s by %v, the alert says %s by %s", file, m.PodName, deed, got.Status, got.By, want, m.PolicyName)
			}
			checked++
		}
		if checked == 0 {
			t.Errorf("%s: no alert was checked", file)
		}
		t.Logf("%s: %d alerts", file, checked)
	}
}
