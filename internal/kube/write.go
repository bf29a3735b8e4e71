package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Writer reads and writes the objects of one cluster for remediation. What is read is
// read as by a scan, and again after an error that may pass; a write is made once. It
// is safe for concurrent use.
type Writer struct{ cluster *Cluster }

var _ remediate.Cluster = (*Writer)(nil)

// Writer is the way to write to the cluster.
func (c *Cluster) Writer() *Writer { return &Writer{c} }

// Get reads an object.
func (w *Writer) Get(ctx context.Context, ref remediate.Ref) (*unstructured.Unstructured, error) {
	what := "get " + ref.String()
	mapping, err := w.mapping(ctx, ref)
	if err != nil {
		return nil, subject(what, "", err)
	}
	var object *unstructured.Unstructured
	err = w.cluster.retry.do(ctx, func() error {
		written, err := send(ctx, locate(w.verb("GET"), mapping, ref))
		if err == nil {
			object = written.Object
		}
		return err
	})
	return object, subject(what, "", w.unserved(ctx, ref, err))
}

// List reads the objects of a kind that a label selector matches, in a namespace or,
// when that is empty, in all.
func (w *Writer) List(ctx context.Context, kind schema.GroupKind, namespace, selector string) ([]unstructured.Unstructured, error) {
	var objects []unstructured.Unstructured
	err := w.cluster.objects(ctx, kind, namespace, selector, func(text []byte) error {
		object := unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return fmt.Errorf("the API server's answer: %w", err)
		}
		objects = append(objects, object)
		return nil
	})
	return objects, err
}

// Apply is a server-side apply as remediate.FieldManager. A field that the schema does
// not have is an error.
func (w *Writer) Apply(ctx context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	return w.write(ctx, "apply", object, opts, func(mapping *meta.RESTMapping, ref remediate.Ref) *rest.Request {
		request := locate(w.verb("PATCH"), mapping, ref).SetHeader("Content-Type", string(types.ApplyYAMLPatchType))
		if opts.Force {
			request.Param("force", "true")
		}
		return request
	})
}

// Create makes an object that must not exist.
func (w *Writer) Create(ctx context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	return w.write(ctx, "create", object, opts, func(mapping *meta.RESTMapping, ref remediate.Ref) *rest.Request {
		ref.Name = ""
		return locate(w.verb("POST"), mapping, ref).SetHeader("Content-Type", runtime.ContentTypeJSON)
	})
}

// Update replaces an object at the resourceVersion that it carries.
func (w *Writer) Update(ctx context.Context, object *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("update %s: it has no resourceVersion, so it would overwrite what others changed meanwhile", remediate.RefOf(object))
	}
	return w.write(ctx, "update", object, opts, func(mapping *meta.RESTMapping, ref remediate.Ref) *rest.Request {
		return locate(w.verb("PUT"), mapping, ref).SetHeader("Content-Type", runtime.ContentTypeJSON)
	})
}

// Delete deletes an object if it still is the one of this UID and, where that is not
// empty, at this resourceVersion. What it owns goes with it, in the background.
func (w *Writer) Delete(ctx context.Context, ref remediate.Ref, uid types.UID, resourceVersion string, opts remediate.WriteOptions) error {
	what := "delete " + ref.String()
	if uid == "" {
		return fmt.Errorf("%s: without a UID it might be another object by now", what)
	}
	mapping, err := w.mapping(ctx, ref)
	if err != nil {
		return subject(what, "", err)
	}
	options := metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: new(metav1.DeletePropagationBackground),
	}
	if resourceVersion != "" {
		options.Preconditions.ResourceVersion = &resourceVersion
	}
	if opts.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	body, err := json.Marshal(options)
	if err != nil {
		return subject(what, "", err)
	}
	request := locate(w.verb("DELETE"), mapping, ref).SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body)
	return subject(what, "", w.unserved(ctx, ref, request.Do(ctx).Error()))
}

