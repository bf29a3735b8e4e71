package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Cluster is what a scan reads of a cluster. An error of any method but
// ServerVersion costs only what that method reads: the scan goes on and says so.
// Errors are those of the API server (k8s.io/apimachinery/pkg/api/errors) where it
// answered.
type Cluster interface {
	// ServerVersion is the API server's version ("v1.36.3").
	ServerVersion(ctx context.Context) (string, error)
	// Namespaces lists all namespaces.
	Namespaces(ctx context.Context) ([]corev1.Namespace, error)
	// Nodes lists all nodes.
	Nodes(ctx context.Context) ([]corev1.Node, error)
	// Pods calls visit with the pods of a namespace ("" for all), page by page. A
	// page belongs to the caller until visit returns. An error after some pages
	// means that the rest is missing.
	Pods(ctx context.Context, namespace string, visit func(PodPage) error) error
	// Owners lists the objects of a kind in a namespace ("" for all) by what is
	// needed to follow owners.
	Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]Owner) error) error
	// Owner reads one object, of any kind.
	Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (Owner, error)
	// RuntimeClasses gives the handler of each runtime class.
	RuntimeClasses(ctx context.Context) (map[string]string, error)
	// HostVolumes gives the path of the host behind each claim that is bound to a
	// persistent volume of type hostPath or local.
	HostVolumes(ctx context.Context) (map[Claim]string, error)
	// Objects lists the objects of a kind as JSON, in all namespaces. The bytes belong
	// to the caller. ErrNotServed means that there are none,
	// ErrNotRecorded that nobody looked.
	Objects(ctx context.Context, kind schema.GroupKind, visit func(object []byte) error) error
	// LabelledPods lists the pods of all namespaces that a label selector matches.
	LabelledPods(ctx context.Context, selector string) ([]corev1.Pod, error)
}

// ErrNotServed says that the API server does not know the kind, so there is no such object.
var ErrNotServed = errors.New("the API server does not serve this kind")

// ErrNotRecorded says that the dump tells nothing of the kind, which may well exist.
var ErrNotRecorded = errors.New("not in the dump")

// Probes are the ways of looking closer that the user consented to; what is nil is
// not done. An error costs what it was to tell.
type Probes struct {
	// ProbeData reads what KubeArmor's agent wrote about its node, by exec.
	ProbeData func(ctx context.Context, agent kernel.Agent) (*kernel.Probe, error)
	// Machines checks the nodes by a short-lived DaemonSet. A node that is missing
	// could not run it; why says the reason for each.
	Machines func(ctx context.Context, nodes []string) (reports map[string]*kernel.Machine, why map[string]string, err error)
	// MachinesBy is the flag by which the user chose how Machines does it.
	MachinesBy string
	// AskServer asks the API server by a dry run whether it would create the pod.
	AskServer func(ctx context.Context, pod *corev1.Pod) (admission.Ruling, error)
	// Inspect resolves paths inside of a running container: for each the real path,
	// "" when there is no such file.
	Inspect func(ctx context.Context, namespace, pod, container string, paths []string) (map[string]string, error)
}

// flags are those by which the user consented. What they tell of a workload hangs on them.
func (p *Probes) flags() []string {
	var flags []string
	for _, probe := range []struct {
		flag string
		used bool
	}{
		{"--kubearmor-exec", p.ProbeData != nil}, {"--inspect-images", p.Inspect != nil}, {"--ask-server", p.AskServer != nil},
		{cmp.Or(p.MachinesBy, "--probe-nodes"), p.Machines != nil},
	} {
		if probe.used {
			flags = append(flags, probe.flag)
		}
	}
	return flags
}

// Claim names a persistent volume claim.
type Claim struct{ Namespace, Name string }

// HostVolume is the path of the host that a persistent volume is, and the claim
// that it is bound to; ok is false for all other volumes. A local one that is a device
// and not asked for as one is none: pods get the file system on it.
func HostVolume(pv *corev1.PersistentVolume) (claim Claim, path string, ok bool) {
	ref := pv.Spec.ClaimRef
	if ref == nil {
		return claim, "", false
	}
	claim = Claim{ref.Namespace, ref.Name}
	switch {
	case pv.Spec.HostPath != nil:
		path = pv.Spec.HostPath.Path
	case pv.Spec.Local != nil:
		path = pv.Spec.Local.Path
		asBlock := pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock
		if mount := (&hostMount{path: pathOnHost(path), volume: &corev1.Volume{}}); !asBlock && mount.isDevice() && mount.path != "/dev" {
			return claim, "", false
		}
	}
	return claim, path, path != ""
}

// PodPage is a page of pods as it came from the API server.
type PodPage struct {
	Items []corev1.Pod
	// Remaining is the server's estimate of how many follow, 0 when it gives none.
	Remaining int64
}

// Owner is what following owners reads of an object.
type Owner struct {
	Namespace, Name string
	UID             types.UID
	// TemplateHash is the label that a ReplicaSet puts on its pods.
	TemplateHash string
	// Controller is the object's own controller, nil when it has none.
	Controller *metav1.OwnerReference
}

// OwnerOf takes from an object's metadata what following owners reads. Nothing of
// it is shared with the metadata.
func OwnerOf(m *metav1.ObjectMeta) Owner {
	o := Owner{Namespace: m.Namespace, Name: m.Name, UID: m.UID, TemplateHash: m.Labels[labelTemplateHash]}
	if c := ControllerOf(m.OwnerReferences); c != nil {
		copied := *c
		o.Controller = &copied
	}
	return o
}

// ControllerOf is the controlling one of an object's owners, nil when it has none.
func ControllerOf(refs []metav1.OwnerReference) *metav1.OwnerReference {
	for i := range refs {
		if c := refs[i].Controller; c != nil && *c {
			return &refs[i]
		}
	}
	return nil
}

// refKind is the kind that an owner reference names.
func refKind(ref *metav1.OwnerReference) schema.GroupVersionKind {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		gv = schema.GroupVersion{Group: ref.APIVersion}
	}
	return gv.WithKind(ref.Kind)
}

func nodeOf(n *corev1.Node) *Node {
	info := n.Status.NodeInfo
	return &Node{
		Name: n.Name, KernelVersion: info.KernelVersion, OSImage: info.OSImage,
		OperatingSystem: info.OperatingSystem, Architecture: info.Architecture,
		ContainerRuntime: info.ContainerRuntimeVersion, KubeletVersion: info.KubeletVersion,
	}
}

// claim describes an owner reference that is not followed.
func claim(ref *metav1.OwnerReference, why string) string {
	return fmt.Sprintf("%s/%s (%s)", ref.Kind, ref.Name, why)
}
