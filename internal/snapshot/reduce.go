package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An inventory holds what is read and no more, and of what may hold secrets nothing
// that is not needed: no values of the environment, no arguments, of a command only
// the program, of annotations only those that something reads.

// leftOutMark is the annotation of objects that had others, none of which was kept.
const leftOutMark = Group + "/left-out"

// keptAnnotations are the beginnings of the keys that rules, or one of the layers,
// read.
var keptAnnotations = []string{
	corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix,
	"container.seccomp.security.alpha.kubernetes.io/",
	"seccomp.security.alpha.kubernetes.io/pod",
	"kubearmor",
	"pod-policies.kyverno.io/",
	corev1.MirrorPodAnnotationKey,
}

func keptAnnotation(key string) bool {
	for _, prefix := range keptAnnotations {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// reduceMeta keeps what tells an object apart. Annotations that are in also stay.
func reduceMeta(m *metav1.ObjectMeta, also map[string]bool) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: m.Name, GenerateName: m.GenerateName, Namespace: m.Namespace, UID: m.UID, Labels: m.Labels,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, OwnerReferences: m.OwnerReferences,
	}
	for key, value := range m.Annotations {
		if keptAnnotation(key) || also[key] {
			put(&out.Annotations, key, value)
		}
	}
	if len(also) > 0 && len(m.Annotations) > 0 && out.Annotations == nil {
		// Policies may ask whether there are any.
		out.Annotations = map[string]string{leftOutMark: "true"}
	}
	return out
}

// reducePod makes a pod of what is read of one. The original is not changed.
func reducePod(p *corev1.Pod, also map[string]bool) *corev1.Pod {
	out := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: reduceMeta(&p.ObjectMeta, also), Spec: p.Spec,
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, Reason: p.Status.Reason,
			ContainerStatuses:          reduceStatuses(p.Status.ContainerStatuses),
			InitContainerStatuses:      reduceStatuses(p.Status.InitContainerStatuses),
			EphemeralContainerStatuses: reduceStatuses(p.Status.EphemeralContainerStatuses),
		},
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	out.Spec.InitContainers = reduceAll(p.Spec.InitContainers, reduceContainer)
	out.Spec.Containers = reduceAll(p.Spec.Containers, reduceContainer)
	out.Spec.EphemeralContainers = reduceAll(p.Spec.EphemeralContainers, func(c *corev1.EphemeralContainer) {
		reduceContainer((*corev1.Container)(&c.EphemeralContainerCommon))
	})
	out.Spec.Volumes = reduceAll(p.Spec.Volumes, reduceVolume)
	return out
}

// reduceAll reduces copies of the elements.
func reduceAll[T any](list []T, reduce func(*T)) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(list))
	copy(out, list)
	for i := range out {
		reduce(&out[i])
	}
	return out
}

// program is what the first word of a command looks like when it names a program.
var program = regexp.MustCompile(`^[A-Za-z0-9._/+-]{1,255}$`)

func reduceContainer(c *corev1.Container) {
	c.Args = nil
	if len(c.Command) > 0 {
		first := c.Command[0]
		c.Command = nil
		if program.MatchString(first) {
			c.Command = []string{first}
		}
	}
	c.Env = reduceAll(c.Env, func(e *corev1.EnvVar) { e.Value = "" })
	for _, probe := range []**corev1.Probe{&c.LivenessProbe, &c.ReadinessProbe, &c.StartupProbe} {
		if *probe != nil {
			reduced := **probe
			reduceAction(&reduced.Exec, &reduced.HTTPGet)
			*probe = &reduced
		}
	}
	if c.Lifecycle != nil {
		reduced := *c.Lifecycle
		for _, handler := range []**corev1.LifecycleHandler{&reduced.PostStart, &reduced.PreStop} {
			if *handler != nil {
				h := **handler
				reduceAction(&h.Exec, &h.HTTPGet)
				*handler = &h
			}
		}
		c.Lifecycle = &reduced
	}
}

func reduceAction(exec **corev1.ExecAction, get **corev1.HTTPGetAction) {
	if *exec != nil {
		*exec = &corev1.ExecAction{}
	}
	if *get != nil {
		reduced := **get
		reduced.HTTPHeaders = nil
		reduced.Path, _, _ = strings.Cut(reduced.Path, "?")
		*get = &reduced
	}
}

func reduceVolume(v *corev1.Volume) {
	if v.CSI != nil {
		reduced := *v.CSI
		reduced.VolumeAttributes = nil
		v.CSI = &reduced
	}
	if v.FlexVolume != nil {
		reduced := *v.FlexVolume
		reduced.Options = nil
		v.FlexVolume = &reduced
	}
	if v.GitRepo != nil {
		reduced := *v.GitRepo
		reduced.Repository = withoutUser(reduced.Repository)
		v.GitRepo = &reduced
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		template := *v.Ephemeral.VolumeClaimTemplate
		template.ObjectMeta = reduceMeta(&template.ObjectMeta, nil)
		v.Ephemeral = &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &template}
	}
}

