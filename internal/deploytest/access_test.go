package deploytest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// access is one right: everywhere, or in a namespace, or to what is no resource.
type access struct {
	verb, group, resource, subresource, namespace, name, path string
}

func (a access) String() string {
	if a.path != "" {
		return a.verb + " " + a.path
	}
	r := a.resource
	if a.subresource != "" {
		r += "/" + a.subresource
	}
	if a.group != "" {
		r += "." + a.group
	}
	if a.name != "" {
		r += " named " + a.name
	}
	return fmt.Sprintf("%s %s in %q", a.verb, r, a.namespace)
}

func (a access) spec() authorizationv1.SelfSubjectAccessReviewSpec {
	if a.path != "" {
		return authorizationv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: a.verb, Path: a.path}}
	}
	return authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
		Verb: a.verb, Group: a.group, Resource: a.resource, Subresource: a.subresource, Namespace: a.namespace, Name: a.name,
	}}
}

// grants tells whether a rule allows it. Rules with wildcards are refused elsewhere.
func (g grant) allows(a access) bool {
	resource := a.resource
	if a.subresource != "" {
		resource += "/" + a.subresource
	}
	return a.path == "" && (g.namespace == "" || g.namespace == a.namespace) &&
		slices.Contains(g.rule.Verbs, a.verb) && slices.Contains(g.rule.APIGroups, a.group) && slices.Contains(g.rule.Resources, resource) &&
		(len(g.rule.ResourceNames) == 0 || slices.Contains(g.rule.ResourceNames, a.name))
}

// usualVerbs are those of resources.
var usualVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

// allAccess is everything that one could be allowed, everywhere or in the namespace:
// each verb on each resource and subresource that the server has, and what is only for
// those who rule.
func allAccess(t *testing.T, server *kubetest.Server, namespace string) []access {
	t.Helper()
	_, lists, err := server.Client().Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[access]bool{}
	var all []access
	add := func(a access, namespaced bool) {
		if seen[a] {
			return
		}
		seen[a] = true
		all = append(all, a)
		if namespaced {
			a.namespace = namespace
			all = append(all, a)
		}
	}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			a := access{group: version.Group}
			a.resource, a.subresource, _ = strings.Cut(r.Name, "/")
			verbs := usualVerbs
			if a.subresource != "" {
				verbs = r.Verbs
			}
			for _, a.verb = range verbs {
				add(a, r.Namespaced)
			}
		}
	}
	for _, a := range powers() {
		add(a, a.path == "")
	}
	return all
}

// powers are rights that are no requests of their own.
func powers() []access {
	const rbac = "rbac.authorization.k8s.io"
	var all []access
	for _, resource := range []string{"users", "groups", "serviceaccounts", "uids"} {
		all = append(all, access{verb: "impersonate", resource: resource})
	}
	for _, resource := range []string{"roles", "clusterroles"} {
		for _, verb := range []string{"bind", "escalate"} {
			all = append(all, access{verb: verb, group: rbac, resource: resource})
		}
	}
	for _, verb := range usualVerbs {
		all = append(all, access{verb: verb, resource: "nodes", subresource: "proxy"})
	}
	for _, verb := range []string{"approve", "sign", "attest"} {
		all = append(all, access{verb: verb, group: "certificates.k8s.io", resource: "signers"})
	}
	for _, path := range []string{"/metrics", "/logs", "/debug/pprof", "/configz", "/flagz"} {
		all = append(all, access{verb: "get", path: path})
	}
	return all
}

// reviewer asks the server, as a ServiceAccount, what that may do.
type reviewer struct {
	*testing.T
	client kubernetes.Interface
}

func (n *node) reviewer(who account) reviewer {
	n.Helper()
	config := n.as(who.namespace, who.name)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		n.Fatal(err)
	}
	return reviewer{n.T, client}
}

