package reports

import (
	"context"
	"fmt"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// reconcile makes what is in the cluster what should be there. It works on a copy of the
// item, in a goroutine of its own.
func (e *session) reconcile(ctx context.Context, it *item) outcome {
	o := outcome{have: it.have}
	var want *openreports.Report
	if it.told {
		want = e.sink.build(it.of, it.maxBytes)
	}
	if it.unsure {
		if o.err = e.look(ctx, it, &o, want != nil); o.err != nil {
			o.unsure = true
			return o
		}
	}
	// Another may have written in between, once or twice.
	for range 3 {
		if want == nil && o.have == (kept{}) || want != nil && o.have != (kept{}) && o.have.digest == digest(it.at.api.shape(want)) {
			return o
		}
		if o.err = e.limit.Wait(ctx); o.err != nil {
			return o
		}
		again := false
		if again, o.err = e.write(ctx, it, want, &o); !again || o.err != nil {
			o.unsure = o.err != nil && causeOf(o.err) == unreachable
			return o
		}
	}
	o.err = fmt.Errorf("report %s/%s: %w", it.at.key.namespace, it.at.key.name, errUnsettled)
	return o
}

// write makes one change. again is true where the cluster had something else than was
// known, which is in the outcome now.
func (e *session) write(ctx context.Context, it *item, want *openreports.Report, o *outcome) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	store := e.sink.opts.Store
	if want == nil {
		err = store.Delete(ctx, it.reference(o.have))
		switch {
		case err == nil, apierrors.IsNotFound(err):
			o.have, o.wrote = kept{}, err == nil
			return false, nil
		case apierrors.IsConflict(err):
			return true, e.refresh(ctx, it, o, false)
		}
		return false, err
	}
	object, err := it.at.api.object(want)
	if err != nil {
		return false, err
	}
	var written *unstructured.Unstructured
	if o.have == (kept{}) {
		written, err = store.Create(ctx, object)
		if apierrors.IsAlreadyExists(err) {
			return true, e.refresh(ctx, it, o, true)
		}
	} else {
		object.SetUID(o.have.uid)
		object.SetResourceVersion(o.have.resourceVersion)
		written, err = store.Update(ctx, object)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) && causeOf(err) != going {
			return true, e.refresh(ctx, it, o, true)
		}
	}
	if err != nil {
		return false, err
	}
	o.wrote = true
	if o.have, _ = read(written); o.have == (kept{}) {
		return false, fmt.Errorf("report %s/%s: the API server keeps it otherwise than it was written", it.at.key.namespace, it.at.key.name)
	}
	return false, nil
}

// look reads a report of which it is not known what there is.
func (e *session) look(ctx context.Context, it *item, o *outcome, toWrite bool) error {
	if err := e.limit.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return e.refresh(ctx, it, o, toWrite)
}

// refresh reads a report again. One that is not ours is an error where we would write it.
func (e *session) refresh(ctx context.Context, it *item, o *outcome, toWrite bool) error {
	kind := it.kind()
	u, err := e.sink.opts.Store.Get(ctx, kind, it.at.key.namespace, it.at.key.name)
	o.have = kept{}
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	ours := false
	if o.have, ours = read(u); !ours && toWrite {
		return fmt.Errorf("%s %s/%s: %w", kind.Kind, it.at.key.namespace, it.at.key.name, errForeign)
	}
	return nil
}

func (it *item) kind() schema.GroupVersionKind {
	report, cluster := it.at.api.kinds()
	if it.at.key.namespace == "" {
		return cluster
	}
	return report
}

// reference is a report by its name, as far as it takes to delete it.
func (it *item) reference(have kept) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(it.kind())
	u.SetNamespace(it.at.key.namespace)
	u.SetName(it.at.key.name)
	u.SetUID(have.uid)
	return u
}
