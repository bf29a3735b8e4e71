package scan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// samplePods are the fixtures of the kinds and every n-th conformance pod.
func samplePods(t *testing.T, n int, kinds ...string) map[string]*corev1.Pod {
	t.Helper()
	pods := map[string]*corev1.Pod{}
	for _, rule := range fixtureRules() {
		for _, kind := range kinds {
			for _, f := range fixtures(t, rule, kind) {
				pods[f.path()] = f.pod
			}
		}
	}
	for i, c := range oracle.ConformancePods(t, "*", "*") {
		if i%n == 0 {
			pods[c.Name] = c.Pod
		}
	}
	return pods
}

// judges asks an engine of each level.
type judges []*Engine

func newJudges(t *testing.T) judges {
	t.Helper()
	var list judges
	for _, by := range []psa.LevelVersion{
		// The newest checks, and those that still read annotations.
		{Level: psa.LevelRestricted, Version: psa.LatestVersion()}, {Level: psa.LevelBaseline, Version: psa.MajorMinorVersion(1, 18)},
	} {
		engine, err := NewEngine(by.Level, by.Version)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, engine)
	}
	return list
}

func (js judges) answer(pod Pod) []*Judgement {
	// Every class is a sandbox here, so that whether there is one is seen.
	facts := Facts{RuntimeHandlersKnown: true, RuntimeHandlers: map[string]string{}}
	if c := pod.Spec.RuntimeClassName; c != nil {
		facts.RuntimeHandlers[*c] = "runsc"
	}
	var answers []*Judgement
	for _, engine := range js {
		answers = append(answers, engine.Judge(pod, facts))
	}
	return answers
}

// TestTrimKeepsWhatRulesRead: a trimmed pod is judged as the whole one, and pods
// with equal digests are judged alike.
func TestTrimKeepsWhatRulesRead(t *testing.T) {
	js := newJudges(t)
	byDigest := map[Digest][]*Judgement{}
	for name, pod := range samplePods(t, 1, "fail", "pass", "fixed") {
		before := pod.DeepCopy()
		trimmed := Trim(podOf(pod))
		whole := js.answer(podOf(pod))
		if got := js.answer(trimmed); !reflect.DeepEqual(got, whole) {
			t.Errorf("%s: trimmed it is judged otherwise", name)
		}
		if !equalJSON(t, before, pod) {
			t.Fatalf("%s: trimming changed the pod", name)
		}
		digest := DigestOf(trimmed)
		if other, ok := byDigest[digest]; ok && !reflect.DeepEqual(other, whole) {
			t.Errorf("%s: another pod has the same digest and is judged otherwise", name)
		}
		byDigest[digest] = whole
		if DigestOf(Trim(trimmed)) != digest {
			t.Errorf("%s: trimming twice makes another digest", name)
		}
	}
}

// TestDigestSeesWhatChangesTheJudgement changes every field of many pods, one at a
// time. Where the judgement changes, so must the digest.
func TestDigestSeesWhatChangesTheJudgement(t *testing.T) {
	js := newJudges(t)
	sample := samplePods(t, 101, "fail")
	pods := map[string]*corev1.Pod{"everything": everything()}
	for i, name := range slices.Sorted(maps.Keys(sample)) {
		if i%6 == 0 {
			pods[name] = sample[name]
		}
	}
	tried, changed := 0, 0
	for name, pod := range pods {
		answer, digest := js.answer(podOf(pod)), DigestOf(Trim(podOf(pod)))
		for _, m := range mutations(reflect.ValueOf(pod).Elem(), "") {
			m.set(m.changed)
			tried++
			if got := DigestOf(Trim(podOf(pod))); got == digest {
				if !reflect.DeepEqual(js.answer(podOf(pod)), answer) {
					t.Errorf("%s: %s changes the judgement and not the digest", name, m.path)
				}
			} else {
				changed++
			}
			m.set(m.before)
		}
		if DigestOf(Trim(podOf(pod))) != digest {
			t.Fatalf("%s: the test did not put everything back", name)
		}
	}
	t.Logf("%d changes of fields in %d pods, %d of them changed the digest", tried, len(pods), changed)
	if changed == 0 || changed == tried {
		t.Error("want fields that are read and fields that are not")
	}
}

