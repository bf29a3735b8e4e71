package snapshot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	entryHead = `{"apiVersion":"escape-scanner.github.io/v1","kind":"Inventory",`
	begun     = entryHead + `"begin":{"tool":"t","version":"v","time":"2026-11-22T12:00:00Z"}}` + "\n"
	finished  = entryHead + `"end":{}}` + "\n"
)

func TestAnInventoryThatIsNotWhole(t *testing.T) {
	d, err := read(t, begun+entryHead+`"read":{"of":"pods","items":1}}`+"\n"+`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b"},"spec":{"containers":[]}}`)
	if err != nil || len(d.Failures) != 1 || !strings.Contains(d.Failures[0].Message, "line 1: the inventory has no end: it was cut off") {
		t.Fatalf("%v, %+v", err, d.Failures)
	}
	if _, err := d.Nodes(t.Context()); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("nodes: %v", err)
	}
}

func TestInventoriesThatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"two":               {begun + finished + begun + finished, snapshot.ErrTwoInventories},
		"of another schema": {strings.ReplaceAll(begun+finished, "/v1", "/v2"), snapshot.ErrVersion},
	} {
		if _, err := read(t, test.text); !errors.Is(err, test.want) || !strings.Contains(err.Error(), "stdin: line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, entry := range []string{
		`}`, `"read":{"of":"pods"},"end":{}}`, `"read":{}}`, `"read":{"of":"secrets"}}`, `"read":{"of":"pods","items":-1}}`,
		`"read":{"of":"pods","failed":{}}}`, `"read":{"of":"pods","failed":{"class":"none","message":""}}}`, `"read":3}`,
		`"answer":{}}`, `"answer":{"labelledPod":{"selector":"a"}}}`, `"answer":{"probe":{"namespace":"a","name":"b"}}}`,
		`"answer":{"asked":{},"probe":{"data":{}}}}`, `"begin":{"selector":"a=(b"}}`,
	} {
		text := begun + entryHead + entry + "\n" + finished
		if strings.Contains(entry, "begin") {
			text = entryHead + entry + "\n" + finished
		}
		d, err := read(t, text)
		if err != nil || len(d.Failures) == 0 {
			t.Errorf("%s: %v, taken for sound", entry, err)
		}
	}
}

