package admission

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// podOf is a pod of namespace shop that restricted allows, changed.
func podOf(change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "web", Image: "docker.io/shop/web:1",
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func hostPID(p *corev1.Pod) { p.Spec.HostPID = true }

func rootUser(p *corev1.Pod) { p.Spec.SecurityContext.RunAsUser = new(int64(0)) }

func hostProbe(p *corev1.Pod) {
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1"}}}
}

func labelled(labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: labels}}
}

func v(minor int) psa.Version { return psa.MajorMinorVersion(1, minor) }

func TestPodSecurity(t *testing.T) {
	type labels = map[string]string
	for name, test := range map[string]struct {
		labels labels
		pod    func(*corev1.Pod)
		server psa.Version
		want   Answer
		// controls are those of all rulings, causes what does not bite in them.
		controls []string
		causes   []Cause
		says     string
	}{
		"no labels admit, and the server's default is not known": {nil, hostPID, v(36), Admits, nil, nil, "configuration"},
		"enforce refuses":                             {labels{psa.EnforceLevelLabel: "baseline"}, hostPID, v(36), Refuses, []string{"hostNamespaces"}, nil, `violates PodSecurity "baseline:latest": host namespaces (hostPID=true)`},
		"a refusal says that it may be exempt":        {labels{psa.EnforceLevelLabel: "baseline"}, hostPID, v(36), Refuses, []string{"hostNamespaces"}, nil, "may exempt"},
		"enforce admits what its level allows":        {labels{psa.EnforceLevelLabel: "baseline"}, rootUser, v(36), Admits, nil, nil, "allows it"},
		"privileged admits all":                       {labels{psa.EnforceLevelLabel: "privileged"}, hostPID, v(36), Admits, nil, nil, ""},
		"an invalid level is restricted":              {labels{psa.EnforceLevelLabel: "Baseline"}, rootUser, v(36), Refuses, []string{"runAsUser"}, nil, `"Baseline" is no level`},
		"an invalid version is latest":                {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "1.24"}, hostProbe, v(36), Refuses, []string{"hostProbesAndHostLifecycle"}, nil, ""},
		"warn alone refuses nothing":                  {labels{psa.WarnLevelLabel: "baseline"}, hostPID, v(36), Admits, []string{"hostNamespaces"}, []Cause{CausePSANotEnforced}, ""},
		"audit alone refuses nothing":                 {labels{psa.AuditLevelLabel: "restricted"}, rootUser, v(36), Admits, []string{"runAsUser"}, []Cause{CausePSANotEnforced}, ""},
		"warn and audit alike are one":                {labels{psa.AuditLevelLabel: "baseline", psa.WarnLevelLabel: "baseline"}, hostPID, v(36), Admits, []string{"hostNamespaces"}, []Cause{CausePSANotEnforced}, ""},
		"warn that is stricter than enforce":          {labels{psa.EnforceLevelLabel: "baseline", psa.WarnLevelLabel: "restricted"}, rootUser, v(36), Admits, []string{"runAsUser"}, []Cause{CausePSANotEnforced}, ""},
		"warn as strict as enforce adds nothing":      {labels{psa.EnforceLevelLabel: "baseline", psa.WarnLevelLabel: "baseline"}, hostPID, v(36), Refuses, []string{"hostNamespaces"}, nil, ""},
		"an invalid warn reports nothing":             {labels{psa.WarnLevelLabel: "strict"}, hostPID, v(36), Admits, nil, nil, ""},
		"an old version lacks a control":              {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "v1.33"}, hostProbe, v(36), Admits, []string{"hostProbesAndHostLifecycle"}, []Cause{CausePSAOldVersion}, ""},
		"an old version that lacks nothing here":      {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "v1.33"}, rootUser, v(36), Admits, nil, nil, ""},
		"latest is the server's own version":          {labels{psa.EnforceLevelLabel: "baseline"}, hostProbe, v(33), Admits, nil, nil, ""},
		"a version beyond the server is the server's": {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "v1.34"}, hostProbe, v(33), Admits, nil, nil, ""},
		"a server of no known version has all checks": {labels{psa.EnforceLevelLabel: "baseline"}, hostProbe, psa.Version{}, Refuses, []string{"hostProbesAndHostLifecycle"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rulings := (&Set{Server: test.server}).Decide(Subject{Pod: podOf(test.pod), Namespace: labelled(test.labels)}).Rulings
			answer, _ := conclude(rulings, nil)
			var controls []string
			var causes []Cause
			text := ""
			for _, r := range rulings {
				controls = append(controls, r.Controls...)
				text += r.Message
				if r.Toothless != nil {
					causes = append(causes, r.Toothless.Cause)
					if r.Toothless.Mend == "" || r.Toothless.Reason == "" {
						t.Errorf("no reason or mend: %+v", r.Toothless)
					}
				}
			}
			if answer != test.want || !slices.Equal(controls, test.controls) || !slices.Equal(causes, test.causes) {
				t.Errorf("%s %q %q, want %s %q %q", answer, controls, causes, test.want, test.controls, test.causes)
			}
			if !strings.Contains(text, test.says) {
				t.Errorf("says %q, want %q in it", text, test.says)
			}
		})
	}
}

