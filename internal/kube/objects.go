package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Objects lists the objects of a kind in all namespaces as JSON, in the version
// that the server prefers.
func (c *Cluster) Objects(ctx context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	return c.objects(ctx, kind, metav1.NamespaceAll, "", visit)
}

// objects lists those of a namespace, or of all, that a label selector matches; an
// empty one matches all.
func (c *Cluster) objects(ctx context.Context, kind schema.GroupKind, namespace, selector string, visit func(object []byte) error) error {
	what := "list " + kind.String()
	mapping, err := c.mapping(ctx, kind.WithVersion(""))
	if err == nil {
		// The objects are passed on as they come: to decode them all and encode them
		// again takes longer than to read them.
		options := c.page()
		options.LabelSelector = selector
		err = pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]rawObject, metav1.ListMeta, error) {
			return c.rawPage(ctx, mapping, namespace, o)
		}, (*rawObject).key, func(items []rawObject, _ metav1.ListMeta) error {
			for i := range items {
				if err := visit(items[i].json); err != nil {
					return visitError{err}
				}
			}
			return nil
		})
	}
	var stopped visitError
	switch {
	case errors.As(err, &stopped):
		return subject(what, namespace, stopped.err)
	case apierrors.IsNotFound(err):
		// Of the list itself too: the kind was taken away since the server was asked
		// what it serves.
		return subject(what, namespace, scan.ErrNotServed)
	}
	return subject(what, namespace, err)
}

// visitError is an error of the visitor, whatever its kind.
type visitError struct{ err error }

func (e visitError) Error() string { return e.err.Error() }

// rawObject is an object of a list, not decoded.
type rawObject struct {
	namespace, name string
	json            []byte
}

func (o *rawObject) key() string { return o.namespace + "/" + o.name }

// rawPage asks for one page of the objects of a resource in a namespace, or in all.
func (c *Cluster) rawPage(ctx context.Context, mapping *meta.RESTMapping, namespace string, o metav1.ListOptions) ([]rawObject, metav1.ListMeta, error) {
	request := c.client.Discovery().RESTClient().Get().
		AbsPath(root(mapping.Resource)).
		NamespaceIfScoped(namespace, namespace != "").
		Resource(mapping.Resource.Resource).
		SetHeader("Accept", runtime.ContentTypeJSON).
		Param("limit", strconv.FormatInt(o.Limit, 10))
	if o.LabelSelector != "" {
		request.Param("labelSelector", o.LabelSelector)
	}
	if o.Continue != "" {
		request.Param("continue", o.Continue)
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, metav1.ListMeta{}, err
	}
	text, err := result.Raw()
	if err != nil {
		return nil, metav1.ListMeta{}, err
	}
	return rawItems(text, mapping.GroupVersionKind)
}

// rawItems takes a list apart. The items of a list leave their kind out where the
// list's own tells it.
func rawItems(text []byte, kind schema.GroupVersionKind) ([]rawObject, metav1.ListMeta, error) {
	var list struct {
		Kind     string            `json:"kind"`
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, metav1.ListMeta{}, fmt.Errorf("the API server's answer: %w", err)
	}
	if !strings.HasSuffix(list.Kind, "List") {
		return nil, metav1.ListMeta{}, fmt.Errorf("the API server's answer: kind %q is no list", list.Kind)
	}
	objects := make([]rawObject, len(list.Items))
	for i, item := range list.Items {
		var head struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(item, &head); err != nil {
			return nil, metav1.ListMeta{}, fmt.Errorf("the API server's answer: item %d: %w", i, err)
		}
		if head.Metadata.Name == "" {
			return nil, metav1.ListMeta{}, fmt.Errorf("the API server's answer: item %d has no name", i)
		}
		if head.Kind == "" {
			// There is a name, so something follows the comma.
			version, name := kind.ToAPIVersionAndKind()
			item = append(fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,`, version, name), item[1:]...)
		}
		objects[i] = rawObject{namespace: head.Metadata.Namespace, name: head.Metadata.Name, json: item}
	}
	return objects, list.Metadata, nil
}

// LabelledPods lists the pods of all namespaces that a label selector matches.
func (c *Cluster) LabelledPods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	err := c.listPods(ctx, metav1.NamespaceAll, selector, collect(&pods))
	return pods, subject("list pods labelled "+selector, "", err)
}
