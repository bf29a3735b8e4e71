// Package kube reads clusters through the API server. It implements the small
// interfaces that scan defines.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/scan"
)

// DefaultTimeout is how long one request may take when nothing else is said.
const DefaultTimeout = 60 * time.Second

// Options say how a cluster is read.
type Options struct {
	// PageSize is how many objects one request asks for.
	PageSize int64
	// Selector is the label selector that pods must match; empty for all.
	Selector string
}

// Cluster reads one cluster. It is safe for concurrent use.
type Cluster struct {
	opts     Options
	config   *rest.Config
	client   kubernetes.Interface
	metadata metadata.Interface
	kinds    *kinds
	retry    retryPolicy
}

var _ scan.Cluster = (*Cluster)(nil)

// NewCluster makes a client of config. Objects travel as protobuf; a request takes
// at most the config's timeout, or DefaultTimeout where it has none.
func NewCluster(config *rest.Config, opts Options) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	// Warnings of the API server would go to the process's stderr, unescaped.
	config.WarningHandler = rest.NoWarnings{}
	// The API server has its own fairness; a limit of the client's would only add
	// to the time of a scan.
	config.QPS, config.Burst = 200, 400
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	transport, err := httpClient(config)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", addressOf(config), err)
	}
	metaClient, err := metadata.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", addressOf(config), err)
	}
	if opts.PageSize <= 0 {
		opts.PageSize = 500
	}
	return &Cluster{
		opts: opts, config: config, client: client, metadata: metaClient,
		kinds: newKinds(client.Discovery()),
		retry: defaultRetry(),
	}, nil
}

// ServerVersion asks the API server for its version.
func (c *Cluster) ServerVersion(ctx context.Context) (string, error) {
	// The discovery client's own method takes no context.
	var raw []byte
	err := c.retry.firstContact().do(ctx, func() (err error) {
		raw, err = c.client.Discovery().RESTClient().Get().AbsPath("/version").SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
		return err
	})
	if err != nil {
		return "", err
	}
	var info version.Info
	if err := json.Unmarshal(raw, &info); err != nil {
		return "", fmt.Errorf("answer of /version: %w", err)
	}
	return info.GitVersion, nil
}

func (c *Cluster) page() metav1.ListOptions { return metav1.ListOptions{Limit: c.opts.PageSize} }

// Nodes lists all nodes.
func (c *Cluster) Nodes(ctx context.Context) ([]corev1.Node, error) {
	var nodes []corev1.Node
	err := pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]corev1.Node, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Nodes().List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(n *corev1.Node) string { return objectKey(&n.ObjectMeta) }, collect(&nodes))
	return nodes, subject("list nodes", "", err)
}

// Namespaces lists all namespaces.
func (c *Cluster) Namespaces(ctx context.Context) ([]corev1.Namespace, error) {
	var namespaces []corev1.Namespace
	err := pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]corev1.Namespace, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Namespaces().List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(n *corev1.Namespace) string { return objectKey(&n.ObjectMeta) }, collect(&namespaces))
	return namespaces, subject("list namespaces", "", err)
}

// RuntimeClasses gives the handler of each runtime class.
func (c *Cluster) RuntimeClasses(ctx context.Context) (map[string]string, error) {
	var classes []nodev1.RuntimeClass
	err := pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]nodev1.RuntimeClass, metav1.ListMeta, error) {
		list, err := c.client.NodeV1().RuntimeClasses().List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(r *nodev1.RuntimeClass) string { return objectKey(&r.ObjectMeta) }, collect(&classes))
	handlers := make(map[string]string, len(classes))
	for i := range classes {
		handlers[classes[i].Name] = classes[i].Handler
	}
	return handlers, subject("list runtime classes", "", err)
}

// HostVolumes gives the path of the host behind each claim that is bound to one.
func (c *Cluster) HostVolumes(ctx context.Context) (map[scan.Claim]string, error) {
	volumes := map[scan.Claim]string{}
	err := pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]corev1.PersistentVolume, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().PersistentVolumes().List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(v *corev1.PersistentVolume) string { return objectKey(&v.ObjectMeta) }, func(items []corev1.PersistentVolume, _ metav1.ListMeta) error {
		for i := range items {
			if claim, path, ok := scan.HostVolume(&items[i]); ok {
				volumes[claim] = path
			}
		}
		return nil
	})
	return volumes, subject("list persistent volumes", "", err)
}

func collect[T any](all *[]T) func([]T, metav1.ListMeta) error {
	return func(items []T, _ metav1.ListMeta) error {
		*all = append(*all, items...)
		return nil
	}
}

// Pods lists the pods of a namespace, or of all, that the selector matches.
func (c *Cluster) Pods(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
	err := c.listPods(ctx, namespace, c.opts.Selector, func(items []corev1.Pod, m metav1.ListMeta) error {
		page := scan.PodPage{Items: items}
		if m.RemainingItemCount != nil {
			page.Remaining = *m.RemainingItemCount
		}
		return visit(page)
	})
	return subject("list pods", namespace, err)
}

// listPods calls visit with each page of the pods of a namespace, or of all, that a
// label selector matches.
func (c *Cluster) listPods(ctx context.Context, namespace, selector string, visit func([]corev1.Pod, metav1.ListMeta) error) error {
	options := c.page()
	options.LabelSelector = selector
	return pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]corev1.Pod, metav1.ListMeta, error) {
		list, err := c.client.CoreV1().Pods(namespace).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(p *corev1.Pod) string { return objectKey(&p.ObjectMeta) }, visit)
}
