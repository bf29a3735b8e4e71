package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/remediate"
)

// EventWriter writes Kubernetes Events, each once. It is safe for concurrent use.
type EventWriter struct{ cluster *Cluster }

// EventWriter is the way to write Events.
func (c *Cluster) EventWriter() *EventWriter { return &EventWriter{c} }

// UID finds the UID of an object, of which nothing but the metadata is read.
func (w *EventWriter) UID(ctx context.Context, object *corev1.ObjectReference) (types.UID, error) {
	owner, err := w.cluster.Owner(ctx, object.Namespace, object.GroupVersionKind(), object.Name)
	return owner.UID, err
}

// CreateEvent makes an Event that must not exist.
func (w *EventWriter) CreateEvent(ctx context.Context, event *eventsv1.Event) error {
	_, err := w.cluster.client.EventsV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{FieldManager: remediate.FieldManager})
	return subject("create event about "+event.Regarding.Kind+" "+event.Regarding.Name, event.Namespace, err)
}

// RepeatEvent says that an Event that exists happened so often by now.
func (w *EventWriter) RepeatEvent(ctx context.Context, namespace, name string, series eventsv1.EventSeries) error {
	body, err := json.Marshal(map[string]any{"series": series})
	if err != nil {
		return fmt.Errorf("repeat event %s: %w", name, err)
	}
	_, err = w.cluster.client.EventsV1().Events(namespace).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: remediate.FieldManager})
	return subject("repeat event "+name, namespace, err)
}
