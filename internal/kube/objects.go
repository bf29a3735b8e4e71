package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Objects lists the objects of a kind in all namespaces as JSON, in the version
// that the server prefers.
func (c *Cluster) Objects(ctx context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	mapping, err := c.mapping(ctx, kind.WithVersion(""))
	if apierrors.IsNotFound(err) {
		return subject("list "+kind.String(), "", scan.ErrNotServed)
	}
	if err != nil {
		return subject("list "+kind.String(), "", err)
	}
	err = pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]unstructured.Unstructured, metav1.ListMeta, error) {
		list, err := c.dynamic.Resource(mapping.Resource).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, metav1.ListMeta{
			ResourceVersion: list.GetResourceVersion(), Continue: list.GetContinue(), RemainingItemCount: list.GetRemainingItemCount(),
		}, nil
	}, func(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }, func(items []unstructured.Unstructured, _ metav1.ListMeta) error {
		for i := range items {
			object, err := items[i].MarshalJSON()
			if err != nil {
				return fmt.Errorf("%s: %w", items[i].GetName(), err)
			}
			if err := visit(object); err != nil {
				return err
			}
		}
		return nil
	})
	return subject("list "+kind.String(), "", err)
}

// LabelledPods lists the pods of all namespaces that a label selector matches.
func (c *Cluster) LabelledPods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	options := c.page()
	options.LabelSelector = selector
	var pods []corev1.Pod
	err := pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]corev1.Pod, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(p *corev1.Pod) string { return objectKey(&p.ObjectMeta) }, collect(&pods))
	return pods, subject("list pods labelled "+selector, "", err)
}
