package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// memory is a Cluster in memory. It answers as an API server does: a list of one
// namespace shows only that namespace, what is not there is not found.
type memory struct {
	version        string
	versionErr     error
	namespaces     []corev1.Namespace
	namespacesErr  error
	nodes          []corev1.Node
	nodesErr       error
	pods           []corev1.Pod
	pageSize       int
	runtimeClasses map[string]string
	runtimeErr     error
	// podsErr ends the list of a namespace ("" for all) after podsBefore pages.
	podsErr    map[string]error
	podsBefore int
	owners     map[schema.GroupVersionKind][]Owner
	ownersErr  map[string]error
	objects    map[schema.GroupKind][]string
	objectsErr map[string]error
	agentsErr  error
	// kyverno are the pods of its admission controller.
	kyverno    []corev1.Pod
	kyvernoErr error
	// onPage is called before each page of pods, onOwners before each list of them.
	onPage   func(n int)
	onOwners func()

	mu sync.Mutex
	// reads counts the reads of single owners.
	reads int
}

func forbidden(resource string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no permission"))
}

func (m *memory) ServerVersion(context.Context) (string, error) { return m.version, m.versionErr }

func (m *memory) Namespaces(context.Context) ([]corev1.Namespace, error) {
	return slices.Clone(m.namespaces), m.namespacesErr
}

func (m *memory) Nodes(context.Context) ([]corev1.Node, error) {
	return slices.Clone(m.nodes), m.nodesErr
}

func (m *memory) RuntimeClasses(context.Context) (map[string]string, error) {
	return m.runtimeClasses, m.runtimeErr
}

func (m *memory) HostVolumes(context.Context) (map[Claim]string, error) { return nil, nil }

func (m *memory) Pods(ctx context.Context, namespace string, visit func(PodPage) error) error {
	var mine []corev1.Pod
	for _, pod := range m.pods {
		if namespace == "" || pod.Namespace == namespace {
			mine = append(mine, pod)
		}
	}
	n := 0
	for page := range slices.Chunk(mine, max(m.pageSize, 1)) {
		if m.podsErr[namespace] != nil && n >= m.podsBefore {
			break
		}
		if m.onPage != nil {
			m.onPage(n)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(PodPage{Items: page}); err != nil {
			return err
		}
		n++
	}
	return m.podsErr[namespace]
}

func (m *memory) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]Owner) error) error {
	if m.onOwners != nil {
		m.onOwners()
	}
	if err := m.ownersErr[kind.Kind]; err != nil {
		return err
	}
	for _, o := range m.owners[kind] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if namespace == "" || o.Namespace == namespace {
			if err := visit([]Owner{o}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Owner(_ context.Context, namespace string, kind schema.GroupVersionKind, name string) (Owner, error) {
	m.mu.Lock()
	m.reads++
	m.mu.Unlock()
	if err := m.ownersErr[kind.Kind]; err != nil {
		return Owner{}, err
	}
	for _, o := range m.owners[kind] {
		if o.Namespace == namespace && o.Name == name {
			return o, nil
		}
	}
	return Owner{}, apierrors.NewNotFound(schema.GroupResource{Resource: kind.Kind}, name)
}

// kindOf is the full name of the kinds that the tests use.
func kindOf(kind string) schema.GroupVersionKind {
	switch kind {
	case "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet":
		return schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: kind}
	case "Job", "CronJob":
		return schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: kind}
	case "Node":
		return schema.GroupVersionKind{Version: "v1", Kind: kind}
	default:
		return schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: kind}
	}
}

// controller is a reference to "Kind/name" whose UID is "uid-name".
func controller(owner string) *metav1.OwnerReference {
	kind, name, _ := strings.Cut(owner, "/")
	gv := kindOf(kind).GroupVersion()
	return &metav1.OwnerReference{APIVersion: gv.String(), Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: new(true)}
}

