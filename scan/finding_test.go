package scan

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

func TestFingerprintIsStable(t *testing.T) {
	base := sampleFinding().Fingerprint()
	for name, change := range map[string]func(*Finding){
		"index of the container": func(f *Finding) { f.Field = "spec.containers[12].securityContext.privileged" },
		"image":                  func(f *Finding) { f.Image = "registry.example.com/app:2.0" },
		"severity":               func(f *Finding) { f.Severity = SeverityLow },
		"pods":                   func(f *Finding) { f.Pods = 7 },
		"place":                  func(f *Finding) { f.Location = &Location{File: "a.yaml", Line: 3} },
		"exception":              func(f *Finding) { f.Excepted = &Excepted{} },
		"claims":                 func(f *Finding) { f.Claims = "ReplicaSet/web-1a (does not exist)" },
		"message":                func(f *Finding) { f.Message, f.Title, f.Now = "m", "t", jsonText(1) },
		"cluster":                func(f *Finding) { f.Workload.Cluster = "prod" },
	} {
		f := sampleFinding()
		change(f)
		if f.Fingerprint() != base {
			t.Errorf("another %s makes it another finding", name)
		}
	}
	seen := map[string]string{base: "itself"}
	for name, change := range map[string]func(*Finding){
		"rule":           func(f *Finding) { f.Rule = "privileged" },
		"container":      func(f *Finding) { f.Container = "b" },
		"field":          func(f *Finding) { f.Field = "spec.hostPID" },
		"item":           func(f *Finding) { f.Item = "SYS_ADMIN" },
		"kind":           func(f *Finding) { f.Workload.Kind = "DaemonSet" },
		"namespace":      func(f *Finding) { f.Workload.Namespace = "lab" },
		"name":           func(f *Finding) { f.Workload.Name = "web2" },
		"shifted border": func(f *Finding) { f.Workload.Namespace, f.Workload.Name = "shopw", "eb" },
		"annotation":     func(f *Finding) { f.Field = "metadata.annotations[7]x" },
	} {
		f := sampleFinding()
		change(f)
		if other, ok := seen[f.Fingerprint()]; ok {
			t.Errorf("another %s does not tell it from %s", name, other)
		}
		seen[f.Fingerprint()] = name
	}
}

func TestWithoutIndexes(t *testing.T) {
	for path, want := range map[string]string{
		"spec.hostPID": "spec.hostPID",
		"spec.containers[10].securityContext.capabilities.add[0]": "spec.containers[].securityContext.capabilities.add[]",
		"metadata.annotations[example.com/a]":                     "metadata.annotations[example.com/a]",
		"spec.volumes[3":                                          "spec.volumes[3",
		"[]":                                                      "[]",
	} {
		if got := withoutIndexes(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// fingerprints judges a spec of the Deployment web.
func fingerprints(t *testing.T, spec corev1.PodSpec) map[string]bool {
	t.Helper()
	engine, err := NewEngine(psa.LevelRestricted, psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{Spec: spec}
	all := map[string]bool{}
	j := engine.Judge(podOf(pod), Facts{})
	for i := range j.Findings {
		f := &j.Findings[i]
		f.Workload = Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}
		if all[f.Fingerprint()] {
			t.Errorf("two findings have one fingerprint: %s %s %s", f.Rule, f.Container, f.Field)
		}
		all[f.Fingerprint()] = true
	}
	return all
}

// TestFingerprintsSurviveNeighbours: a container, volume or capability that is put
// in front moves every index and changes no finding of the others.
func TestFingerprintsSurviveNeighbours(t *testing.T) {
	spec := everything().Spec
	before := fingerprints(t, spec)
	more := *spec.DeepCopy()
	more.Containers = append([]corev1.Container{{Name: "first", Image: "i"}}, more.Containers...)
	more.InitContainers = append([]corev1.Container{{Name: "zeroth", Image: "i"}}, more.InitContainers...)
	more.Volumes = append([]corev1.Volume{{Name: "front", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}}}, more.Volumes...)
	for i := range more.Containers {
		if sc := more.Containers[i].SecurityContext; sc != nil {
			sc.Capabilities.Add = append([]corev1.Capability{"NET_ADMIN"}, sc.Capabilities.Add...)
		}
	}
	after := fingerprints(t, more)
	for print := range before {
		if !after[print] {
			t.Errorf("finding %s is gone", print)
		}
	}
	if len(after) <= len(before) {
		t.Errorf("%d findings became %d", len(before), len(after))
	}
}

// TestFingerprintOfAManifestIsThatOfTheCluster: the demo of a rollout, where the
// same spec is seen in pods and in a template.
func TestFingerprintOfAManifestIsThatOfTheCluster(t *testing.T) {
	m := web()
	for i := range m.pods {
		m.pods[i].Spec = privileged()
		m.pods[i].CreationTimestamp.Time = time.Unix(int64(i), 0)
	}
	live := map[string]bool{}
	for _, e := range scanned(t, m).events {
		if e.Finding != nil {
			live[e.Finding.Fingerprint()] = true
		}
	}
	engine, err := NewEngine(psa.LevelBaseline, psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	declared := DocumentEvents(Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}, engine.Judge(podOf(&corev1.Pod{Spec: privileged()}), Facts{}), nil)
	for _, e := range declared {
		if e.Finding != nil && !live[e.Finding.Fingerprint()] {
			t.Errorf("%s has another fingerprint in the manifest", e.Finding.Rule)
		}
	}
	if len(live) != len(declared)-1 {
		t.Errorf("%d findings live, %d events declared", len(live), len(declared))
	}
}