// FuzzEntry checks that no entry panics whoever asks, and that one that is refused
// does not make a reading whole.
func FuzzEntry(f *testing.F) {
	text, _ := recorded(f, demoCluster(f), scan.ClusterOptions{})
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"kind":"Inventory"`) {
			f.Add([]byte(line))
		}
	}
	f.Add([]byte(entryHead + `"answer":{"labelledPod":{"selector":"kubearmor-app=kubearmor","pod":{"spec":{"containers":[{}]}}}}}`))
	f.Add([]byte(entryHead + `"answer":{"owner":{"kind":"Pod","object":{"metadata":{"name":"a"}}}}}`))
	f.Add([]byte(entryHead + `"answer":{"parameter":{"group":"security.kubearmor.com","kind":"KubeArmorPolicy","object":[]}}}`))
	f.Fuzz(func(t *testing.T, entry []byte) {
		s := &snapshot.Snapshot{}
		if err := s.Add("escape-scanner.github.io/v1", "Inventory", []byte(entryHead+`"begin":{}}`)); err != nil {
			t.Fatal(err)
		}
		refused := s.Add("escape-scanner.github.io/v1", "Inventory", entry) != nil
		nodes, err := s.Nodes(t.Context())
		if refused && (err == nil || len(nodes) > 0) {
			t.Errorf("an entry that was refused was taken in: %v", err)
		}
		err = scan.ScanCluster(t.Context(), s, scan.ClusterOptions{Level: "baseline", PSSVersion: "latest", Probes: s.Probes()}, scan.HandlerFunc(func(scan.Event) error { return nil }))
		if version, verr := s.ServerVersion(t.Context()); err != nil && verr == nil {
			t.Errorf("scan: %v (version %q)", err, version)
		}
	})
}

// secret is what must not get into an inventory.
const secret = "s3cr3t"

func TestSecretsAreNotRecorded(t *testing.T) {
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"shop","uid":"u",
	"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"s3cr3t","example.com/a":"s3cr3t","s3cr3t/b":"c",
	 "container.apparmor.security.beta.kubernetes.io/c":"unconfined","kubearmor-policy":"audited"},
	"managedFields":[{"manager":"s3cr3t"}],"finalizers":["s3cr3t/x"]},
	"spec":{"containers":[{"name":"c","image":"i","command":["/bin/app","--password=s3cr3t"],"args":["s3cr3t"],
	 "env":[{"name":"PASSWORD","value":"s3cr3t"},{"name":"REF","valueFrom":{"secretKeyRef":{"name":"r","key":"k"}}}],
	 "livenessProbe":{"exec":{"command":["curl","-u","s3cr3t"]}},
	 "readinessProbe":{"httpGet":{"path":"/ok?token=s3cr3t","port":80,"host":"10.0.0.1","httpHeaders":[{"name":"A","value":"s3cr3t"}]}},
	 "lifecycle":{"preStop":{"exec":{"command":["s3cr3t"]}},"postStart":{"httpGet":{"path":"/x?s3cr3t","port":80,"httpHeaders":[{"name":"A","value":"s3cr3t"}]}}}}],
	 "initContainers":[{"name":"i","image":"i","command":["$(s3cr3t)"],"args":["s3cr3t"],"env":[{"name":"A","value":"s3cr3t"}]}],
	 "ephemeralContainers":[{"name":"e","image":"i","args":["s3cr3t"],"env":[{"name":"A","value":"s3cr3t"}]}],
	 "volumes":[{"name":"a","csi":{"driver":"d","volumeAttributes":{"key":"s3cr3t"}}},{"name":"b","flexVolume":{"driver":"d","options":{"key":"s3cr3t"}}},
	  {"name":"g","gitRepo":{"repository":"https://s3cr3t@example.com"}},
	  {"name":"v","ephemeral":{"volumeClaimTemplate":{"metadata":{"annotations":{"a":"s3cr3t"}},"spec":{}}}}]},
	"status":{"message":"s3cr3t","conditions":[{"type":"Ready","status":"True"},{"type":"example.com/gate","status":"True","message":"s3cr3t"}],
	 "containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":1,"message":"s3cr3t"}},"lastState":{"terminated":{"message":"s3cr3t"}}}],
	 "initContainerStatuses":[{"name":"i","state":{"waiting":{"reason":"CrashLoopBackOff","message":"s3cr3t"}}}]}}`
	const meta = `"annotations":{"example.com/a":"s3cr3t","kubectl.kubernetes.io/last-applied-configuration":"s3cr3t"},"managedFields":[{"manager":"s3cr3t"}]`
	objects := [][3]string{
		{"v1", "Pod", pod},
		{"v1", "Namespace", `{"metadata":{"name":"shop",` + meta + `}}`},
		{"v1", "Node", `{"metadata":{"name":"n",` + meta + `},"spec":{"podCIDR":"s3cr3t"},"status":{"addresses":[{"type":"InternalIP","address":"s3cr3t"}],
		 "images":[{"names":["s3cr3t"]}],"nodeInfo":{"machineID":"s3cr3t","kernelVersion":"6.1"}}}`},
		{"v1", "Secret", `{"metadata":{"name":"s","namespace":"shop",` + meta + `},"data":{"a":"s3cr3t"}}`},
		{"v1", "ConfigMap", `{"metadata":{"name":"s","namespace":"shop",` + meta + `},"data":{"a":"s3cr3t"}}`},
		{"apps/v1", "Deployment", `{"metadata":{"name":"d","namespace":"shop",` + meta + `},"spec":{"template":{"spec":{"containers":[{"args":["s3cr3t"]}]}}}}`},
		{"kyverno.io/v1", "ClusterPolicy", `{"metadata":{"name":"p",` + meta + `},"spec":{"rules":[]}}`},
		{"admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", `{"metadata":{"name":"v",` + meta + `},"spec":{"validations":[{"expression":"!has(object.metadata.annotations) || 'x/y' in object.metadata.annotations"}]}}`},
	}
	s := cluster(t, objects...)
	text, _ := recorded(t, s, scan.ClusterOptions{})
	for line := range strings.Lines(text) {
		if strings.Contains(line, secret) {
			t.Errorf("a secret got in: %s", line)
		}
	}
	for _, kept := range []string{
		`"container.apparmor.security.beta.kubernetes.io/c":"unconfined"`, `"kubearmor-policy":"audited"`, `"command":["/bin/app"]`, `"PASSWORD"`,
		`"path":"/ok"`, `"host":"10.0.0.1"`, `"kernelVersion":"6.1"`, `"reason":"CrashLoopBackOff"`,
	} {
		if !strings.Contains(text, kept) {
			t.Errorf("%s is missing", kept)
		}
	}
	// Parameters of policies are read whole, and the server has no kind that is as
	// full of other people's values.
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{}, parameters{s}, scan.Probes{})
	seen := 0
	for _, kind := range []schema.GroupKind{{Kind: "ConfigMap"}, {Group: "example.com", Kind: "Limits"}} {
		if err := r.Objects(t.Context(), kind, func([]byte) error { seen++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(); err != nil || seen != 2 {
		t.Fatalf("%d objects, %v", seen, err)
	}
	if strings.Contains(file.String(), secret) {
		t.Errorf("a ConfigMap got in: %s", file.String())
	}
	d := readBack(t, file.String())
	if err := d.Objects(t.Context(), schema.GroupKind{Kind: "ConfigMap"}, func([]byte) error { return nil }); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("ConfigMap: %v", err)
	}
	var limits []string
	if err := d.Objects(t.Context(), schema.GroupKind{Group: "example.com", Kind: "Limits"}, func(object []byte) error {
		limits = append(limits, string(object))
		return nil
	}); err != nil || len(limits) != 1 || !strings.Contains(limits[0], `"max":3`) {
		t.Errorf("Limits: %q, %v", limits, err)
	}
}

// parameters is a cluster whose policies ask for objects of other kinds.
type parameters struct{ *snapshot.Snapshot }

func (parameters) Objects(_ context.Context, kind schema.GroupKind, visit func([]byte) error) error {
	if kind.Kind == "ConfigMap" {
		return visit([]byte(`{"metadata":{"name":"a"},"data":{"a":"s3cr3t"}}`))
	}
	return visit([]byte(`{"metadata":{"name":"a","annotations":{"a":"s3cr3t"}},"spec":{"max":3}}`))
}

// Nothing that a rule reads is left out: recorded or not, a pod looks the same to
// them. The official conformance pods and the rules' own fixtures use every field
// that is read.
func TestRecordingLeavesOutNothingThatRulesRead(t *testing.T) {
	pods := map[string]*corev1.Pod{}
	// The first version reads annotations that the newest reads no more.
	for _, version := range []string{"v1.0", "v1.37"} {
		for _, p := range oracle.ConformancePods(t, "*", version) {
			pods[p.Name] = p.Pod
		}
	}
	files, err := filepath.Glob("../../testdata/rules/*/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict(text, p); err != nil {
			t.Fatal(err)
		}
		oracle.DefaultVolumes(p)
		pods[file] = p
	}
	s := &snapshot.Snapshot{Complete: true}
	names := slices.Sorted(maps.Keys(pods))
	for i, name := range names {
		p := pods[name].DeepCopy()
		p.Namespace, p.Name = "n", fmt.Sprintf("p-%06d", i)
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Add("v1", "Pod", text); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{}, s, scan.Probes{})
	if err := r.Pods(t.Context(), "", func(scan.PodPage) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	before, after := digests(t, s), digests(t, readBack(t, file.String()))
	if len(before) != len(names) || len(after) != len(names) {
		t.Fatalf("%d pods, %d recorded, %d read back", len(names), len(before), len(after))
	}
	for i, name := range names {
		if before[i] != after[i] {
			t.Errorf("%s looks different once it is recorded", name)
		}
	}
}

func digests(t *testing.T, c scan.Cluster) (list []scan.Digest) {
	t.Helper()
	err := c.Pods(t.Context(), "", func(page scan.PodPage) error {
		for i := range page.Items {
			p := &page.Items[i]
			list = append(list, scan.DigestOf(scan.Trim(scan.Pod{Meta: &p.ObjectMeta, Spec: &p.Spec})))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