// withoutUser is an address without who asks there, and with what password.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

func reduceStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		c := &list[i]
		reduced := corev1.ContainerStatus{Name: c.Name, Ready: c.Ready, Started: c.Started, Image: c.Image}
		switch s := c.State; {
		case s.Running != nil:
			reduced.State.Running = s.Running
		case s.Waiting != nil:
			reduced.State.Waiting = &corev1.ContainerStateWaiting{Reason: s.Waiting.Reason}
		case s.Terminated != nil:
			reduced.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: s.Terminated.ExitCode, Reason: s.Terminated.Reason}
		}
		out = append(out, reduced)
	}
	return out
}

// reduceAgent is reducePod for a pod that is asked for by its label: why it is not
// ready is read too.
func reduceAgent(p *corev1.Pod) *corev1.Pod {
	out := reducePod(p, nil)
	out.Status.Message = p.Status.Message
	out.Status.Conditions = nil
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.PodScheduled {
			out.Status.Conditions = append(out.Status.Conditions, c)
		}
	}
	for _, lists := range [][2][]corev1.ContainerStatus{
		{out.Status.ContainerStatuses, p.Status.ContainerStatuses}, {out.Status.InitContainerStatuses, p.Status.InitContainerStatuses},
	} {
		for i := range lists[0] {
			to, from := &lists[0][i].State, &lists[1][i].State
			if to.Waiting != nil {
				to.Waiting.Message = from.Waiting.Message
			}
			if to.Terminated != nil {
				to.Terminated.Message = from.Terminated.Message
			}
		}
	}
	return out
}

// podDigest stands for a pod in a question about it: the same for the pod as it was
// read and as it was recorded.
func podDigest(p *corev1.Pod) string {
	text, err := json.Marshal(reducePod(p, nil))
	if err != nil {
		return "" // Only a quantity that no decoder lets pass has no JSON.
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func reduceNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: reduceMeta(&n.ObjectMeta, nil),
		Spec: corev1.NodeSpec{ProviderID: n.Spec.ProviderID, Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints},
		Status: corev1.NodeStatus{
			NodeInfo: n.Status.NodeInfo, Capacity: n.Status.Capacity, Features: n.Status.Features, RuntimeHandlers: n.Status.RuntimeHandlers,
		},
	}
	out.ManagedFields = reduceManaged(n.ManagedFields)
	// They are identities of the machine, which nothing reads.
	out.Status.NodeInfo.MachineID, out.Status.NodeInfo.SystemUUID, out.Status.NodeInfo.BootID = "", "", ""
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			c.LastHeartbeatTime = metav1.Time{}
			out.Status.Conditions = append(out.Status.Conditions, c)
		}
	}
	return out
}

// installerLabels begin the labels of nodes that KubeArmor's installer writes: when it
// did so is evidence.
const installerLabels = "f:kubearmor.io/"

// reduceManaged keeps who wrote the labels of KubeArmor's installer, and when.
func reduceManaged(fields []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var out []metav1.ManagedFieldsEntry
	for _, m := range fields {
		var owned struct {
			Metadata struct {
				Labels map[string]struct{} `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if m.FieldsV1 == nil || m.Subresource != "" || json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		labels := owned.Metadata.Labels
		maps.DeleteFunc(labels, func(key string, _ struct{}) bool { return !strings.HasPrefix(key, installerLabels) })
		if len(labels) == 0 {
			continue
		}
		raw, err := json.Marshal(map[string]any{"f:metadata": map[string]any{"f:labels": labels}})
		if err != nil {
			continue // Strings always have JSON.
		}
		m.FieldsV1 = metav1.NewFieldsV1(string(raw))
		out = append(out, m)
	}
	return out
}

func reduceNamespace(n *corev1.Namespace, also map[string]bool) *corev1.Namespace {
	return &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: reduceMeta(&n.ObjectMeta, also),
		Status: corev1.NamespaceStatus{Phase: n.Status.Phase},
	}
}

// reduceObject keeps of a policy all but the metadata that nothing reads.
func reduceObject(object []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	meta, _ := all["metadata"].(map[string]any)
	kept := map[string]any{}
	for _, field := range []string{"name", "namespace", "uid", "labels", "generation", "creationTimestamp", "deletionTimestamp"} {
		if v, ok := meta[field]; ok {
			kept[field] = v
		}
	}
	annotations := map[string]any{}
	if all, ok := meta["annotations"].(map[string]any); ok {
		for key, value := range all {
			if keptAnnotation(key) {
				annotations[key] = value
			}
		}
	}
	if len(annotations) > 0 {
		kept["annotations"] = annotations
	}
	all["metadata"] = kept
	return all, nil
}
