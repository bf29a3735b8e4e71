package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

const (
	probePrefix    = "escape-scanner-probe-"
	probeContainer = "node"
	// probeRoot is where the check finds the host's directories.
	probeRoot = "/host"
	// lifetimeAnnotation says for how long a DaemonSet is wanted, runLabel which run
	// it belongs to.
	lifetimeAnnotation = "escape-scanner/lifetime"
	runLabel           = "escape-scanner/run"
)

// DefaultProbeNamespace is where the check of nodes runs when nothing else is said.
// Every cluster has it, and hardly any refuses pods with host directories there.
const DefaultProbeNamespace = metav1.NamespaceSystem

// DefaultProbeTimeout is how long nodes have to report when nothing else is said.
const DefaultProbeTimeout = 3 * time.Minute

// ProbeOptions say how nodes are checked.
type ProbeOptions struct {
	// Image is an image whose entry point is this program.
	Image string
	// Namespace is where the DaemonSet is made. It must admit pods with host
	// directories (pod-security level privileged).
	Namespace string
	// Load tries to load a BPF program on each node, for which the pods get the
	// capabilities BPF and PERFMON and no seccomp profile.
	Load bool
	// Timeout is how long nodes have to report.
	Timeout time.Duration
	// Poll is how often the pods are looked at.
	Poll time.Duration
	// Note is told what happens beside the check; nil for nobody.
	Note func(string)
}

func (o *ProbeOptions) note(text string) {
	if o.Note != nil {
		o.Note(text)
	}
}

// NodeProbe is a check of nodes that is planned: the DaemonSet, as it will be made.
type NodeProbe struct {
	opts ProbeOptions
	set  *appsv1.DaemonSet
}

// NewNodeProbe plans a check. Its DaemonSet has a name that no other has.
func NewNodeProbe(opts ProbeOptions) (*NodeProbe, error) {
	if strings.TrimSpace(opts.Image) == "" {
		return nil, errors.New("check of nodes: an image is needed")
	}
	if opts.Namespace == "" {
		opts.Namespace = DefaultProbeNamespace
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultProbeTimeout
	}
	if opts.Poll <= 0 {
		opts.Poll = 2 * time.Second
	}
	return &NodeProbe{opts, daemonSet(opts, rand.String(8))}, nil
}

// Manifest is the DaemonSet as YAML, exactly as it is sent to the API server.
func (p *NodeProbe) Manifest() ([]byte, error) {
	text, err := yaml.Marshal(p.set)
	if err != nil {
		return nil, fmt.Errorf("check of nodes: %w", err)
	}
	return text, nil
}

func probeLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "escape-scanner-node-probe", "app.kubernetes.io/managed-by": "escape-scanner"}
}

func daemonSet(opts ProbeOptions, run string) *appsv1.DaemonSet {
	labels := probeLabels()
	labels[runLabel] = run
	// Beyond its own time a run needs some to clean up.
	lifetime := opts.Timeout + 2*cleanupTime
	return &appsv1.DaemonSet{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{
			Name: probePrefix + run, Namespace: opts.Namespace, Labels: labels,
			Annotations: map[string]string{lifetimeAnnotation: lifetime.String()},
		},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: maps.Clone(labels)},
			// All nodes at once: the check waits for none.
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(labels)}, Spec: probePod(opts)},
		},
	}
}

// probePod is as little as the check needs: no token, no capabilities, nothing of the
// host but what says which security modules are active, all of it read-only. It is
// root, since some of these files are root's alone.
func probePod(opts ProbeOptions) corev1.PodSpec {
	security := &corev1.SecurityContext{
		RunAsUser: new(int64(0)), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if opts.Load {
		// Older runtimes let bpf(2) through to SYS_ADMIN only, which is more than it
		// takes.
		security.Capabilities.Add = []corev1.Capability{"BPF", "PERFMON"}
		security.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined
	}
	small := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")}
	most := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	spec := corev1.PodSpec{
		AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false), TerminationGracePeriodSeconds: new(int64(1)),
		DNSPolicy:    corev1.DNSDefault,
		NodeSelector: map[string]string{corev1.LabelOSStable: "linux"},
		Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: probeContainer, Image: opts.Image,
			Args:            []string{"node", "-o", "json", "--host-root", probeRoot, fmt.Sprintf("--load=%t", opts.Load)},
			SecurityContext: security, Resources: corev1.ResourceRequirements{Requests: small, Limits: most},
		}},
	}
	// The type keeps runtimes from making a directory that a host lacks. /sys and not
	// its parts, because on a host that lacks one of these the pod would not start.
	for _, mount := range []struct{ name, path string }{{"sys", "/sys"}, {"boot", "/boot"}} {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: mount.name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: mount.path, Type: new(corev1.HostPathDirectory)},
		}})
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{
			Name: mount.name, MountPath: probeRoot + mount.path, ReadOnly: true,
			RecursiveReadOnly: new(corev1.RecursiveReadOnlyIfPossible),
		})
	}
	return spec
}

// nodeOfPod is the node that a DaemonSet's pod is made for, before it is bound too.
func nodeOfPod(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

// cannotRun is why a pod will not run, as far as that is settled.
func cannotRun(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason == corev1.PodReasonUnschedulable {
			return "its pod cannot be scheduled: " + shorten(condition.Message, maxAnswer)
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return strings.Join(nonEmpty("its pod failed", pod.Status.Reason, shorten(pod.Status.Message, maxAnswer)), ": ")
	}
	for _, status := range pod.Status.ContainerStatuses {
		w := status.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return strings.Join(nonEmpty("its pod does not start", w.Reason, shorten(w.Message, maxAnswer)), ": ")
		}
	}
	return ""
}

// podState is how far a pod is, for a node that does not get further.
func podState(pod *corev1.Pod) string {
	words := []string{"its pod is " + strings.ToLower(string(pod.Status.Phase))}
	for _, status := range pod.Status.ContainerStatuses {
		if w := status.State.Waiting; w != nil {
			words = append(words, w.Reason, shorten(w.Message, maxAnswer))
		}
	}
	switch {
	case pod.Status.Phase != corev1.PodPending:
	case pod.Spec.NodeName == "":
		words = append(words, "no scheduler has taken it")
	default:
		words = append(words, "its events say why")
	}
	return strings.Join(nonEmpty(words...), ": ")
}

// decodeReport finds the report in a log, where warnings may stand before it.
func decodeReport(text []byte) (*kernel.Machine, error) {
	start := 0
	if !bytes.HasPrefix(text, []byte("{")) {
		if start = bytes.Index(text, []byte("\n{")) + 1; start == 0 {
			return nil, fmt.Errorf("no report in it: %q", shorten(string(bytes.TrimSpace(text)), 200))
		}
	}
	var m kernel.Machine
	if err := json.NewDecoder(bytes.NewReader(text[start:])).Decode(&m); err != nil {
		return nil, fmt.Errorf("no report in it: %w", err)
	}
	if err := checkReport(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

// checkReport tells whether a report has what one of this program has.
func checkReport(m *kernel.Machine) error {
	answers := []kernel.Answer{kernel.Yes, kernel.No, kernel.Unknown}
	if m.Time.IsZero() || !slices.Contains(answers, m.BPFListed) || !slices.Contains(answers, m.Loads) || !slices.Contains(answers, m.Conclusion) {
		return errors.New("the report in it is not one of this version: is the image another version?")
	}
	return nil
}
