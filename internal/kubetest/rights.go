package kubetest

import (
	"context"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Allow grants the user the rights given, in one namespace or, when namespace is
// empty, everywhere. It returns when the server acts on them, and the rights are
// taken back when the test ends.
func (s *Server) Allow(tb testing.TB, user, namespace string, rights ...rbacv1.PolicyRule) {
	tb.Helper()
	rbac := s.client.RbacV1()
	name := namePrefix(tb) + rand.String(8)
	meta := metav1.ObjectMeta{Name: name}

	// The server learns of roles and bindings by and by. A right to what exists
	// nowhere cannot come from another role, so it shows when these two have
	// arrived.
	probe := authorizationv1.ResourceAttributes{
		Namespace: namespace, Group: "kubetest.invalid", Resource: name, Verb: "get",
	}
	rules := append(slices.Clone(rights), rbacv1.PolicyRule{
		APIGroups: []string{probe.Group}, Resources: []string{probe.Resource}, Verbs: []string{probe.Verb},
	})
	_, err := rbac.ClusterRoles().
		Create(tb.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatalf("role for %s: %v", user, err)
	}
	removeAtEnd(tb, "role "+name, rbac.ClusterRoles().Delete, name)

	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	remove := rbac.ClusterRoleBindings().Delete
	if namespace == "" {
		binding := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref}
		_, err = rbac.ClusterRoleBindings().Create(tb.Context(), binding, metav1.CreateOptions{})
	} else {
		binding := &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref}
		_, err = rbac.RoleBindings(namespace).Create(tb.Context(), binding, metav1.CreateOptions{})
		remove = rbac.RoleBindings(namespace).Delete
	}
	if err != nil {
		tb.Fatalf("binding for %s: %v", user, err)
	}
	removeAtEnd(tb, "binding "+name, remove, name)

	if err := s.waitAllowed(tb.Context(), user, probe); err != nil {
		tb.Fatalf("rights of %s: the server does not act on them: %v", user, err)
	}
}

func (s *Server) waitAllowed(ctx context.Context, user string, what authorizationv1.ResourceAttributes) error {
	review := &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &what},
	}
	return wait.PollUntilContextTimeout(ctx, pollInterval, 30*time.Second, true,
		func(ctx context.Context) (bool, error) {
			answer, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return false, err
			}
			return answer.Status.Allowed, nil
		})
}

// removeAtEnd deletes an object when the test ends, if the test has not done so.
func removeAtEnd(tb testing.TB, subject string, remove func(context.Context, string, metav1.DeleteOptions) error, name string) {
	tb.Cleanup(func() {
		ctx, cancel := cleanupContext(tb)
		defer cancel()
		if err := remove(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			tb.Errorf("%s: removing it: %v", subject, err)
		}
	})
}
