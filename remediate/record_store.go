package remediate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// ErrConcurrent says that another apply or rollback of the same set has begun since.
var ErrConcurrent = errors.New("another apply or rollback of this set has written its record meanwhile: see the status, then plan again")

// RecordError says that a record could not be read, or is not believed.
type RecordError struct{ err error }

func (e *RecordError) Error() string { return e.err.Error() }

func (e *RecordError) Unwrap() error { return e.err }

// store keeps records in a namespace.
type store struct {
	cluster   Cluster
	namespace string
	limit     int
}

func newStore(c Cluster, opts PlanOptions) store {
	return store{c, cmp.Or(opts.RecordNamespace, DefaultRecordNamespace), cmp.Or(opts.recordLimit, recordLimit)}
}

// read gives the record of a set. One that does not exist has no object.
func (s store) read(ctx context.Context, setName string) (*record, error) {
	r := &record{limit: s.limit}
	r.Set, r.Phase = setName, PhaseNone
	object, err := s.cluster.Get(ctx, recordRef(s.namespace, recordName(setName)))
	switch {
	case apierrors.IsNotFound(err):
		return r, nil
	case err != nil:
		return nil, &RecordError{fmt.Errorf("record of set %s: %w", setName, err)}
	}
	if err := s.decode(ctx, r, object); err != nil {
		return nil, &RecordError{fmt.Errorf("record of set %s, ConfigMap %s/%s: %w", setName, s.namespace, recordName(setName), err)}
	}
	return r, nil
}

func (s store) decode(ctx context.Context, r *record, object *unstructured.Unstructured) error {
	data, err := recordData(object, r.Set)
	if err != nil {
		return err
	}
	if r.head, err = decodeHead(data[headKey], r.Set); err != nil {
		return err
	}
	delete(data, headKey)
	if err := checkConfigMaps(&r.head); err != nil {
		return err
	}
	for _, name := range r.Parts {
		part, err := s.cluster.Get(ctx, recordRef(s.namespace, name))
		if err != nil {
			return fmt.Errorf("its part %s: %w", name, err)
		}
		steps, err := recordData(part, r.Set)
		if err != nil {
			return fmt.Errorf("its part %s: %w", name, err)
		}
		for key, text := range steps {
			if _, twice := data[key]; twice {
				return fmt.Errorf("its part %s: %q is there twice", name, key)
			}
			data[key] = text
		}
	}
	if r.steps, r.places, err = decodeSteps(data, &r.head); err != nil {
		return err
	}
	r.object = object
	r.kept, err = r.encodeSteps()
	return err
}

// write keeps the record, so that at any time either the old or the new one is
// there in full: what does not fit beside the head goes into new ConfigMaps, which the
// head names before they are made, and then takes for its own.
func (s store) write(ctx context.Context, r *record) error {
	chunks, err := r.encodeSteps()
	if err != nil {
		return err
	}
	left := slices.Concat(r.Parts, r.Stale)
	var names []string
	kept := chunks
	switch {
	case len(chunks) > 1 && len(r.Parts) > 0 && equalValues(chunks, r.kept):
		names, chunks = r.Parts, []map[string]any{{}}
	case len(chunks) > 1:
		if names, err = s.writeParts(ctx, r, chunks, left); err != nil {
			return err
		}
		chunks = []map[string]any{{}}
	}
	next := *r
	next.Steps = len(r.steps)
	next.Parts = names
	next.Stale = slices.DeleteFunc(left, func(name string) bool { return slices.Contains(names, name) })
	if err := s.writeHead(ctx, &next, chunks[0]); err != nil {
		return err
	}
	*r = next
	r.kept = kept
	return s.removeStale(ctx, r)
}

