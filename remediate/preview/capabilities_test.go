package preview_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

const (
	kubectlExec = "may break|capabilities|sys_admin||"
	imageWrites = "may break|capabilities|sys_admin|web|spec.containers[0].securityContext.readOnlyRootFilesystem"
)

func TestSysAdmin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, spec string
		want       []string
	}{
		{"a plain container", `containers: [{image: app, command: [app]}]`, []string{kubectlExec, imageWrites}},
		{"its root file system is read-only", `containers: [{image: app, command: [app], securityContext: {readOnlyRootFilesystem: true}}]`,
			[]string{kubectlExec}},
		{"a privileged container is joined without a new right", `
containers: [{image: app, command: [app], readinessProbe: {exec: {command: [a]}}, securityContext: {privileged: true}}]`,
			[]string{"may break|capabilities|sys_admin|web|spec.containers[0].securityContext.privileged", imageWrites}},
		{"exec probes", `
containers:
- image: app
  readinessProbe: {exec: {command: [a]}}
  startupProbe: {exec: {command: [a]}}
  livenessProbe: {exec: {command: [a]}}
  securityContext: {readOnlyRootFilesystem: true}`, []string{
			"breaks|capabilities|sys_admin|web|spec.containers[0].livenessProbe.exec",
			"breaks|capabilities|sys_admin|web|spec.containers[0].readinessProbe.exec",
			"breaks|capabilities|sys_admin|web|spec.containers[0].startupProbe.exec",
			kubectlExec,
		}},
		{"other probes", `
containers:
- image: app
  readinessProbe: {httpGet: {port: 80}}
  livenessProbe: {grpc: {port: 80}}
  securityContext: {readOnlyRootFilesystem: true}`, []string{kubectlExec}},
		{"hooks", `
containers:
- image: app
  lifecycle: {postStart: {exec: {command: [a]}}, preStop: {exec: {command: [b]}}}
  securityContext: {readOnlyRootFilesystem: true}`, []string{
			"breaks|capabilities|sys_admin|web|spec.containers[0].lifecycle.preStop.exec",
			kubectlExec,
			"may break|capabilities|sys_admin|web|spec.containers[0].lifecycle.postStart.exec",
		}},
		{"hooks that run nothing", `
containers:
- image: app
  lifecycle: {preStop: {sleep: {seconds: 1}}}
  securityContext: {readOnlyRootFilesystem: true}`, []string{kubectlExec}},
		{"it asks for SYS_ADMIN", `
containers: [{image: app, securityContext: {readOnlyRootFilesystem: true, capabilities: {add: [SYS_ADMIN]}}}]`, []string{
			"breaks|capabilities|sys_admin|web|spec.containers[0].securityContext.capabilities.add", kubectlExec}},
		{"it asks for ALL", `
containers: [{image: app, securityContext: {readOnlyRootFilesystem: true, capabilities: {add: [ALL]}}}]`, []string{
			kubectlExec, "may break|capabilities|sys_admin|web|spec.containers[0].securityContext.capabilities.add"}},
		{"it asks for ALL but SYS_ADMIN", `
containers: [{image: app, securityContext: {readOnlyRootFilesystem: true, capabilities: {add: [ALL], drop: [SYS_ADMIN]}}}]`,
			[]string{kubectlExec}},
		{"init containers and sidecars are not covered and do not break", `
initContainers:
- {name: setup, image: app, securityContext: {capabilities: {add: [SYS_ADMIN]}}}
- {name: side, image: app, restartPolicy: Always, readinessProbe: {exec: {command: [a]}}}
containers: [{image: app, securityContext: {readOnlyRootFilesystem: true}}]`, []string{
			kubectlExec, "not covered|capabilities||setup|", "not covered|capabilities||side|"}},
		{"nor do ephemeral ones", `
ephemeralContainers: [{name: debug, image: app, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]
containers: [{image: app, securityContext: {readOnlyRootFilesystem: true}}]`, []string{
			kubectlExec, "not covered|capabilities||debug|"}},
		{"nor does a pod in the host's processes", `
hostPID: true
containers: [{image: app, readinessProbe: {exec: {command: [a]}}, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]`,
			[]string{"not covered|capabilities||web|spec.hostPID"}},
		{"a sandbox may keep the policies out", `
runtimeClassName: gvisor
containers: [{image: app, readinessProbe: {exec: {command: [a]}}, securityContext: {readOnlyRootFilesystem: true}}]`, []string{
			kubectlExec, "may break|capabilities|sys_admin|web|spec.containers[0].readinessProbe.exec", "not covered|runtime|||"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantLines(t, judged(t, only(t, "sys_admin"), test.spec), test.want...)
		})
	}
}

