package scan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// inCEL adds a ValidatingAdmissionPolicy on pods, bound with Deny.
func (m *memory) inCEL(name, resource, expression string) {
	m.objects[kindVAP] = append(m.objects[kindVAP], fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":%q},"spec":{"failurePolicy":"Fail","matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":[%q]}]},"validations":[{"expression":%q}]}}`, name, resource, expression))
	m.objects[kindVAPBinding] = append(m.objects[kindVAPBinding], fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":%q},"spec":{"policyName":%q,"validationActions":["Deny"]}}`, name, name))
}

// noPath is an expression that no escape path meets, but for what capabilities asks of
// the added ones and but for init containers.
func noPath(capabilities string) string {
	return `!has(object.spec.hostPID) && !has(object.spec.hostNetwork) && !has(object.spec.hostIPC) && (!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.hostPath))) && ` +
		`object.spec.containers.all(c, !has(c.securityContext) || (!has(c.securityContext.privileged) && !has(c.securityContext.procMount) && (!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) || ` + capabilities + `))) && ` +
		`(!has(object.spec.securityContext) || !has(object.spec.securityContext.windowsOptions))`
}

// noDebugging refuses all ephemeral containers.
func (m *memory) noDebugging() { m.inCEL("debug", "pods/ephemeralcontainers", "false") }

// anywhere is an expression that no escape path meets that is in one of the containers
// or in the pod.
func anywhere(containers string) string {
	return `!object.spec.?hostPID.orValue(false) && !object.spec.?hostNetwork.orValue(false) && !object.spec.?hostIPC.orValue(false) && object.spec.?volumes.orValue([]).all(v, !has(v.hostPath)) && ` +
		`(` + containers + `).all(c, !has(c.securityContext.privileged) && !has(c.securityContext.procMount) && !has(c.securityContext.capabilities.add))`
}

// validatingAll is a ValidatingPolicy that no escape path meets.
func validatingAll() string {
	return fmt.Sprintf(`{"apiVersion":"policies.kyverno.io/v1","kind":"ValidatingPolicy","metadata":{"name":"all"},"spec":{"validationActions":["Deny"],"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":["pods","pods/ephemeralcontainers"]}]},"validations":[{"expression":%q}]}}`,
		anywhere(`object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])`))
}

// kyvernoBaselineRule is a ClusterPolicy of level baseline, with more in its rule.
func kyvernoBaselineRule(match, more string) string {
	return fmt.Sprintf(`{"apiVersion":"kyverno.io/v1","kind":"ClusterPolicy","metadata":{"name":"base"},"spec":{"background":true,"rules":[{"name":"r","match":{"any":[{"resources":{"kinds":["Pod"]%s}}]},"validate":{"failureAction":"Enforce","podSecurity":{"level":"baseline","version":"latest"%s}}}]},"status":{"conditions":[{"type":"Ready","status":"True","reason":"Succeeded"}]}}`, match, more)
}

// agentsOf is a cluster in which all is in place, with one DaemonSet more.
func agentsOf(spec corev1.PodSpec) *memory {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "web", spec)
	return m
}

// TestWhatSeals: a workload is sealed only where admission refuses every path for the
// path itself, wherever and in whatever words it is put in.
func TestWhatSeals(t *testing.T) {
	baseline := func(m *memory) {
		m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
	}
	for name, test := range map[string]struct {
		change       func(*memory)
		want         Verdict
		reopen       admission.Answer
		reopenReason string
	}{
		"Pod Security": {baseline, VerdictSealed, admission.Refuses, "exempts"},
		"Kyverno": {func(m *memory) { m.objects[kindKyverno] = []string{kyvernoBaselineRule("", "")} },
			VerdictSealed, admission.Refuses, "ClusterPolicy base"},
		"Kyverno that is gone": {func(m *memory) {
			m.objects[kindKyverno], m.kyverno = []string{kyvernoBaselineRule("", "")}, nil
		}, VerdictClosed, admission.Unknown, "no pod of Kyverno's admission controller runs"},
		"Kyverno that is not ready": {func(m *memory) {
			m.objects[kindKyverno], m.kyverno = []string{kyvernoBaselineRule("", "")}, kyvernoPods(false)
		}, VerdictClosed, admission.Unknown, "no pod of Kyverno's admission controller is ready"},
		"Kyverno that cannot be seen": {func(m *memory) {
			m.objects[kindKyverno], m.kyverno, m.kyvernoErr = []string{kyvernoBaselineRule("", "")}, nil, forbidden("pods")
		}, VerdictClosed, admission.Unknown, "whether Kyverno runs is not known"},
		"Kyverno's policy in CEL": {func(m *memory) { m.objects[kindValidating] = []string{validatingAll()} },
			VerdictSealed, admission.Refuses, "ValidatingPolicy all"},
		"Kyverno's policy in CEL, and Kyverno gone": {func(m *memory) {
			m.objects[kindValidating], m.kyverno = []string{validatingAll()}, nil
		}, VerdictClosed, admission.Unknown, "no pod of Kyverno's admission controller runs"},
		"a policy about registries": {func(m *memory) {
			m.noDebugging()
			m.inCEL("registry", "pods", "object.spec.containers.all(c, c.image.startsWith('elsewhere.example.com/'))")
		}, VerdictClosed, admission.Unknown, "without the path as well"},
		"a policy about registries beside Pod Security": {func(m *memory) {
			baseline(m)
			m.inCEL("registry", "pods", "object.spec.containers.all(c, c.image.startsWith('registry.example.com/'))")
		}, VerdictSealed, admission.Refuses, ""},
		"init containers are let in": {func(m *memory) { m.inCEL("own", "pods", noPath("false")) }, VerdictClosed, admission.Admits, "init container"},
		"capabilities by one name only": {func(m *memory) {
			m.noDebugging()
			m.inCEL("own", "pods", "!has(object.spec.initContainers) && "+noPath("c.securityContext.capabilities.add.all(x, !(x in ['SYS_ADMIN','SYS_MODULE','SYS_PTRACE','DAC_READ_SEARCH','SYS_RAWIO','SYS_BOOT','BPF','PERFMON','NET_ADMIN']))"))
		}, VerdictClosed, admission.Admits, "CAP_"},
		"capabilities in upper case only": {func(m *memory) {
			m.noDebugging()
			m.inCEL("own", "pods", "!has(object.spec.initContainers) && "+noPath("c.securityContext.capabilities.add.all(x, !(x in ['ALL','SYS_ADMIN','SYS_MODULE','SYS_PTRACE','DAC_READ_SEARCH','SYS_RAWIO','SYS_BOOT','BPF','PERFMON','NET_ADMIN']) && !x.startsWith('CAP_'))"))
		}, VerdictClosed, admission.Admits, "lower case"},
		"paths of the host read-only": {func(m *memory) {
			m.noDebugging()
			m.inCEL("own", "pods", "!has(object.spec.initContainers) && "+strings.ReplaceAll(noPath("false"), "!has(v.hostPath)", "!has(v.hostPath) || object.spec.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(n, n.name != v.name || (has(n.readOnly) && n.readOnly)))"))
		}, VerdictClosed, admission.Admits, "read-only"},
		"paths of the host in init containers": {func(m *memory) {
			m.noDebugging()
			m.inCEL("own", "pods", "(!has(object.spec.initContainers) || object.spec.initContainers.all(c, !has(c.securityContext.privileged) && !has(c.securityContext.procMount) && !has(c.securityContext.capabilities.add))) && "+
				strings.ReplaceAll(noPath("false"), "!has(v.hostPath)", "!has(v.hostPath) || object.spec.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(n, n.name != v.name))"))
		}, VerdictClosed, admission.Admits, "init container"},
		"a policy in CEL on pods alone": {func(m *memory) {
			m.inCEL("own", "pods", anywhere(`object.spec.containers + object.spec.?initContainers.orValue([])`))
		}, VerdictClosed, admission.Admits, "ephemeral container"},
		"ephemeral containers that are not looked at": {func(m *memory) {
			m.inCEL("own", "pods/*", anywhere(`object.spec.containers + object.spec.?initContainers.orValue([])`))
		}, VerdictClosed, admission.Admits, "ephemeral container"},
		"a policy in CEL on all containers": {func(m *memory) {
			m.inCEL("own", "pods/*", anywhere(`object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])`))
		}, VerdictSealed, admission.Refuses, "own"},
		"a policy of its own for ephemeral containers": {func(m *memory) {
			m.inCEL("own", "pods", anywhere(`object.spec.containers + object.spec.?initContainers.orValue([])`))
			m.inCEL("debug", "pods/ephemeralcontainers", "request.subResource != 'ephemeralcontainers' || object.spec.?ephemeralContainers == oldObject.spec.?ephemeralContainers")
		}, VerdictSealed, admission.Refuses, "together"},
		"images that are excepted": {func(m *memory) {
			m.objects[kindKyverno] = []string{kyvernoBaselineRule("", `,"exclude":[{"controlName":"Privileged Containers","images":["`+plain().Containers[0].Image+`"]}]`)}
		}, VerdictClosed, admission.Admits, "podSecurity.exclude"},
		"images of others that are excepted": {func(m *memory) {
			m.objects[kindKyverno] = []string{kyvernoBaselineRule("", `,"exclude":[{"controlName":"Privileged Containers","images":["registry.example/other*"]}]`)}
		}, VerdictSealed, admission.Refuses, ""},
		"a container that is excepted by its name": {func(m *memory) {
			m.inCEL("own", "pods/*", strings.Replace(anywhere(`object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])`), "all(c, ", "all(c, c.name == '"+plain().Containers[0].Name+"' || ", 1))
		}, VerdictClosed, admission.Admits, ""},
		"a service account that is excepted": {func(m *memory) {
			for i := range m.pods {
				m.pods[i].Spec.ServiceAccountName = "trusted"
			}
			m.inCEL("own", "pods/*", "object.spec.?serviceAccountName.orValue('') == 'trusted' || ("+anywhere(`object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])`)+")")
		}, VerdictClosed, admission.Admits, ""},
		"Kyverno without ephemeral containers": {func(m *memory) {
			m.objects[kindKyverno] = []string{kyvernoBaselineRule(`,"operations":["CREATE"]`, "")}
		}, VerdictClosed, admission.Unknown, "ephemeral"},
	} {
		t.Run(name, func(t *testing.T) {
			m := agentsOf(plain())
			test.change(m)
			v := verdictOf(t, scanned(t, m), "agents")
			if v.Verdict != test.want || v.Layers.Reopen != test.reopen || !strings.Contains(v.Layers.ReopenReason, test.reopenReason) {
				t.Errorf("%s, reopening: %s (%s); want %s, %s with %q", v.Verdict, v.Layers.Reopen, v.Layers.ReopenReason, test.want, test.reopen, test.reopenReason)
			}
		})
	}
}

// TestReopeningReadsLabels: pods that differ in a label that a policy reads are not
// taken for the same.
func TestReopeningReadsLabels(t *testing.T) {
	m := agentsOf(plain())
	m.has("shop", "DaemonSet/free", "", "")
	spec := plain()
	spec.NodeName = "n1"
	m.runs(1, "shop", "fre", "DaemonSet/free", "", spec)
	m.pods[len(m.pods)-1].Labels = map[string]string{"free": "1"}
	m.inCEL("own", "pods", "(has(object.metadata.labels) && object.metadata.labels.exists(k, k == 'free')) || ("+noPath("false")+")")
	r := scanned(t, m)
	held, free := verdictOf(t, r, "agents").Layers.Reopens, verdictOf(t, r, "free").Layers.Reopens
	if len(held) >= len(free) {
		t.Errorf("%d paths are let in where the policy holds, %d where it does not", len(held), len(free))
	}
}

type withClaim struct{ *memory }

func (withClaim) HostVolumes(context.Context) (map[Claim]string, error) {
	return map[Claim]string{{"shop", "c"}: "/"}, nil
}

// TestCellsOfAdmission: a policy stops a path only where it refuses that path, as it
// stands in the pod.
func TestCellsOfAdmission(t *testing.T) {
	volumes := plain()
	volumes.Volumes = []corev1.Volume{
		{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
		{Name: "e", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/x"}}},
	}
	volumes.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d"}, {Name: "e", MountPath: "/e"}}
	debugged := privileged()
	debugged.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "dbg", Image: "x", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}}
	baseline := func(m *memory) {
		m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
	}
	kyverno := func(more string) func(*memory) {
		return func(m *memory) { m.objects[kindKyverno] = []string{kyvernoBaselineRule("", more)} }
	}
	for name, test := range map[string]struct {
		spec   corev1.PodSpec
		change func(*memory)
		want   map[pathKey]Stops
	}{
		"one capability excepted, another refused": {adding("SYS_ADMIN", "SYS_MODULE"),
			kyverno(`,"exclude":[{"controlName":"Capabilities","images":["*"],"restrictedField":"spec.containers[*].securityContext.capabilities.add","values":["SYS_ADMIN"]}]`),
			map[pathKey]Stops{{"escape-cap-sys-admin", "app"}: StopsNo, {"escape-cap-sys-module", "app"}: StopsYes}},
		"a claim beside a refused hostPath": {volumes, baseline,
			map[pathKey]Stops{{"escape-host-root", "app"}: StopsNo, {"escape-hostpath-write", "app"}: StopsYes}},
		"an ephemeral container under Kyverno": {debugged, kyverno(""),
			map[pathKey]Stops{{"escape-privileged", "app"}: StopsYes, {"escape-privileged", "dbg"}: StopsUnknown}},
		"an ephemeral container under Pod Security": {debugged, baseline,
			map[pathKey]Stops{{"escape-privileged", "app"}: StopsYes, {"escape-privileged", "dbg"}: StopsYes}},
		"no policy": {debugged, func(*memory) {},
			map[pathKey]Stops{{"escape-privileged", "app"}: StopsNo, {"escape-privileged", "dbg"}: StopsNo}},
	} {
		t.Run(name, func(t *testing.T) {
			m := agentsOf(test.spec)
			test.change(m)
			r := &recorder{}
			if err := ScanCluster(t.Context(), withClaim{m}, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, NewTally(r)); err != nil {
				t.Fatal(err)
			}
			got := map[pathKey]Cell{}
			for _, p := range verdictOf(t, r, "agents").Layers.Paths {
				got[pathKey{p.Path, p.Container}] = p.Admission
			}
			for key, want := range test.want {
				if got[key].Answer != want {
					t.Errorf("%s: %+v, want %s", key, got[key], want)
				}
			}
		})
	}
}

// TestNothingIsAskedAfterTheEnd: a run that was interrupted sends no more dry runs.
func TestNothingIsAskedAfterTheEnd(t *testing.T) {
	m := web()
	m.pageSize = 1000
	for w := range 50 {
		m.runs(1, "shop", fmt.Sprintf("w%d", w), fmt.Sprintf("DaemonSet/w%d", w), "", plain())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &surroundings{admission: &admission.Set{}, armor: nil}
	s.probes.AskServer = func(context.Context, *corev1.Pod) (admission.Ruling, error) {
		t.Error("the server was asked")
		return admission.Ruling{}, nil
	}
	newDoorman(s).decide(ctx, &m.pods[0], Digest{}, &Judgement{})
}

// Who may not ask the API server is told so once a namespace, and the run is not whole.
func TestADryRunThatIsForbiddenIsAFailure(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no right"))
	s := &surroundings{admission: &admission.Set{}}
	s.probes.AskServer = func(context.Context, *corev1.Pod) (admission.Ruling, error) {
		return admission.Ruling{By: admission.Ref{Mechanism: admission.AskedServer}, Answer: admission.Unknown, Message: "not allowed to ask"}, forbidden
	}
	door := newDoorman(s)
	for i, namespace := range []string{"shop", "shop", "bank"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(i)}}
		decision := door.decide(t.Context(), pod, Digest{}, &Judgement{}).decision
		if n := len(decision.Rulings); n == 0 || decision.Rulings[n-1].Message != "not allowed to ask" {
			t.Errorf("%s: %+v", namespace, decision)
		}
	}
	if len(s.failures) != 2 || s.failures[0].Namespace != "shop" || s.failures[1].Namespace != "bank" || s.failures[0].Reason != FailureForbidden {
		t.Errorf("failures %+v", s.failures)
	}
}
