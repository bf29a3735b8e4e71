package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// stillCluster is the mirror of a cluster that does not move.
type stillCluster struct {
	*snapshot.Snapshot
	pods map[scan.PodName]*corev1.Pod
}

var _ scan.Mirror = (*stillCluster)(nil)

// demoMirror is the demo cluster, or what a label selector leaves of its pods.
func demoMirror(ctx context.Context, selector string) (*stillCluster, error) {
	s, err := newStill(ctx, demo.Files(), demo.ServerVersion)
	if err != nil {
		return nil, err
	}
	if s.Selector, err = labels.Parse(selector); err != nil {
		return nil, fmt.Errorf("selector %q: %w", selector, err)
	}
	maps.DeleteFunc(s.pods, func(_ scan.PodName, p *corev1.Pod) bool { return !s.Selector.Matches(labels.Set(p.Labels)) })
	return s, nil
}

// newStill reads the files of a cluster.
func newStill(ctx context.Context, files fs.FS, version string) (*stillCluster, error) {
	cluster, err := snapshot.Load(ctx, files, version)
	if err != nil {
		return nil, err
	}
	s := &stillCluster{Snapshot: cluster, pods: map[scan.PodName]*corev1.Pod{}}
	err = cluster.Pods(ctx, corev1.NamespaceAll, func(page scan.PodPage) error {
		for i := range page.Items {
			p := page.Items[i].DeepCopy()
			s.pods[scan.PodName{Namespace: p.Namespace, Name: p.Name}] = p
		}
		return nil
	})
	return s, err
}

// Pod implements scan.Mirror.
func (s *stillCluster) Pod(namespace, name string) *corev1.Pod {
	return s.pods[scan.PodName{Namespace: namespace, Name: name}]
}