// has adds the owner "Kind/name" to a namespace, itself controlled by owner where
// that is not empty.
func (m *memory) has(namespace, object, owner, hash string) {
	kind, name, _ := strings.Cut(object, "/")
	o := Owner{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), TemplateHash: hash}
	if owner != "" {
		o.Controller = controller(owner)
	}
	if m.owners == nil {
		m.owners = map[schema.GroupVersionKind][]Owner{}
	}
	m.owners[kindOf(kind)] = append(m.owners[kindOf(kind)], o)
}

// runs adds n pods "name-0", "name-1", … with the spec, controlled by owner where
// that is not empty.
func (m *memory) runs(n int, namespace, name, owner, hash string, spec corev1.PodSpec) {
	for i := range n {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, i)}, Spec: *spec.DeepCopy()}
		if owner != "" {
			pod.OwnerReferences = []metav1.OwnerReference{*controller(owner)}
		}
		if hash != "" {
			pod.Labels = map[string]string{labelTemplateHash: hash}
		}
		m.pods = append(m.pods, pod)
	}
}

// web is a cluster with the Deployment shop/web of two pods.
func web() *memory {
	m := &memory{version: "v1.36.3", pageSize: 3, namespaces: []corev1.Namespace{namespace("shop"), namespace("lab")}, kyverno: kyvernoPods(true)}
	m.has("shop", "Deployment/web", "", "")
	m.has("shop", "ReplicaSet/web-1a", "Deployment/web", "1a")
	m.runs(2, "shop", "web-1a", "ReplicaSet/web-1a", "1a", plain())
	return m
}

func namespace(name string) corev1.Namespace {
	return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// plain is a spec with no way out, privileged one with.
func plain() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}}}
}

func privileged() corev1.PodSpec {
	spec := plain()
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	return spec
}

// recorder is a Handler that keeps what it gets.
type recorder struct{ events []Event }

func (r *recorder) Handle(e Event) error {
	r.events = append(r.events, e)
	return nil
}

// scanned scans the cluster and returns its events.
func scanned(t *testing.T, m *memory, namespaces ...string) *recorder {
	t.Helper()
	r := &recorder{}
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Namespaces: namespaces}
	if err := ScanCluster(t.Context(), m, opts, NewTally(r)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recorder) end(t *testing.T) *End {
	t.Helper()
	last := r.events[len(r.events)-1].End
	if last == nil {
		t.Fatal("the stream has no end")
	}
	return last
}

// verdicts are lines of "namespace/Kind/name verdict pods", with what is claimed.
func (r *recorder) verdicts() []string {
	var lines []string
	for _, e := range r.events {
		if v := e.Verdict; v != nil {
			line := fmt.Sprintf("%s %s %d", v.Workload, v.Verdict, v.Pods)
			if v.Claims != "" {
				line += " claims " + v.Claims
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func (r *recorder) failures() []string {
	var lines []string
	for _, e := range r.events {
		if f := e.Failure; f != nil {
			lines = append(lines, strings.TrimSpace(f.Subject+" "+f.Namespace)+": "+string(f.Reason))
		}
	}
	return lines
}

// jsonLines are the events as they are saved.
func (r *recorder) jsonLines(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, e := range r.events {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(raw, '\n'))
	}
	return b.String()
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (m *memory) Objects(_ context.Context, kind schema.GroupKind, visit func([]byte) error) error {
	if err := m.objectsErr[kind.Kind]; err != nil {
		return err
	}
	for _, object := range m.objects[kind] {
		if err := visit([]byte(object)); err != nil {
			return err
		}
	}
	return nil
}

// kyvernoPods is the one pod of Kyverno's admission controller.
func kyvernoPods(ready bool) []corev1.Pod {
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "kyverno"}}}}
	if ready {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return []corev1.Pod{pod}
}

func (m *memory) LabelledPods(_ context.Context, selector string) ([]corev1.Pod, error) {
	if selector == admission.KyvernoSelector {
		return m.kyverno, m.kyvernoErr
	}
	match, err := labels.Parse(selector)
	if err != nil {
		return nil, err
	}
	var found []corev1.Pod
	for _, pod := range m.pods {
		if match.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found, m.agentsErr
}