// write sends an object to where request says.
func (w *Writer) write(ctx context.Context, verb string, object *unstructured.Unstructured, opts remediate.WriteOptions, request func(*meta.RESTMapping, remediate.Ref) *rest.Request) (*remediate.Written, error) {
	ref := remediate.RefOf(object)
	what := verb + " " + ref.String()
	if ref.Name == "" {
		return nil, fmt.Errorf("%s: an object without a name cannot be found again", what)
	}
	mapping, err := w.mapping(ctx, ref)
	if err != nil {
		return nil, subject(what, "", err)
	}
	body, err := object.MarshalJSON()
	if err != nil {
		return nil, subject(what, "", err)
	}
	r := request(mapping, ref).Body(body).
		Param("fieldManager", remediate.FieldManager).
		Param("fieldValidation", metav1.FieldValidationStrict)
	if opts.DryRun {
		r.Param("dryRun", metav1.DryRunAll)
	}
	written, err := send(ctx, r)
	return written, subject(what, "", w.unserved(ctx, ref, err))
}

// verb begins a request that is made once. client-go by itself would send a write
// again when it is told to wait, also after an answer that leaves open whether the
// first came through.
func (w *Writer) verb(verb string) *rest.Request {
	return w.cluster.client.Discovery().RESTClient().Verb(verb).MaxRetries(0).SetHeader("Accept", runtime.ContentTypeJSON)
}

// locate says what object a request is about. Names that are no part of a path are an
// error of the request.
func locate(request *rest.Request, mapping *meta.RESTMapping, ref remediate.Ref) *rest.Request {
	request.AbsPath(root(mapping.Resource)).
		NamespaceIfScoped(ref.Namespace, mapping.Scope.Name() == meta.RESTScopeNameNamespace).
		Resource(mapping.Resource.Resource)
	if ref.Name != "" {
		request.Name(ref.Name)
	}
	return request
}

// root is the path below which the server keeps a group's version.
func root(resource schema.GroupVersionResource) string {
	if resource.Group == "" {
		return path.Join("/api", resource.Version)
	}
	return path.Join("/apis", resource.Group, resource.Version)
}

// send makes a request that is answered with an object.
func send(ctx context.Context, request *rest.Request) (*remediate.Written, error) {
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	text, err := result.Raw()
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("the API server's answer: %w", err)
	}
	written := &remediate.Written{Object: object}
	for _, warning := range result.Warnings() {
		written.Warnings = append(written.Warnings, warning.Text)
	}
	return written, nil
}

// mapping finds the resource of an object in exactly its version: a configuration of
// one is no configuration of another.
func (w *Writer) mapping(ctx context.Context, ref remediate.Ref) (*meta.RESTMapping, error) {
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	mapping, err := w.cluster.mapping(ctx, kind)
	if apierrors.IsNotFound(err) || err == nil && mapping.GroupVersionKind.Version != kind.Version {
		// Whoever plans to write must not be told that a kind is missing which was
		// installed since the server was asked.
		w.cluster.kinds.forget(ctx)
		mapping, err = w.cluster.mapping(ctx, kind)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, scan.ErrNotServed
	case err != nil:
		return nil, err
	case mapping.GroupVersionKind.Version != kind.Version:
		return nil, &remediate.OtherVersionError{Kind: ref.Kind, Wanted: ref.APIVersion, Served: mapping.GroupVersionKind.GroupVersion().String()}
	case mapping.Scope.Name() != meta.RESTScopeNameNamespace && ref.Namespace != "":
		return nil, fmt.Errorf("a %s is in no namespace", ref.Kind)
	case mapping.Scope.Name() == meta.RESTScopeNameNamespace && ref.Namespace == "":
		return nil, fmt.Errorf("a %s is in a namespace, and none is given", ref.Kind)
	}
	return mapping, nil
}

// unserved tells apart what may stand behind an answer that the server does not even
// know the path: the kind was taken away since it was asked what it serves, or its
// version was. As long as the server contradicts itself, neither is known.
func (w *Writer) unserved(ctx context.Context, ref remediate.Ref, err error) error {
	if !pathUnknown(err) {
		return err
	}
	w.cluster.kinds.forget(ctx)
	if _, now := w.mapping(ctx, ref); now != nil {
		return now
	}
	return fmt.Errorf("the API server names %s among what it serves, and does not know it: ask again when it has settled (%v)", ref.APIVersion, err) //nolint:errorlint // It is no answer that the object is not there.
}

func pathUnknown(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}
