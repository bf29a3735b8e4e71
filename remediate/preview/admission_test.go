package preview_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// admissionOnly is a set that rules on admission alone, by one mechanism.
func admissionOnly(t testing.TB, by set.Admission, change ...func(*set.Options)) *set.Set {
	t.Helper()
	return rendered(t, func(o *set.Options) {
		o.Admission, o.Only = by, []string{string(set.PartAdmission)}
		for _, c := range change {
			c(o)
		}
	})
}

const offending = `
hostNetwork: true
volumes: [{name: root, hostPath: {path: /}}]
containers: [{image: app, securityContext: {privileged: true, capabilities: {add: [SYS_ADMIN, NET_ADMIN]}}}]`

// Whatever rules on admission, the same pods are refused, for the same controls and
// fields.
func TestRefusedPods(t *testing.T) {
	t.Parallel()
	for _, by := range []set.Admission{set.AdmissionPSA, set.AdmissionKyverno, set.AdmissionKyvernoCEL, set.AdmissionVAP} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			s := admissionOnly(t, by)
			wantLines(t, judged(t, s, offending),
				"breaks|admission|hostNamespaces||spec.hostNetwork",
				"breaks|admission|hostPathVolumes||spec.volumes[0].hostPath",
				"breaks|admission|capabilities_baseline|web|spec.containers[0].securityContext.capabilities.add[0]",
				"breaks|admission|capabilities_baseline|web|spec.containers[0].securityContext.capabilities.add[1]",
				"breaks|admission|privileged|web|spec.containers[0].securityContext.privileged",
			)
			wantLines(t, judged(t, s, `containers: [{image: app}]`))
			for _, e := range judged(t, s, offending).Effects {
				if e.Pods != 2 || !strings.Contains(e.Why, "what runs goes on until then") || e.Mend == "" {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// A set that only reports breaks nothing.
func TestAuditedAdmission(t *testing.T) {
	t.Parallel()
	for _, by := range []set.Admission{set.AdmissionPSA, set.AdmissionKyverno, set.AdmissionKyvernoCEL, set.AdmissionVAP} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			s := admissionOnly(t, by, func(o *set.Options) { o.Action = set.ActionAudit })
			w := judged(t, s, offending)
			if w.Outcome != preview.Safe || len(w.Effects) != 1 || !strings.Contains(w.Effects[0].What, "would be reported") {
				t.Errorf("%s: %+v", w.Outcome, w.Effects)
			}
		})
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	s := admissionOnly(t, set.AdmissionPSA, func(o *set.Options) { o.Level = psa.LevelRestricted })
	wantLines(t, judged(t, s, `
securityContext: {seccompProfile: {type: RuntimeDefault}, runAsNonRoot: true}
containers: [{image: app, securityContext: {allowPrivilegeEscalation: false}}]`),
		"breaks|admission|capabilities_restricted|web|spec.containers[0].securityContext.capabilities.drop")
}

func TestRefusedTodayAlready(t *testing.T) {
	t.Parallel()
	s := admissionOnly(t, set.AdmissionKyverno)
	labelled := func(in *preview.Input) {
		in.Namespaces["shop"].Labels = map[string]string{psa.EnforceLevelLabel: "baseline"}
	}
	w := judged(t, s, offending, labelled)
	if w.Outcome != preview.Safe || len(w.Effects) != 1 || w.Effects[0].What != "is refused today already" {
		t.Errorf("by the namespace's labels: %s: %+v", w.Outcome, w.Effects)
	}
	w = judged(t, s, offending, func(in *preview.Input) {
		in.Today = &admission.Set{Expressions: []admission.Rules{refusing{}}}
	})
	if w.Outcome != preview.Safe || len(w.Effects) != 1 || w.Effects[0].What != "is refused today already" {
		t.Errorf("by a policy: %s: %+v", w.Outcome, w.Effects)
	}
}

type refusing struct{}

func (refusing) Rule(admission.Subject) []admission.Ruling {
	return []admission.Ruling{{Answer: admission.Refuses}}
}
func (refusing) Reads() admission.Keys { return admission.Keys{} }

// What was added to a pod for debugging is not created with it again.
func TestEphemeralContainersAreNotCreatedAgain(t *testing.T) {
	t.Parallel()
	for _, by := range []set.Admission{set.AdmissionPSA, set.AdmissionKyverno, set.AdmissionKyvernoCEL, set.AdmissionVAP} {
		wantLines(t, judged(t, admissionOnly(t, by), `
containers: [{image: app}]
ephemeralContainers: [{name: debug, image: app, securityContext: {privileged: true}}]`))
	}
}

// Where every pod that runs differs from the template, something changes them.
func TestTemplateThatIsChangedWhenPodsAreCreated(t *testing.T) {
	t.Parallel()
	template, running := podOf(t, offending), podOf(t, `containers: [{image: app}]`)
	w := preview.Judge(inputOf(admissionOnly(t, set.AdmissionPSA), workloadOf("Deployment", "web",
		targets.Specimen{Pod: template}, targets.Specimen{Pod: running, Live: 3, Nodes: []string{"node1"}}))).Workloads[0]
	if w.Outcome != preview.MayBreak {
		t.Errorf("%s: %+v", w.Outcome, w.Effects)
	}
	// What is injected into the pods that run counts.
	w = preview.Judge(inputOf(admissionOnly(t, set.AdmissionPSA), workloadOf("Deployment", "web",
		targets.Specimen{Pod: running}, targets.Specimen{Pod: template, Live: 3, Nodes: []string{"node1"}}))).Workloads[0]
	if w.Outcome != preview.Breaks {
		t.Errorf("%s: %+v", w.Outcome, w.Effects)
	}
}

// A namespace that was not read: its labels are those of the set, what else it has is not
// known to be there.
func TestNamespaceThatWasNotRead(t *testing.T) {
	t.Parallel()
	without := func(in *preview.Input) { in.Namespaces = nil }
	if w := judged(t, admissionOnly(t, set.AdmissionPSA), offending, without); w.Outcome != preview.Breaks {
		t.Errorf("%s: %+v", w.Outcome, w.Effects)
	}
	if w := judged(t, admissionOnly(t, set.AdmissionPSA), `containers: [{image: app}]`, without); w.Outcome != preview.Safe {
		t.Errorf("%s: %+v", w.Outcome, w.Effects)
	}
}

// A server that is older than the library does not refuse what it does not know.
func TestServerVersion(t *testing.T) {
	t.Parallel()
	const hostProbe = `containers: [{image: app, livenessProbe: {httpGet: {port: 80, host: 10.0.0.1}}}]`
	for server, want := range map[string]preview.Outcome{"v1.33": preview.Safe, "v1.36": preview.Breaks} {
		version, err := psa.ParseVersion(server)
		if err != nil {
			t.Fatal(err)
		}
		w := judged(t, admissionOnly(t, set.AdmissionPSA), hostProbe, func(in *preview.Input) { in.Server = version })
		if w.Outcome != want {
			t.Errorf("%s: %s: %+v", server, w.Outcome, w.Effects)
		}
	}
}

// The input stays as it is.
func TestInputIsNotChanged(t *testing.T) {
	t.Parallel()
	pod := podOf(t, offending)
	pod.Spec.NodeName = "node1"
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	before := pod.DeepCopy()
	in := inputOf(rendered(t, nil), workloadOf("Deployment", "web", targets.Specimen{Pod: pod, Live: 1, Nodes: []string{"node1"}}))
	namespace := in.Namespaces["shop"].DeepCopy()
	preview.Judge(in)
	if !equal(before, pod) || !equal(namespace, in.Namespaces["shop"]) {
		t.Error("the pod or its namespace was changed")
	}
}

// A set for the whole cluster asks the namespace whether it is left out.
func TestClusterScope(t *testing.T) {
	t.Parallel()
	for _, by := range []set.Admission{set.AdmissionKyverno, set.AdmissionKyvernoCEL, set.AdmissionVAP} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			s := admissionOnly(t, by, func(o *set.Options) { o.Scope = targets.Scope{Exclude: []string{"lab"}} })
			named := func(name string) func(*preview.Input) {
				return func(in *preview.Input) {
					in.Workloads[0].Namespace, in.Workloads[0].Specimens[0].Pod.Namespace = name, name
					in.Namespaces = map[string]*corev1.Namespace{name: {}}
					in.Namespaces[name].Name = name
					in.Namespaces[name].Labels = map[string]string{corev1.LabelMetadataName: name}
				}
			}
			for name, want := range map[string]preview.Outcome{"shop": preview.Breaks, "lab": preview.Safe, "kube-system": preview.Safe} {
				if w := judged(t, s, offending, named(name)); w.Outcome != want {
					t.Errorf("%s: %s, want %s: %+v", name, w.Outcome, want, w.Effects)
				}
			}
		})
	}
}
