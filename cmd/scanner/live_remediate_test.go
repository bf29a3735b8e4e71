package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// cure is a set with names and namespaces of its own, so that several can be brought
// into one API server side by side.
type cure struct {
	*testing.T
	server  *kubetest.Server
	opts    set.Options
	records string
	// force takes over what belongs to others.
	force bool
}

// newCure is for a namespace that is made for it, with these labels.
func newCure(t *testing.T, server *kubetest.Server, labels map[string]string, change func(*set.Options)) *cure {
	t.Helper()
	namespace := server.Namespace(t, labels)
	name := namespace[len(namespace)-5:] // What the server appended: no other has it.
	c := &cure{T: t, server: server, records: server.Namespace(t, nil), opts: set.Options{
		Name: "cure-" + name, Scope: targets.Scope{Namespaces: []string{namespace}}, Admission: set.AdmissionVAP,
		Level: psa.LevelBaseline, PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
	}}
	if change != nil {
		change(&c.opts)
	}
	return c
}

// namespace is the one that it is for.
func (c *cure) namespace() string { return c.opts.Scope.Namespaces[0] }

func (c *cure) planOptions() remediate.PlanOptions {
	return remediate.PlanOptions{RecordNamespace: c.records, Force: c.force}
}

func (c *cure) writer(config *rest.Config) *kube.Writer {
	c.Helper()
	cluster, err := kube.NewCluster(config, kube.Options{})
	if err != nil {
		c.Fatal(err)
	}
	return cluster.Writer()
}

// set renders the set by what the cluster is like.
func (c *cure) set() *set.Set {
	c.Helper()
	list, err := c.server.Client().CoreV1().Namespaces().List(c.Context(), metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	facts := set.Facts{NamespaceLabels: map[string]map[string]string{}}
	for i := range list.Items {
		facts.Namespaces = append(facts.Namespaces, list.Items[i].Name)
		facts.NamespaceLabels[list.Items[i].Name] = list.Items[i].Labels
	}
	s, err := set.Render(c.opts, facts)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// testTime is a clock that stands still.
func testTime() time.Time { return time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC) }

// errBlocked is a plan that cannot be carried out.
type errBlocked []remediate.Change

func (b errBlocked) Error() string {
	var text strings.Builder
	for _, c := range b {
		fmt.Fprintf(&text, "%s is blocked by %s: %s\n", c.Object, c.Block.By, c.Block.Message)
	}
	return text.String()
}

// carryOut does what a plan shows, unless something stands in its way.
func carryOut(ctx context.Context, w remediate.Cluster, plan *remediate.Plan) (*remediate.Result, error) {
	var blocked errBlocked
	for _, change := range plan.Changes {
		if change.Action == remediate.Blocked {
			blocked = append(blocked, change)
		}
	}
	if len(blocked) > 0 {
		return nil, blocked
	}
	return plan.Apply(ctx, w, remediate.ApplyOptions{By: "test", Now: testTime})
}

// apply plans and applies.
func (c *cure) apply(ctx context.Context, config *rest.Config) (*remediate.Plan, *remediate.Result, error) {
	c.Helper()
	w := c.writer(config)
	plan, err := remediate.NewPlan(ctx, w, c.set(), c.planOptions())
	if err != nil {
		return nil, nil, err
	}
	result, err := carryOut(ctx, w, plan)
	return plan, result, err
}

// rollback plans to restore what was before, and restores it.
func (c *cure) rollback(ctx context.Context, config *rest.Config) (*remediate.Plan, *remediate.Result, error) {
	c.Helper()
	w := c.writer(config)
	plan, err := remediate.NewRollback(ctx, w, c.opts.Name, c.planOptions())
	if err != nil {
		return nil, nil, err
	}
	result, err := carryOut(ctx, w, plan)
	return plan, result, err
}

func (c *cure) mustApply() *remediate.Plan {
	c.Helper()
	plan, result, err := c.apply(c.Context(), c.server.Config())
	if err != nil || result.Left != 0 {
		c.Fatalf("apply: %v, %+v", err, result)
	}
	return plan
}

func (c *cure) mustRollback() {
	c.Helper()
	_, result, err := c.rollback(c.Context(), c.server.Config())
	if err != nil || result.Left != 0 {
		c.Fatalf("rollback: %v, %+v", err, result)
	}
}

func (c *cure) status() *remediate.Status {
	c.Helper()
	status, err := remediate.ReadStatus(c.Context(), c.writer(c.server.Config()), c.opts.Name, c.planOptions())
	if err != nil {
		c.Fatalf("status: %v", err)
	}
	return status
}

// states are how the objects stand, by their names.
func states(status *remediate.Status) map[string]remediate.State {
	found := map[string]remediate.State{}
	for _, o := range status.Objects {
		found[o.Object.String()] = o.State
	}
	return found
}

// wantAll checks that all objects stand in one of the states.
func (c *cure) wantAll(status *remediate.Status, allowed ...remediate.State) {
	c.Helper()
	for _, o := range status.Objects {
		if !slices.Contains(allowed, o.State) {
			c.Errorf("%s is %q, want one of %q: %s %+v", o.Object, o.State, allowed, o.Message, o.Diff)
		}
	}
}

// dumpKinds are the kinds of a server that can be listed, but those that the API
// server itself writes while nobody does anything.
func dumpKinds(t testing.TB, server *kubetest.Server) []schema.GroupVersionResource {
	t.Helper()
	lists, err := server.Client().Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "get"}}, lists)
	found, err := discovery.GroupVersionResources(lists)
	if err != nil {
		t.Fatal(err)
	}
	kinds := slices.Collect(maps.Keys(found))
	kinds = slices.DeleteFunc(kinds, func(kind schema.GroupVersionResource) bool {
		return slices.Contains([]string{"events", "leases", "componentstatuses"}, kind.Resource)
	})
	slices.SortFunc(kinds, func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) })
	return kinds
}

