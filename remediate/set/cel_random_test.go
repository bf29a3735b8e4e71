package set

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// dice make pods that nobody would think of. The same seed makes the same pods.
type dice struct{ *rand.Rand }

// often tells whether something is set; rarely tells of what would hide all else.
func (d dice) often() bool  { return d.IntN(3) > 0 }
func (d dice) rarely() bool { return d.IntN(8) == 0 }

// of picks a value.
func of[T any](d dice, values ...T) T { return values[d.IntN(len(values))] }

// some picks a value's address, or nil.
func some[T any](d dice, values ...T) *T {
	if !d.often() {
		return nil
	}
	return new(of(d, values...))
}

// odd is mostly what is allowed, so that one control alone refuses often enough.
func odd[T any](d dice, allowed []T, forbidden ...T) T {
	if d.rarely() {
		return of(d, forbidden...)
	}
	return of(d, allowed...)
}

func (d dice) seccomp() *corev1.SeccompProfile {
	if !d.often() {
		return nil
	}
	return &corev1.SeccompProfile{Type: odd(d, []corev1.SeccompProfileType{corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeLocalhost},
		corev1.SeccompProfileTypeUnconfined, "")}
}

func (d dice) appArmor() *corev1.AppArmorProfile {
	if d.often() {
		return nil
	}
	return &corev1.AppArmorProfile{Type: odd(d, []corev1.AppArmorProfileType{corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeLocalhost},
		corev1.AppArmorProfileTypeUnconfined, "")}
}

func (d dice) seLinux() *corev1.SELinuxOptions {
	if d.often() {
		return nil
	}
	return &corev1.SELinuxOptions{
		Type: odd(d, []string{"", "container_t", "container_init_t", "container_kvm_t"}, "container_engine_t", "spc_t"),
		User: odd(d, []string{""}, "system_u"), Role: odd(d, []string{""}, "system_r"), Level: of(d, "", "s0"),
	}
}

func (d dice) windows() *corev1.WindowsSecurityContextOptions {
	if d.often() {
		return nil
	}
	return &corev1.WindowsSecurityContextOptions{HostProcess: some(d, odd(d, []bool{false}, true))}
}

func (d dice) user() *int64 {
	if d.often() {
		return nil
	}
	return new(odd(d, []int64{1, 1000}, 0))
}

func (d dice) nonRoot() *bool {
	if !d.often() {
		return nil
	}
	return new(odd(d, []bool{true}, false))
}

func (d dice) handler() (*corev1.HTTPGetAction, *corev1.TCPSocketAction) {
	host := odd(d, []string{""}, "127.0.0.1", "node")
	if d.often() {
		return &corev1.HTTPGetAction{Port: intstr.FromInt32(80), Host: host}, nil
	}
	return nil, &corev1.TCPSocketAction{Port: intstr.FromInt32(80), Host: host}
}

func (d dice) probe() *corev1.Probe {
	if d.often() {
		return nil
	}
	probe := &corev1.Probe{}
	probe.HTTPGet, probe.TCPSocket = d.handler()
	return probe
}

func (d dice) hook() *corev1.LifecycleHandler {
	if d.often() {
		return nil
	}
	hook := &corev1.LifecycleHandler{}
	hook.HTTPGet, hook.TCPSocket = d.handler()
	return hook
}

func (d dice) capabilities() *corev1.Capabilities {
	if d.rarely() {
		return nil
	}
	c := &corev1.Capabilities{}
	if !d.rarely() {
		c.Drop = []corev1.Capability{odd(d, []corev1.Capability{"ALL"}, "all", "NET_RAW")}
	}
	for range d.IntN(3) {
		c.Add = append(c.Add, odd(d, []corev1.Capability{"NET_BIND_SERVICE"}, "CHOWN", "MKNOD", "SYS_ADMIN", "NET_RAW", "ALL", "CAP_CHOWN"))
	}
	return c
}

func (d dice) context() *corev1.SecurityContext {
	if d.rarely() {
		return nil
	}
	return &corev1.SecurityContext{
		Privileged:               some(d, odd(d, []bool{false}, true)),
		AllowPrivilegeEscalation: some(d, odd(d, []bool{false}, true)),
		ProcMount:                some(d, odd(d, []corev1.ProcMountType{corev1.DefaultProcMount}, corev1.UnmaskedProcMount, "")),
		RunAsNonRoot:             d.nonRoot(), RunAsUser: d.user(), Capabilities: d.capabilities(),
		SeccompProfile: d.seccomp(), AppArmorProfile: d.appArmor(), SELinuxOptions: d.seLinux(), WindowsOptions: d.windows(),
	}
}