func TestHeldCapabilities(t *testing.T) {
	t.Parallel()
	const add = "spec.containers[0].securityContext.capabilities.add"
	const bySpec = "may break|capabilities|dac_override|web|spec.containers[0].securityContext"
	for _, test := range []struct {
		name, context string
		want          []string
	}{
		{"nothing is said of the user", `{}`, []string{bySpec}},
		{"root", `{runAsUser: 0}`, []string{bySpec}},
		{"another user", `{runAsUser: 1000}`, nil},
		{"not root", `{runAsNonRoot: true}`, nil},
		{"dropped", `{capabilities: {drop: [ALL]}}`, nil},
		{"asked for by name", `{capabilities: {drop: [ALL], add: [CAP_DAC_OVERRIDE, sys_ptrace]}}`, []string{
			"breaks|capabilities|dac_override|web|" + add, "breaks|capabilities|sys_ptrace|web|" + add}},
		{"privileged", `{privileged: true}`, []string{"may break|capabilities||web|spec.containers[0].securityContext.privileged"}},
		{"all", `{capabilities: {add: [ALL]}}`, []string{"may break|capabilities||web|" + add}},
		{"all but one, which is named", `{capabilities: {add: [ALL, SYS_MODULE], drop: [SYS_PTRACE]}}`, []string{
			"breaks|capabilities|sys_module|web|" + add, "may break|capabilities|dac_override|web|" + add}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := only(t, "dac_override", "sys_ptrace", "sys_module")
			context := strings.Replace(test.context, "{", "{readOnlyRootFilesystem: true, ", 1)
			wantLines(t, judged(t, s, `containers: [{image: app, command: [app], securityContext: `+context+`}]`), test.want...)
		})
	}
}

// What is known of where a container writes is told, and what a precise fit would spare.
func TestWritesSayWhatIsKnown(t *testing.T) {
	t.Parallel()
	w := judged(t, only(t, "sys_admin"), `
volumes: [{name: tmp, emptyDir: {}}, {name: conf, configMap: {name: c}}, {name: data, persistentVolumeClaim: {claimName: db}}, {name: ro, emptyDir: {}}]
containers:
- image: app
  command: [app]
  volumeMounts: [{name: tmp, mountPath: /tmp}, {name: conf, mountPath: /etc/app}, {name: data, mountPath: /data}, {name: ro, mountPath: /ro, readOnly: true}]`)
	for _, e := range w.Effects {
		if e.Container == "" {
			continue
		}
		if !strings.Contains(e.Why, "(claim db at /data, emptyDir at /tmp)") || !strings.Contains(e.Mend, "--fit precise leaves sys_admin out here") {
			t.Errorf("%+v", e)
		}
	}
}

// What a node enforces decides.
func TestNodes(t *testing.T) {
	t.Parallel()
	s := only(t, "sys_admin", "curl")
	const spec = `
containers:
- image: app
  command: [sh, -c, "a; curl x"]
  readinessProbe: {exec: {command: [a]}}
  securityContext: {readOnlyRootFilesystem: true}`
	const probe, call = "|capabilities|sys_admin|web|spec.containers[0].readinessProbe.exec", "|tools|curl|web|spec.containers[0].command"
	both := []string{kubectlExec, "may break" + probe, "may break" + call}
	for _, test := range []struct {
		name  string
		nodes map[string]kernel.Enforcement
		want  []string
	}{
		{"it enforces", map[string]kernel.Enforcement{"node1": enforcing()}, []string{"breaks" + probe, "breaks" + call, kubectlExec}},
		{"nobody looked", map[string]kernel.Enforcement{"node1": blind()},
			append(both[:3:3], "not covered|runtime||web|")},
		{"it was not read", map[string]kernel.Enforcement{"other": enforcing()},
			append(both[:3:3], "not covered|runtime||web|")},
		{"it enforces nothing", map[string]kernel.Enforcement{"node1": toothless()}, []string{
			"not covered|runtime||web|", "safe|tools|curl|web|spec.containers[0].command"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantLines(t, judged(t, s, spec, nodes(test.nodes)), test.want...)
		})
	}
	t.Run("a pod that runs nowhere may come to a node that enforces, or not", func(t *testing.T) {
		t.Parallel()
		w := judged(t, s, spec, nodes(map[string]kernel.Enforcement{"a": enforcing(), "b": toothless()}), func(in *preview.Input) {
			in.Workloads[0].Specimens[0].Live, in.Workloads[0].Specimens[0].Nodes = 0, nil
		})
		wantLines(t, w, append(both[:3:3], "not covered|runtime||web|")...)
	})
}