// dumpObjects are the objects of the kinds as JSON, without what each write changes:
// resourceVersion, managedFields and generation.
func dumpObjects(t testing.TB, server *kubetest.Server, kinds []schema.GroupVersionResource, wanted func(*unstructured.Unstructured) bool) map[string]string {
	t.Helper()
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for _, kind := range kinds {
		list, err := client.Resource(kind).List(t.Context(), metav1.ListOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if wanted != nil && !wanted(o) {
				continue
			}
			for _, field := range []string{"resourceVersion", "managedFields", "generation"} {
				unstructured.RemoveNestedField(o.Object, "metadata", field)
			}
			text, err := json.MarshalIndent(o.Object, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			objects[kind.GroupResource().String()+" "+o.GetNamespace()+"/"+o.GetName()] = string(text)
		}
	}
	return objects
}

// wantSameObjects compares two dumps, byte for byte.
func wantSameObjects(t testing.TB, before, after map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[name]; !ok {
			t.Errorf("%s is gone", name)
		} else if now != before[name] {
			t.Errorf("%s was\n%s\nand is\n%s", name, before[name], now)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is left", name)
		}
	}
}

// cureKinds are the kinds that a set is made of.
func cureKinds() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Version: "v1", Resource: "namespaces"},
		{Version: "v1", Resource: "configmaps"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
		{Group: "security.kubearmor.com", Version: "v1", Resource: "kubearmorpolicies"},
		{Group: "security.kubearmor.com", Version: "v1", Resource: "kubearmorclusterpolicies"},
	}
}

// dump are the objects that belong to the cure, or could.
func (c *cure) dump() map[string]string {
	c.Helper()
	mine := append(slices.Clone(c.opts.Scope.Namespaces), c.records)
	return dumpObjects(c, c.server, cureKinds(), func(o *unstructured.Unstructured) bool {
		return slices.Contains(mine, o.GetNamespace()) || slices.Contains(mine, o.GetName()) || strings.HasPrefix(o.GetName(), c.opts.Name)
	})
}

// isWrite tells a request that changes something.
func isWrite(r *http.Request) bool {
	if r.Method == http.MethodGet || strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") || r.URL.Query().Get("dryRun") != "" {
		return false
	}
	if r.Method != http.MethodDelete || r.Body == nil {
		return true
	}
	// Of a deletion the body says it.
	text, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(text))
	return err == nil && !bytes.Contains(text, []byte(`"dryRun"`))
}

// when is the moment of a write at which something happens.
type when string

const (
	// beforeIt reached the server, afterIt was carried out and before anybody was told.
	beforeIt when = "before"
	afterIt  when = "after"
)