func (d dice) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "registry.example/app:1", SecurityContext: d.context()}
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = d.probe(), d.probe(), d.probe()
	if !d.often() {
		c.Lifecycle = &corev1.Lifecycle{PostStart: d.hook(), PreStop: d.hook()}
	}
	for range d.IntN(3) {
		c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 80, HostPort: odd(d, []int32{0}, 80)})
	}
	return c
}

// volume has one source of all that there are, or two, or none.
func (d dice) volume() corev1.Volume {
	v := corev1.Volume{Name: "volume"}
	if d.often() {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		return v
	}
	source := reflect.ValueOf(&v.VolumeSource).Elem()
	for range d.IntN(3) {
		field := source.Field(d.IntN(source.NumField()))
		field.Set(reflect.New(field.Type().Elem()))
	}
	return v
}

func (d dice) sysctl() corev1.Sysctl {
	var known []string
	for _, version := range sysctls() {
		known = append(known, quotedIn(version.expression)...)
	}
	return corev1.Sysctl{Name: odd(d, known, "kernel.msgmax", "net.core.somaxconn", "")}
}

func (d dice) annotations() map[string]string {
	annotations := map[string]string{"note": "x"}
	for _, key := range []string{
		"seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/main",
		"container.seccomp.security.alpha.kubernetes.io/none", "container.apparmor.security.beta.kubernetes.io/main",
		"container.apparmor.security.beta.kubernetes.io/none",
	} {
		if d.rarely() {
			annotations[key] = of(d, "", "runtime/default", "docker/default", "localhost/a", "localhost", "unconfined")
		}
	}
	return annotations
}

func (d dice) pod(i int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i)}}
	if d.often() {
		p.Annotations = d.annotations()
	}
	p.Spec.HostNetwork, p.Spec.HostPID, p.Spec.HostIPC = d.IntN(60) == 0, d.IntN(60) == 0, d.IntN(60) == 0
	p.Spec.HostUsers = some(d, true, true, false)
	if !d.often() {
		p.Spec.OS = &corev1.PodOS{Name: of(d, corev1.Linux, corev1.Windows)}
	}
	if !d.rarely() {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: d.nonRoot(), RunAsUser: d.user(), SeccompProfile: d.seccomp(), AppArmorProfile: d.appArmor(),
			SELinuxOptions: d.seLinux(), WindowsOptions: d.windows(),
		}
		for range d.IntN(3) {
			p.Spec.SecurityContext.Sysctls = append(p.Spec.SecurityContext.Sysctls, d.sysctl())
		}
	}
	for range d.IntN(3) {
		p.Spec.Volumes = append(p.Spec.Volumes, d.volume())
	}
	p.Spec.Containers = []corev1.Container{d.container("main")}
	if d.rarely() {
		p.Spec.Containers = append(p.Spec.Containers, d.container("second"))
	}
	if d.rarely() {
		p.Spec.InitContainers = []corev1.Container{d.container("init")}
	}
	if d.rarely() {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(d.container("ephemeral"))}}
	}
	return p
}

// quotedIn are the strings that stand in an expression.
func quotedIn(expression string) []string {
	var out []string
	parts := strings.Split(expression, "'")
	for i := 1; i < len(parts); i += 2 {
		out = append(out, parts[i])
	}
	return out
}

// Pods that dice make are refused for the controls of the official checks, too.
func TestCELRefusesRandomPodsAsTheStandardsDo(t *testing.T) {
	t.Parallel()
	for n, r := range renderings() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			d := dice{rand.New(rand.NewPCG(20261122, uint64(n)))}
			alone, passed, count := map[string]int{}, 0, 2400/(n+1)
			for _, minor := range []int{0, 18, 21, 24, 26, 28, 30, 31, 33, 34, 36, 37} {
				for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
					version := psa.MajorMinorVersion(1, minor)
					policies := read(t, r.mustRender(t, celOptions("random", level, version.String(), "team")))
					for i := range count / 24 {
						pod := d.pod(i)
						got, want := policies.refused(t, pod, "team"), oracle.Controls(level, version, pod)
						if !slices.Equal(got, want) {
							t.Errorf("%s %s: refused for %q, want %q: %+v", level, version.String(), got, want, pod)
						}
						switch len(want) {
						case 0:
							passed++
						case 1:
							alone[want[0]]++
						}
					}
				}
			}
			t.Logf("%d pods, %d pass, refused for one control: %v", count, passed, alone)
			if len(alone) < len(controls()) || passed < count/40 {
				t.Error("the dice are loaded: they prove too little")
			}
		})
	}
}
