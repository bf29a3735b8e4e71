package targets

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"github.com/escape-scanner/escape-scanner/scan"
)

// templateKinds are the kinds of controllers whose templates are read, those first
// that own others.
func templateKinds() []schema.GroupKind {
	return []schema.GroupKind{
		{Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "StatefulSet"}, {Group: "apps", Kind: "DaemonSet"},
		{Group: "batch", Kind: "CronJob"}, {Group: "batch", Kind: "Job"},
		{Group: "apps", Kind: "ReplicaSet"}, {Kind: "ReplicationController"},
	}
}

// controllers are the controllers of a cluster: the templates of those that are in
// scope and made by no other, and of all others what following owners reads.
type controllers struct {
	cluster   scan.Cluster
	scope     Scope
	templates []template
	owners    map[schema.GroupKind]map[[2]string]scan.Owner
	failures  []scan.Failure
}

// template is what makes pods of a workload.
type template struct {
	// meta is the controller's own, with what following owners reads.
	meta metav1.ObjectMeta
	kind string
	pod  *corev1.Pod
	// selects are the labels that the controller selects its pods by.
	selects map[string]string
}

var _ scan.OwnerReader = (*controllers)(nil)

func readControllers(ctx context.Context, cluster scan.Cluster, scope Scope) *controllers {
	c := &controllers{cluster: cluster, scope: scope, owners: map[schema.GroupKind]map[[2]string]scan.Owner{}}
	if source, ok := cluster.(scan.Templates); ok {
		err := source.Templates(ctx, func(t scan.Template) error {
			c.declared(t)
			return ctx.Err()
		})
		if err != nil {
			c.failures = append(c.failures, scan.FailureOf("templates", "", err, "workloads without pods"))
		}
		return c
	}
	for _, kind := range templateKinds() {
		if ctx.Err() != nil {
			return c
		}
		c.read(ctx, kind)
	}
	return c
}

// declared takes in a template of a dump. What stands in a dump without a namespace
// is in the one that a server would put it into.
func (c *controllers) declared(t scan.Template) {
	w := t.Workload
	if w.Namespace == "" {
		w.Namespace = corev1.NamespaceDefault
	}
	if !isTemplateKind(w.Kind) || !c.scope.Includes(w.Namespace, t.Pod.Meta.Labels) {
		return
	}
	meta := metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name}
	c.templates = append(c.templates, template{meta: meta, kind: w.Kind, pod: fromTemplate(&meta, t.Pod.Meta, t.Pod.Spec)})
}

// isTemplateKind tells a controller from a mere template, which makes no pods.
func isTemplateKind(kind string) bool { return kind != "Pod" && kind != "PodTemplate" }

// fromTemplate is the pod that a template makes.
func fromTemplate(controller, m *metav1.ObjectMeta, spec *corev1.PodSpec) *corev1.Pod {
	pod := reduced(m, spec)
	pod.Namespace, pod.Name, pod.OwnerReferences = controller.Namespace, "", nil
	return pod
}

func (c *controllers) read(ctx context.Context, kind schema.GroupKind) {
	owners := map[[2]string]scan.Owner{}
	err := c.cluster.Objects(ctx, kind, func(object []byte) error {
		c.take(kind, owners, object)
		return ctx.Err()
	})
	switch {
	case err == nil, errors.Is(err, scan.ErrNotServed):
		c.owners[kind] = owners
	default:
		// Those that did come are known all the same; owners are then asked for one by one.
		c.failures = append(c.failures, scan.FailureOf(kind.Kind, "", err, "workloads of this kind that have no pods"))
	}
}

// controller is what is read of an object with a pod template.
type controller struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Replicas *int32                 `json:"replicas"`
		Template corev1.PodTemplateSpec `json:"template"`
		// Claims are those of which a StatefulSet gives each pod its own.
		Claims []struct {
			Metadata metav1.ObjectMeta `json:"metadata"`
		} `json:"volumeClaimTemplates"`
		// JobTemplate is that of a CronJob.
		JobTemplate struct {
			Spec struct {
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// take takes a controller in.
func (c *controllers) take(kind schema.GroupKind, owners map[[2]string]scan.Owner, object []byte) {
	var o controller
	if err := kjson.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
		c.broken(kind, &o, err)
		return
	}
	owners[[2]string{o.Metadata.Namespace, o.Metadata.Name}] = scan.OwnerOf(&o.Metadata)
	made := &o.Spec.Template
	if kind.Kind == "CronJob" {
		made = &o.Spec.JobTemplate.Spec.Template
	}
	if !c.scope.Includes(o.Metadata.Namespace, made.Labels) || c.owned(&o) {
		return
	}
	for _, claim := range o.Spec.Claims {
		made.Spec.Volumes = append(made.Spec.Volumes, corev1.Volume{Name: claim.Metadata.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Metadata.Name + "-" + o.Metadata.Name},
		}})
	}
	selects, err := selectedLabels(kind, object)
	if err != nil {
		c.broken(kind, &o, err)
		return
	}
	c.templates = append(c.templates, template{
		meta: metav1.ObjectMeta{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Labels: o.Metadata.Labels, OwnerReferences: o.Metadata.OwnerReferences,
		},
		kind: kind.Kind, pod: fromTemplate(&o.Metadata, &made.ObjectMeta, &made.Spec), selects: selects,
	})
}

func (c *controllers) broken(kind schema.GroupKind, o *controller, err error) {
	c.failures = append(c.failures, scan.Failure{
		Subject: kind.Kind + " " + o.Metadata.Name, Namespace: o.Metadata.Namespace,
		Reason: scan.FailureInvalid, Message: err.Error(), Affects: "the workload's pods to come",
	})
}

// owned reports whether the template is no specimen because another stands above it:
// that of the controller's own controller, or none any more because what made it has
// scaled it down.
func (c *controllers) owned(o *controller) bool {
	ref := scan.ControllerOf(o.Metadata.OwnerReferences)
	if ref == nil {
		return false
	}
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
	if owner, ok := c.owners[kind][[2]string{o.Metadata.Namespace, ref.Name}]; ok && owner.UID == ref.UID {
		return true
	}
	return o.Spec.Replicas != nil && *o.Spec.Replicas == 0
}

// selectedLabels are the labels by which a controller selects its pods. What it says
// in expressions is not among them.
func selectedLabels(kind schema.GroupKind, object []byte) (map[string]string, error) {
	if kind == (schema.GroupKind{Kind: "ReplicationController"}) {
		var o struct {
			Spec struct {
				Selector map[string]string `json:"selector"`
			} `json:"spec"`
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
			return nil, fmt.Errorf("selector: %w", err)
		}
		return o.Spec.Selector, nil
	}
	var o struct {
		Spec struct {
			Selector metav1.LabelSelector `json:"selector"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	return o.Spec.Selector.MatchLabels, nil
}

// Owners implements scan.OwnerReader: what was read whole is not asked for again.
func (c *controllers) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	known, ok := c.owners[kind.GroupKind()]
	if !ok {
		return c.cluster.Owners(ctx, namespace, kind, visit)
	}
	var page []scan.Owner
	for _, o := range known {
		if namespace == "" || o.Namespace == namespace {
			page = append(page, o)
		}
	}
	return visit(page)
}

// Owner implements scan.OwnerReader.
func (c *controllers) Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	return c.cluster.Owner(ctx, namespace, kind, name)
}