// allowed are those that it may have.
func (r reviewer) allowed(all []access) map[access]bool {
	r.Helper()
	var mu sync.Mutex
	may := map[access]bool{}
	group, ctx := errgroup.WithContext(r.Context())
	group.SetLimit(16)
	for _, a := range all {
		group.Go(func() error {
			answer, err := r.client.AuthorizationV1().SelfSubjectAccessReviews().
				Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: a.spec()}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
			if answer.Status.Allowed {
				mu.Lock()
				may[a] = true
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		r.Fatal(err)
	}
	return may
}

// TestAccess asks the server what each ServiceAccount that deploy/ ships may do: it has
// the rights that its roles say, and no other.
func TestAccess(t *testing.T) {
	n := newNode(t)
	installKinds(t, n.server)
	const own, other = "escape-scanner", "somebody-elses"
	makeNamespace(t, n.server, other)
	makeAccount(t, n.server, other, "nobody")
	all := allAccess(t, n.server, own)
	everybody := n.reviewer(account{other, "nobody"}).allowed(all)
	for _, r := range accessRenderings(t, own) {
		t.Run(r.name, func(t *testing.T) {
			n := newNode(t)
			newInstaller(t).install(r)
			grants := r.grants(t)
			for _, who := range accountsOf(grants) {
				t.Run(who.name, func(t *testing.T) {
					n := &node{T: t, server: n.server}
					n.settled(who, grants[who], namespacesOf(grants, own, other)...)
					n.reviewer(who).tryForReal(n, who, other)
				})
			}
		})
	}
	// What one is told about the rules is also what decides: everything that one could ask
	// for is asked for, where there are the most rights.
	r := everyRole(t, "every", own)
	newInstaller(t).install(r)
	grants := r.grants(t)
	for _, who := range accountsOf(grants) {
		t.Run("each right of "+who.name, func(t *testing.T) {
			t.Parallel()
			n := &node{T: t, server: n.server}
			n.settled(who, grants[who])
			r := n.reviewer(who)
			r.compare(all, r.allowed(all), everybody, grants[who])
		})
	}
}

// namespacesOf are those in which a grant holds, and those named.
func namespacesOf(grants map[account][]grant, more ...string) []string {
	for _, list := range grants {
		for _, g := range list {
			if g.namespace != "" && !slices.Contains(more, g.namespace) {
				more = append(more, g.namespace)
			}
		}
	}
	return more
}

// rules are all rights in a namespace, as the server counts them up.
func (r reviewer) rules(namespace string) map[access]bool {
	r.Helper()
	review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
	answer, err := r.client.AuthorizationV1().SelfSubjectRulesReviews().Create(r.Context(), review, metav1.CreateOptions{})
	if err != nil || answer.Status.Incomplete {
		r.Fatalf("rules in %s: %v, %+v", namespace, err, answer)
	}
	all := map[access]bool{}
	for _, rule := range answer.Status.ResourceRules {
		spread(all, namespace, rbacv1.PolicyRule{Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
	}
	for _, rule := range answer.Status.NonResourceRules {
		for _, path := range rule.NonResourceURLs {
			for _, verb := range rule.Verbs {
				all[access{verb: verb, path: path}] = true
			}
		}
	}
	return all
}

// spread adds the rights of a rule one by one.
func spread(all map[access]bool, namespace string, rule rbacv1.PolicyRule) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				for _, name := range names {
					a := access{verb: verb, group: group, namespace: namespace, name: name}
					a.resource, a.subresource, _ = strings.Cut(resource, "/")
					all[a] = true
				}
			}
		}
	}
}

// settled waits until the server, which learns of roles by and by, counts up for the
// account the rights of its roles and of everybody, and no others.
func (n *node) settled(who account, grants []grant, more ...string) {
	n.Helper()
	const other = "somebody-elses"
	makeNamespace(n.T, n.server, other)
	makeAccount(n.T, n.server, other, "nobody")
	nobody, r := n.reviewer(account{other, "nobody"}), n.reviewer(who)
	for _, namespace := range namespacesOf(map[account][]grant{who: grants}, append(more, who.namespace)...) {
		want := nobody.rules(namespace)
		for _, g := range grants {
			if g.namespace == "" || g.namespace == namespace {
				spread(want, namespace, g.rule)
			}
		}
		ctx, cancel := context.WithTimeout(n.Context(), time.Minute)
		defer cancel()
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for have := r.rules(namespace); !maps.Equal(have, want); have = r.rules(namespace) {
			select {
			case <-again.C:
			case <-ctx.Done():
				n.Fatalf("%s has rights that its roles do not say: %v, and not those that they do: %v", who, lacking(want, have), lacking(have, want))
			}
		}
	}
}

// lacking are those of the rights that are not among these.
func lacking(these, rights map[access]bool) (list []string) {
	for a := range rights {
		if !these[a] {
			list = append(list, a.String())
		}
	}
	slices.Sort(list)
	return list
}

// accessRenderings are the renderings whose roles differ.
func accessRenderings(t *testing.T, namespace string) []*rendering {
	t.Helper()
	probing := release(t, "escape-scanner", namespace, "--set", "audit.probeNodes.enabled=true")
	probing.name = "chart that probes nodes by itself"
	all := append(manifests(t), everyRole(t, "escape-scanner", namespace), probing)
	for _, file := range chartValues(t) {
		r := release(t, "escape-scanner", namespace, "-f", file)
		r.name = "chart with " + filepath.Base(file)
		all = append(all, r)
	}
	return all
}

