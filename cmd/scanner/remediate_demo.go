package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

// demoPatient is the demo cluster: a plan can be made for it, and nothing more.
func demoPatient(ctx context.Context) (*patient, error) {
	dump, err := demoDump(ctx)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	serves := func(_ context.Context, kind schema.GroupVersionKind) (bool, error) {
		return demoServes(kind.GroupKind()), nil
	}
	return &patient{name: demo.ClusterName, kind: scan.SourceDemo, reads: dump, writes: &rehearsal{dump}, serves: serves}, nil
}

// demoDump reads the demo cluster with its templates, which a snapshot does not have.
func demoDump(ctx context.Context) (*snapshot.Dump, error) {
	files := demo.Files()
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var all []io.Reader
	for _, e := range entries {
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, strings.NewReader("\n---\n"), bytes.NewReader(text))
	}
	dump, err := snapshot.ReadDump(ctx, manifest.Inputs{Paths: []string{manifest.Stdin}, Stdin: io.MultiReader(all...)})
	if err != nil {
		return nil, err
	}
	dump.Version, dump.Complete = demo.ServerVersion, true
	return dump, nil
}

// demoServes is whether the demo cluster's API server knows a kind: it has Kyverno and
// KubeArmor, as its policies show.
func demoServes(kind schema.GroupKind) bool {
	switch kind.Group {
	case "", "admissionregistration.k8s.io", "kyverno.io", "policies.kyverno.io", "security.kubearmor.com":
		return true
	}
	return false
}

// rehearsal answers dry runs as the API server of a saved cluster would, as far as
// that hangs on the objects alone: nobody else's fields are in the way, and no webhook
// is asked. It keeps nothing.
type rehearsal struct{ cluster scan.Cluster }

var _ remediate.Cluster = (*rehearsal)(nil)

// errRehearsal is the error of a write that is meant.
var errRehearsal = errors.New("the demo cluster only rehearses: nothing can be changed in it")

func (r *rehearsal) Get(ctx context.Context, ref remediate.Ref) (*unstructured.Unstructured, error) {
	list, err := r.List(ctx, ref.GroupKind(), ref.Namespace, "")
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].GetName() == ref.Name && list[i].GetNamespace() == ref.Namespace {
			return &list[i], nil
		}
	}
	gone := apierrors.NewNotFound(schema.GroupResource{Group: ref.GroupKind().Group, Resource: ref.Kind}, ref.Name)
	return nil, fmt.Errorf("get %s: %w", ref, gone)
}

func (r *rehearsal) List(ctx context.Context, kind schema.GroupKind, namespace, selector string) ([]unstructured.Unstructured, error) {
	match, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	if !demoServes(kind) {
		return nil, fmt.Errorf("list %s: %w", kind, scan.ErrNotServed)
	}
	var objects []unstructured.Unstructured
	keep := func(u unstructured.Unstructured) {
		if (namespace == "" || u.GetNamespace() == namespace) && match.Matches(labels.Set(u.GetLabels())) {
			objects = append(objects, u)
		}
	}
	if kind == (schema.GroupKind{Kind: "Namespace"}) {
		namespaces, err := r.cluster.Namespaces(ctx)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		for i := range namespaces {
			namespaces[i].APIVersion, namespaces[i].Kind = "v1", "Namespace"
			object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&namespaces[i])
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", kind, err)
			}
			keep(unstructured.Unstructured{Object: object})
		}
		return objects, nil
	}
	err = r.cluster.Objects(ctx, kind, func(text []byte) error {
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil {
			return err
		}
		keep(unstructured.Unstructured{Object: object})
		return nil
	})
	return objects, err
}

func (r *rehearsal) Apply(ctx context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	if !opts.DryRun {
		return nil, errRehearsal
	}
	after := object.DeepCopy()
	live, err := r.Get(ctx, remediate.RefOf(object))
	switch {
	case err == nil:
		live = live.DeepCopy()
		merge(live.Object, after.Object)
		after = live
	case !apierrors.IsNotFound(err):
		return nil, err
	}
	return &remediate.Written{Object: after}, r.inNamespace(ctx, object)
}

// inNamespace is the error of an object whose namespace does not exist.
func (r *rehearsal) inNamespace(ctx context.Context, object *unstructured.Unstructured) error {
	ns := object.GetNamespace()
	if ns == "" {
		return nil
	}
	_, err := r.Get(ctx, remediate.Ref{APIVersion: "v1", Kind: "Namespace", Name: ns})
	return err
}

// merge lays what is applied over what is there, as the API server does with maps;
// lists are replaced, which it does with those that have no keys.
func merge(there, applied map[string]any) {
	for key, value := range applied {
		below, isMap := value.(map[string]any)
		old, wasMap := there[key].(map[string]any)
		if isMap && wasMap {
			merge(old, below)
			continue
		}
		there[key] = value
	}
}

func (r *rehearsal) Create(ctx context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	if !opts.DryRun {
		return nil, errRehearsal
	}
	return &remediate.Written{Object: object.DeepCopy()}, r.inNamespace(ctx, object)
}

func (r *rehearsal) Update(_ context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	if !opts.DryRun {
		return nil, errRehearsal
	}
	return &remediate.Written{Object: object.DeepCopy()}, nil
}

func (r *rehearsal) Delete(_ context.Context, _ remediate.Ref, _ types.UID, _ string, opts remediate.WriteOptions) error {
	if !opts.DryRun {
		return errRehearsal
	}
	return nil
}