// Each reason is told with its nodes.
func TestReasonsByNode(t *testing.T) {
	t.Parallel()
	w := judged(t, only(t, "curl"), `containers: [{image: app, command: [app]}]`,
		nodes(map[string]kernel.Enforcement{"a": enforcing(), "b": toothless(), "c": blind(), "d": toothless()}),
		func(in *preview.Input) { in.Workloads[0].Specimens[0].Nodes = []string{"a", "b", "c", "d"} })
	wantLines(t, w, "not covered|tools||web|", "not covered|tools||web|")
	var got []string
	for _, e := range w.Effects {
		got = append(got, e.What+": "+e.Why)
		if e.What == "is not covered" && e.Mend == "" {
			t.Error("nothing says what would mend it")
		}
	}
	want := []string{
		"is not covered: the node enforces no process rules: bpf is not in the list; on b, d",
		"may not be covered: whether the node enforces process rules is not known: nobody looked; on c",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Pods in which KubeArmor was told to do less, and pods that the set does not select.
func TestPodsThatPoliciesDoNotReach(t *testing.T) {
	t.Parallel()
	const spec = `containers: [{image: app, command: [sh, -c, "a; curl x"], readinessProbe: {exec: {command: [a]}}}]`
	for _, test := range []struct {
		name       string
		annotation string
		labels     map[string]string
		want       []string
	}{
		{"disabled", "disabled", nil, []string{"not covered|runtime||web|"}},
		{"audited", "audited", nil, []string{"not covered|runtime||web|", "safe|tools|curl|web|spec.containers[0].command"}},
		{"not selected", "", map[string]string{"app": "other"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := rendered(t, func(o *set.Options) {
				o.Only, o.Admission = []string{"sys_admin", "curl"}, set.AdmissionNone
				o.Scope.Labels = map[string]string{"app": "web"}
			})
			wantLines(t, judged(t, s, spec, func(in *preview.Input) {
				pod := in.Workloads[0].Specimens[0].Pod
				if test.annotation != "" {
					pod.Annotations = map[string]string{"kubearmor-policy": test.annotation}
				}
				if test.labels != nil {
					pod.Labels = test.labels
				}
			}), test.want...)
		})
	}
}

// What policies refuse that are in force already the set does not break, and no more than
// that.
func TestInForceAlready(t *testing.T) {
	t.Parallel()
	const spec = `
containers:
- image: app
  command: [sh, -c, "a; b; curl x; wget y"]
  readinessProbe: {exec: {command: [a]}}
  securityContext: {readOnlyRootFilesystem: true}`
	in := func(s *set.Set) func(*preview.Input) {
		return func(in *preview.Input) {
			var policies []*armor.Policy
			for i := range s.Objects {
				data, err := s.Objects[i].Enforce.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				p, err := armor.Decode(armor.Kind(s.Objects[i].Enforce.GetKind()), data)
				if err != nil {
					t.Fatal(err)
				}
				policies = append(policies, p)
			}
			in.InForce = armor.NewIndex(policies)
		}
	}
	s := only(t, "sys_admin", "curl", "wget")
	const probe, curl, wget = "|capabilities|sys_admin|web|spec.containers[0].readinessProbe.exec", "|tools|curl|web|spec.containers[0].command", "|tools|wget|web|spec.containers[0].command"
	wantLines(t, judged(t, s, spec, in(s)), "safe|capabilities|sys_admin||", "safe"+probe, "safe"+curl, "safe"+wget)
	wantLines(t, judged(t, s, spec, in(only(t, "curl", "make"))), "breaks"+probe, "breaks"+wget, kubectlExec, "safe"+curl)
	// Where nobody knows what is enforced, the set changes nothing either.
	wantLines(t, judged(t, s, spec, in(s), nodes(nil)), "not covered|runtime||web|", "safe|capabilities|sys_admin||", "safe"+probe, "safe"+curl, "safe"+wget)
}

// On Windows no runtime policy does anything: nothing breaks by it, and nothing is
// protected. Pods of it are often told by their node selector alone.
func TestPodsOfWindows(t *testing.T) {
	t.Parallel()
	const container = `containers: [{image: iis, command: [sh, -c, "a; curl x"], readinessProbe: {exec: {command: [a]}}}]`
	s := rendered(t, func(o *set.Options) { o.Only = []string{"capabilities", "tools"} })
	for _, of := range []string{"os: {name: windows}", "nodeSelector: {kubernetes.io/os: windows}"} {
		in := inputOf(s, workloadOf("Deployment", "web", specimen(t, of+"\n"+container)))
		w := preview.Judge(in).Workloads[0]
		wantLines(t, w, "not covered|runtime|||")
		if w.Effects[0].What != "is not covered" {
			t.Errorf("%s: %+v", of, w.Effects[0])
		}
	}
	wantLines(t, judged(t, only(t, "curl"), "nodeSelector: {kubernetes.io/os: linux}\n"+container),
		"breaks|tools|curl|web|spec.containers[0].command")
}