// writeParts makes ConfigMaps of the chunks and gives their names.
func (s store) writeParts(ctx context.Context, r *record, chunks []map[string]any, left []string) ([]string, error) {
	base := ""
	if r.object != nil {
		base = r.object.GetResourceVersion()
	}
	names := make([]string, len(chunks))
	for i, chunk := range chunks {
		digest, err := digestOfData(base, chunk)
		if err != nil {
			return nil, fmt.Errorf("record of set %s: %w", r.Set, err)
		}
		names[i] = recordName(r.Set) + "." + digest
	}
	announced := *r
	announced.Stale = append(slices.Clone(r.Stale), slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(left, name) })...)
	steps := map[string]any{}
	if r.object == nil {
		announced.Steps = 0
	} else if data, ok := r.object.Object["data"].(map[string]any); ok {
		// The old steps stay for as long as the new ones are not there.
		for key, text := range data {
			if key != headKey {
				steps[key] = text
			}
		}
		old, err := decodeHead(fmt.Sprint(data[headKey]), r.Set)
		if err != nil {
			return nil, fmt.Errorf("record of set %s: %w", r.Set, err)
		}
		announced.Steps = old.Steps
	}
	if err := s.writeHead(ctx, &announced, steps); err != nil {
		return nil, err
	}
	r.object, r.Stale = announced.object, announced.Stale
	for i, chunk := range chunks {
		if err := s.writePart(ctx, r.Set, names[i], chunk); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (s store) writePart(ctx context.Context, setName, name string, data map[string]any) error {
	ref := recordRef(s.namespace, name)
	_, err := s.cluster.Create(ctx, s.configMap(setName, name, data), WriteOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// Its name tells what is in it, so somebody came as far as this before us.
	there, err := s.cluster.Get(ctx, ref)
	if err != nil {
		return err
	}
	if got, _ := there.Object["data"].(map[string]any); !equalValues(got, data) {
		return fmt.Errorf("record of set %s: %s is in the way", setName, ref)
	}
	return nil
}

// writeHead keeps the head with the steps that stand beside it.
func (s store) writeHead(ctx context.Context, r *record, steps map[string]any) error {
	r.Schema = recordSchema
	text, err := json.Marshal(&r.head)
	if err != nil {
		return fmt.Errorf("record of set %s: %w", r.Set, err)
	}
	data := map[string]any{headKey: string(text)}
	maps.Copy(data, steps)
	var written *Written
	if r.object == nil {
		written, err = s.cluster.Create(ctx, s.configMap(r.Set, recordName(r.Set), data), WriteOptions{})
	} else {
		object := r.object.DeepCopy()
		object.Object["data"] = data
		written, err = s.cluster.Update(ctx, object, WriteOptions{})
	}
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), r.object != nil && apierrors.IsNotFound(err):
		return fmt.Errorf("record of set %s: %w (%w)", r.Set, ErrConcurrent, err)
	case err != nil:
		return fmt.Errorf("record of set %s: %w", r.Set, err)
	}
	r.object = written.Object
	return nil
}

// held tells whether nobody else has written the record since.
func (s store) held(ctx context.Context, r *record) error {
	object, err := s.cluster.Get(ctx, recordRef(s.namespace, recordName(r.Set)))
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("record of set %s: %w", r.Set, err)
	case object.GetResourceVersion() == r.object.GetResourceVersion():
		return nil
	}
	return fmt.Errorf("record of set %s: %w", r.Set, ErrConcurrent)
}

// removeStale deletes the ConfigMaps that are no part any more. The head goes on
// naming them until it is written again.
func (s store) removeStale(ctx context.Context, r *record) error {
	for _, name := range r.Stale {
		object, err := s.cluster.Get(ctx, recordRef(s.namespace, name))
		if err == nil {
			if _, err = recordData(object, r.Set); err == nil {
				err = s.cluster.Delete(ctx, RefOf(object), object.GetUID(), "", WriteOptions{})
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("record of set %s: %s, which nobody needs any more: %w", r.Set, name, err)
		}
	}
	r.Stale = nil
	return nil
}

// remove deletes the record, the head last.
func (s store) remove(ctx context.Context, r *record) error {
	if len(r.Parts) > 0 || len(r.Stale) > 0 {
		r.steps, r.Steps = nil, 0
		r.Stale = slices.Concat(r.Parts, r.Stale)
		r.Parts = nil
		if err := s.writeHead(ctx, r, nil); err != nil {
			return err
		}
		if err := s.removeStale(ctx, r); err != nil {
			return err
		}
	}
	err := s.cluster.Delete(ctx, RefOf(r.object), r.object.GetUID(), r.object.GetResourceVersion(), WriteOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return fmt.Errorf("record of set %s: %w (%w)", r.Set, ErrConcurrent, err)
	case err != nil:
		return fmt.Errorf("record of set %s: %w", r.Set, err)
	}
	return nil
}

func (s store) configMap(setName, name string, data map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata": map[string]any{
			"namespace": s.namespace,
			"name":      name,
			"labels": map[string]any{
				set.LabelManagedBy: set.ManagedBy,
				set.LabelSet:       setName,
			},
		},
		"data": data,
	}}
}

// Sets names the sets that have a record, sorted.
func Sets(ctx context.Context, c Cluster, recordNamespace string) ([]string, error) {
	s := newStore(c, PlanOptions{RecordNamespace: recordNamespace})
	objects, err := c.List(ctx, schema.GroupKind{Kind: "ConfigMap"}, s.namespace, set.LabelManagedBy+"="+set.ManagedBy+","+set.LabelSet)
	if err != nil {
		return nil, &RecordError{fmt.Errorf("records: %w", err)}
	}
	var names []string
	for i := range objects {
		name := objects[i].GetLabels()[set.LabelSet]
		if objects[i].GetName() == recordName(name) && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