func TestPodSecurityWithoutTheNamespace(t *testing.T) {
	rulings := (&Set{Server: v(36)}).Decide(Subject{Pod: podOf(hostPID), NamespaceUnknown: "namespaces: forbidden"}).Rulings
	if len(rulings) != 1 || rulings[0].Answer != Unknown || !strings.Contains(rulings[0].Message, "namespaces: forbidden") {
		t.Errorf("%+v", rulings)
	}
}

// Every conformance pod is judged as the library's own evaluator judges it.
func TestPodSecurityEqualsTheEvaluator(t *testing.T) {
	evaluator := func(server psa.Version) policy.Evaluator {
		e, err := policy.NewEvaluator(policy.DefaultChecks(), &server)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	judged, pods := 0, oracle.ConformancePods(t, "*", "*")
	for _, server := range []psa.Version{v(24), v(34), v(36), v(37)} {
		official := evaluator(server)
		for i, p := range pods {
			if i%7 != 0 {
				continue
			}
			judged++
			ns := labelled(map[string]string{psa.EnforceLevelLabel: string(p.Level), psa.EnforceVersionLabel: p.Version.String()})
			ruling := (&Set{Server: server}).Decide(Subject{Pod: p.Pod, Namespace: ns}).Rulings[0]
			results := policy.AggregateCheckResults(official.EvaluatePod(psa.LevelVersion{Level: p.Level, Version: p.Version}, &p.Pod.ObjectMeta, &p.Pod.Spec))
			if results.Allowed != (ruling.Answer == Admits) {
				t.Errorf("%s on %s: %s, the evaluator allows it: %v", p.Name, server.String(), ruling.Answer, results.Allowed)
			}
			if !results.Allowed && !strings.Contains(ruling.Message, results.ForbiddenDetail()) {
				t.Errorf("%s on %s: says %q, the evaluator %q", p.Name, server.String(), ruling.Message, results.ForbiddenDetail())
			}
			effective := p.Version
			if server.Older(effective) {
				effective = server
			}
			if want := oracle.Controls(p.Level, effective, p.Pod); ruling.Answer == Refuses && !slices.Equal(slices.Sorted(slices.Values(ruling.Controls)), want) {
				t.Errorf("%s on %s: %q, want %q", p.Name, server.String(), ruling.Controls, want)
			}
		}
	}
	if judged < 2000 {
		t.Errorf("%d pods judged", judged)
	}
}

func TestNamespaceFaults(t *testing.T) {
	type labels = map[string]string
	for name, test := range map[string]struct {
		labels labels
		want   []Cause
		says   string
	}{
		"none without labels":                         {nil, nil, ""},
		"none when enforced at the newest":            {labels{psa.EnforceLevelLabel: "restricted", psa.WarnLevelLabel: "restricted"}, nil, ""},
		"warn alone":                                  {labels{psa.WarnLevelLabel: "baseline"}, []Cause{CausePSANotEnforced}, "warn"},
		"warn and audit at different levels are two":  {labels{psa.WarnLevelLabel: "baseline", psa.AuditLevelLabel: "restricted"}, []Cause{CausePSANotEnforced, CausePSANotEnforced}, "audit"},
		"a stricter warn beside enforce is a custom":  {labels{psa.EnforceLevelLabel: "baseline", psa.WarnLevelLabel: "restricted"}, nil, ""},
		"an old baseline names what it lacks":         {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "v1.30"}, []Cause{CausePSAOldVersion}, "hostProbesAndHostLifecycle"},
		"a version that only relaxed is no fault":     {labels{psa.EnforceLevelLabel: "restricted", psa.EnforceVersionLabel: "v1.34"}, nil, ""},
		"an old restricted names what it lacks":       {labels{psa.EnforceLevelLabel: "restricted", psa.EnforceVersionLabel: "v1.21"}, []Cause{CausePSAOldVersion}, "capabilities_restricted, runAsUser"},
		"a version beyond the server is no fault":     {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "v1.99"}, nil, ""},
		"an old version of privileged is no fault":    {labels{psa.EnforceLevelLabel: "privileged", psa.EnforceVersionLabel: "v1.1"}, nil, ""},
		"an invalid level of enforce":                 {labels{psa.EnforceLevelLabel: "on"}, []Cause{CausePSAInvalid}, "restricted"},
		"an invalid level of warn reports nothing":    {labels{psa.WarnLevelLabel: "on"}, []Cause{CausePSAInvalid}, "reports nothing"},
		"an invalid version":                          {labels{psa.EnforceLevelLabel: "baseline", psa.EnforceVersionLabel: "1.30"}, []Cause{CausePSAInvalid}, "latest"},
		"two invalid labels are two faults, in order": {labels{psa.WarnLevelLabel: "x", psa.AuditLevelLabel: "y"}, []Cause{CausePSAInvalid, CausePSAInvalid}, "/warn is"},
	} {
		t.Run(name, func(t *testing.T) {
			var causes []Cause
			text := ""
			for _, fault := range NamespaceFaults(labelled(test.labels), v(36)) {
				causes = append(causes, fault.Cause)
				text += fault.Reason + "\n"
				if fault.Mend == "" {
					t.Errorf("no mend: %+v", fault)
				}
			}
			if !slices.Equal(causes, test.want) || !strings.Contains(text, test.says) {
				t.Errorf("%q %q, want %q and %q", causes, text, test.want, test.says)
			}
		})
	}
}