// everything is a pod with most of what rules read, and what they do not.
func everything() *corev1.Pod {
	options := func() *corev1.SecurityContext {
		return &corev1.SecurityContext{
			Privileged: new(false), AllowPrivilegeEscalation: new(false), RunAsUser: new(int64(7)), RunAsNonRoot: new(true),
			ReadOnlyRootFilesystem: new(true), ProcMount: new(corev1.DefaultProcMount),
			Capabilities:    &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}, Drop: []corev1.Capability{"MKNOD"}},
			SELinuxOptions:  &corev1.SELinuxOptions{Type: "container_t", Level: "s0"},
			SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("p")},
			AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: new("p")},
		}
	}
	handler := &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Host: "h"}}
	container := func(name string) corev1.Container {
		return corev1.Container{
			Name: name, Image: "i", Command: []string{"c"}, Env: []corev1.EnvVar{{Name: "E", Value: "v"}}, SecurityContext: options(),
			Ports:         []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}},
			VolumeMounts:  []corev1.VolumeMount{{Name: "data", MountPath: "/d"}, {Name: "host", MountPath: "/h", SubPath: "log"}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "h", Path: "/"}}},
			Lifecycle:     &corev1.Lifecycle{PostStart: handler, PreStop: handler},
		}
	}
	pod := &corev1.Pod{}
	pod.Name, pod.Labels = "everything", map[string]string{"a": "b"}
	pod.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/app": "runtime/default", "note": "n"}
	pod.Spec = corev1.PodSpec{
		HostUsers: new(true), RuntimeClassName: new("c"), OS: &corev1.PodOS{Name: corev1.Linux}, NodeName: "n",
		SecurityContext: &corev1.PodSecurityContext{
			RunAsUser: new(int64(7)), RunAsNonRoot: new(true), FSGroup: new(int64(7)),
			Sysctls: []corev1.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "1"}},
		},
		InitContainers: []corev1.Container{container("init")}, Containers: []corev1.Container{container("app"), container("b")},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(container("e"))}},
		Volumes: []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var", Type: new(corev1.HostPathDirectory)}}},
			// Two sources: the API server refuses that, a manifest may say it.
			{Name: "both", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
		},
	}
	return pod
}

// mutation is a change of one field.
type mutation struct {
	path            string
	at              reflect.Value
	before, changed reflect.Value
}

func (m mutation) set(v reflect.Value) { m.at.Set(v) }

// mutations lists a change for every leaf below v, and for every pointer and list
// one that takes it away.
func mutations(v reflect.Value, path string) []mutation {
	change := func(to reflect.Value) mutation {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		return mutation{path, v, before, to.Convert(v.Type())}
	}
	var list []mutation
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				list = append(list, mutations(v.Field(i), path+"."+field.Name)...)
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			if v.Type().Elem().Kind() == reflect.Struct {
				return nil
			}
			return []mutation{change(reflect.New(v.Type().Elem()))}
		}
		list = append(list, change(reflect.Zero(v.Type())))
		list = append(list, mutations(v.Elem(), path)...)
	case reflect.Slice:
		if v.Len() == 0 || v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		list = append(list, change(v.Slice(0, v.Len()-1)))
		for i := range v.Len() {
			list = append(list, mutations(v.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case reflect.Map:
		if v.Len() > 0 {
			list = append(list, change(reflect.Zero(v.Type())))
		}
	case reflect.String:
		list = append(list, change(reflect.ValueOf("/changed")), change(reflect.ValueOf("ALL")), change(reflect.ValueOf("Always")))
	case reflect.Bool:
		list = append(list, change(reflect.ValueOf(!v.Bool())))
	case reflect.Int, reflect.Int32, reflect.Int64:
		list = append(list, change(reflect.ValueOf(1000-v.Int())))
	default:
		panic(path + ": no change known for a " + v.Kind().String())
	}
	return list
}
