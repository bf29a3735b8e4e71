package kubetest

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// cleanupTimeout bounds what a test's cleanup asks of the server.
const cleanupTimeout = 30 * time.Second

// Namespace creates a namespace whose name no other has, and returns the name.
// When the test ends it is removed with everything in it.
func (s *Server) Namespace(tb testing.TB, labels map[string]string) string {
	tb.Helper()
	return s.createNamespace(tb, metav1.ObjectMeta{GenerateName: namePrefix(tb), Labels: labels})
}

// NamedNamespace creates a namespace under the name given, which must be free.
// When the test ends it is removed with everything in it.
func (s *Server) NamedNamespace(tb testing.TB, name string, labels map[string]string) {
	tb.Helper()
	s.createNamespace(tb, metav1.ObjectMeta{Name: name, Labels: labels})
}

func (s *Server) createNamespace(tb testing.TB, meta metav1.ObjectMeta) string {
	tb.Helper()
	namespace, err := s.client.CoreV1().Namespaces().
		Create(tb.Context(), &corev1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatalf("namespace %s%s: %v", meta.GenerateName, meta.Name, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := cleanupContext(tb)
		defer cancel()
		if err := s.removeNamespace(ctx, namespace.Name); err != nil {
			tb.Errorf("namespace %s: removing it: %v", namespace.Name, err)
		}
	})
	return namespace.Name
}

// removeNamespace does what the namespace controller would do in a whole
// cluster. Without it, a test that reads all namespaces would meet the leftovers
// of the tests before it.
func (s *Server) removeNamespace(ctx context.Context, name string) error {
	// First the namespace, which from then on takes nothing new.
	err := s.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.emptyNamespace(ctx, name); err != nil {
		return err
	}
	namespace, err := s.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	namespace.Spec.Finalizers = nil
	_, err = s.client.CoreV1().Namespaces().Finalize(ctx, namespace, metav1.UpdateOptions{})
	return err
}

func (s *Server) emptyNamespace(ctx context.Context, name string) error {
	// That some kinds are deprecated is no news to the reader of a test's log.
	config := s.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	// A group that cannot be discovered holds nothing that a test could have
	// made: its server is not there.
	lists, err := s.client.Discovery().ServerPreferredNamespacedResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return err
	}
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"deletecollection"}}, lists)
	now, background := int64(0), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range list.APIResources {
			err := client.Resource(version.WithResource(resource.Name)).Namespace(name).
				DeleteCollection(ctx, options, metav1.ListOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s: %w", resource.Name, err)
			}
		}
	}
	return nil
}

// cleanupContext returns a context for a test's cleanup, where the test's own
// has already ended.
func cleanupContext(tb testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(tb.Context()), cleanupTimeout)
}

// namePrefix makes of a test's name a prefix for the names of its objects, so
// that a leftover or a line in a log tells where it came from.
func namePrefix(tb testing.TB) string {
	name := strings.ToLower(tb.Name())
	name = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(name, "-")
	// Room is left for what the server appends within 63 characters.
	name = name[:min(len(name), 50)]
	return strings.Trim(name, "-") + "-"
}