// everyRole is the chart with the values that have it make all roles that go together.
func everyRole(t *testing.T, name, namespace string) *rendering {
	t.Helper()
	var flags []string
	for _, value := range []string{
		"audit.outputs.reports=auto", "audit.kubearmorExec=true", "audit.inspectImages=true", "audit.askServer=true",
		"audit.alerts=1s", "watch.reports=auto", "watch.events=true", "kubearmor.enabled=true", "kubearmor.tls.mode=auto", "nodeProbe.enabled=true",
	} {
		flags = append(flags, "--set", value)
	}
	r := release(t, name, namespace, flags...)
	r.name = "chart with every role"
	return r
}

// compare compares what it may with what its roles say.
func (r reviewer) compare(all []access, may, everybody map[access]bool, grants []grant) {
	r.Helper()
	wrong := 0
	for _, a := range all {
		want := everybody[a] || slices.ContainsFunc(grants, func(g grant) bool { return g.allows(a) })
		if may[a] == want {
			continue
		}
		if wrong++; wrong <= 20 {
			r.Errorf("%s: the server allows it: %v, its roles: %v", a, may[a], want)
		}
	}
	if wrong > 20 {
		r.Errorf("and %d more", wrong-20)
	}
}

// tryForReal tries what would hurt most, instead of asking whether it may.
func (r reviewer) tryForReal(n *node, who account, other string) {
	r.Helper()
	may := map[access]bool{}
	for _, ns := range []string{who.namespace, other} {
		maps.Copy(may, r.rules(ns))
	}
	core, ctx := r.client.CoreV1(), r.Context()
	for _, ns := range []string{who.namespace, other} {
		_, err := core.Secrets(ns).List(ctx, metav1.ListOptions{})
		r.wantRefused(err, access{verb: "list", resource: "secrets", namespace: ns}, may)
		_, err = core.Secrets(ns).Get(ctx, "any", metav1.GetOptions{})
		r.wantRefused(err, access{verb: "get", resource: "secrets", namespace: ns}, may)
		_, err = core.ConfigMaps(ns).List(ctx, metav1.ListOptions{})
		r.wantRefused(err, access{verb: "list", resource: "configmaps", namespace: ns}, may)
		pod := privilegedPod()
		_, err = core.Pods(ns).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		r.wantRefused(err, access{verb: "create", resource: "pods", namespace: ns}, may)
		err = core.Pods(ns).Delete(ctx, "any", metav1.DeleteOptions{})
		r.wantRefused(err, access{verb: "delete", resource: "pods", namespace: ns}, may)
		err = core.Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		r.wantRefused(err, access{verb: "deletecollection", resource: "pods", namespace: ns}, may)
		_, err = core.Pods(ns).GetLogs("any", &corev1.PodLogOptions{}).DoRaw(ctx)
		r.wantRefused(err, access{verb: "get", resource: "pods", subresource: "log", namespace: ns}, may)
		err = core.RESTClient().Post().Namespace(ns).Resource("pods").Name("any").SubResource("exec").Param("command", "sh").Param("stdout", "true").Do(ctx).Error()
		r.wantRefused(err, access{verb: "create", resource: "pods", subresource: "exec", namespace: ns}, may)
		_, err = core.ServiceAccounts(ns).CreateToken(ctx, "default", nil, metav1.CreateOptions{})
		r.wantRefused(err, access{verb: "create", resource: "serviceaccounts", subresource: "token", namespace: ns}, may)
	}
	_, err := core.RESTClient().Get().Resource("nodes").Name("any").SubResource("proxy").Suffix("pods").DoRaw(ctx)
	r.wantRefused(err, access{verb: "get", resource: "nodes", subresource: "proxy"}, may)
	config := n.as(who.namespace, who.name)
	config.Impersonate = rest.ImpersonationConfig{UserName: "admin", Groups: []string{"system:masters"}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		r.Fatal(err)
	}
	_, err = client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
	r.wantRefused(err, access{verb: "impersonate", resource: "users"}, may)
}

// wantRefused wants 403, unless the server said that it may.
func (r reviewer) wantRefused(err error, a access, may map[access]bool) {
	r.Helper()
	if may[a] {
		return
	}
	if !apierrors.IsForbidden(err) {
		r.Errorf("%s: want %d, have %v", a, http.StatusForbidden, err)
	}
}