// cutter cuts the connection at the nth write.
type cutter struct {
	nth  int
	when when
	// then is called at the cut, after which nothing comes through any more; with nil it
	// is one request that is lost.
	then func()

	mu    sync.Mutex
	count int
	dead  bool
}

func (k *cutter) hook(r *http.Request) kubetest.Action {
	write := isWrite(r)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return kubetest.Cut()
	}
	if !write {
		return kubetest.Pass()
	}
	if k.count++; k.count != k.nth {
		return kubetest.Pass()
	}
	k.dead = k.then != nil
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if k.when == afterIt {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		if k.then != nil {
			k.then()
		}
		kubetest.Cut()(w, r, next)
	}
}

// writes is how many writes were seen.
func (k *cutter) writes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// cutAt runs do through a connection that is cut at the nth write, and reports whether
// there were so many.
func (c *cure) cutAt(nth int, at moment, do func(context.Context, *rest.Config) error) (reached bool) {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	k := &cutter{nth: nth, when: at.at}
	if at.killed {
		k.then = cancel
	}
	err := do(ctx, kubetest.NewProxy(c, c.server.Config(), k.hook).Config())
	switch {
	case k.writes() < nth:
		if err != nil {
			c.Errorf("nothing was cut, and: %v", err)
		}
		return false
	case at.killed && err == nil:
		c.Error("killed, and it says that all is well")
	case errors.As(err, new(errBlocked)):
		c.Errorf("cut at write %d: %v", nth, err)
	}
	return true
}

// holds reports whether an object has everything that a form asks for.
func holds(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		fields, ok := have.(map[string]any)
		for key, value := range want {
			ok = ok && holds(fields[key], value)
		}
		return ok
	case []any:
		items, ok := have.([]any)
		if !ok || len(items) != len(want) {
			return false
		}
		for i := range want {
			if !holds(items[i], want[i]) {
				return false
			}
		}
		return true
	}
	return fmt.Sprint(have) == fmt.Sprint(want)
}

// wantTruth holds what status says against the objects themselves, and against what
// they were before.
func (c *cure) wantTruth(before map[string]string) *remediate.Status {
	c.Helper()
	status := c.status()
	w := c.writer(c.server.Config())
	forms := map[remediate.Ref]set.Object{}
	for _, o := range c.set().Objects {
		forms[remediate.RefOf(o.Final())] = o
	}
	now := c.dump()
	for _, o := range status.Objects {
		form, ours := forms[o.Object]
		live, err := w.Get(c.Context(), o.Object)
		if err != nil && !apierrors.IsNotFound(err) {
			c.Fatal(err)
		}
		right := ours
		switch o.State {
		case remediate.StateInPlace:
			right = right && live != nil && holds(live.Object, form.Final().Object)
		case remediate.StateAuditing:
			right = right && live != nil && form.Audit != nil && holds(live.Object, form.Audit.Object) && !holds(live.Object, form.Final().Object)
		case remediate.StateNotBegun, remediate.StateRestored:
			right = right && now[dumpName(o.Object)] == before[dumpName(o.Object)]
		case remediate.StateMissing:
			right = right && live == nil
		case remediate.StateDrifted, remediate.StateUnreadable:
			right = false // Nobody else has touched anything.
		}
		if !right {
			c.Errorf("status calls %s %q (%s), and it is %v", o.Object, o.State, o.Message, live)
		}
	}
	switch done := status.Phase == remediate.PhaseApplied || status.Phase == remediate.PhaseNone; {
	case done && status.Unfinished != "", !done && status.Unfinished == "":
		c.Errorf("phase %q, and unfinished is %q", status.Phase, status.Unfinished)
	case status.Phase == remediate.PhaseNone && len(status.Objects) > 0:
		c.Errorf("there is no record, and of these objects something is said: %+v", states(status))
	case status.Phase == remediate.PhaseNone:
		wantSameObjects(c, before, now)
	case status.Phase == remediate.PhaseApplied:
		c.wantAll(status, remediate.StateInPlace)
	}
	return status
}

// dumpName is the name of an object in a dump.
func dumpName(ref remediate.Ref) string {
	kind := ref.GroupKind()
	return schema.GroupResource{Group: kind.Group, Resource: resourceOf(kind)}.String() + " " + ref.Namespace + "/" + ref.Name
}
