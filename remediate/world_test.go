package remediate_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

var shared = kubetest.NewShared()

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// world is a part of the API server that a test has to itself: two namespaces, one for
// records, and objects whose names begin with the set's.
type world struct {
	*testing.T
	writer  remediate.Cluster
	other   *dynamic.DynamicClient
	opts    remediate.PlanOptions
	name    string
	one     string
	two     string
	records string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	server := shared.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	cluster, err := kube.NewCluster(server.Config(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, writer: cluster.Writer(), other: other,
		one:     server.Namespace(t, map[string]string{"team": "a", psa.EnforceLevelLabel: "privileged", psa.WarnLevelLabel: "restricted"}),
		two:     server.Namespace(t, nil),
		records: server.Namespace(t, nil),
	}
	w.name = "s" + w.one[len(w.one)-5:]
	w.opts = remediate.PlanOptions{RecordNamespace: w.records, Force: true}
	t.Cleanup(w.sweep)
	return w
}

// sweep removes what a failed test has left outside of its namespaces.
func (w *world) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, resource := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		err := w.other.Resource(admissionKind(resource)).Delete(ctx, w.name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			w.Error(err)
		}
	}
}

func admissionKind(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource}
}

func armorKind() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "security.kubearmor.com", Version: "v1", Resource: "kubearmorpolicies"}
}

func namespaceKind() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

func parse(tb testing.TB, text string) *unstructured.Unstructured {
	tb.Helper()
	content, err := yaml.YAMLToJSON([]byte(text))
	u := &unstructured.Unstructured{}
	if err == nil {
		err = u.UnmarshalJSON(content)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// ours is an object with the labels of the set.
func (w *world) ours(text string) *unstructured.Unstructured {
	w.Helper()
	u := parse(w, text)
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[set.LabelSet], labels[set.LabelVersion] = w.name, set.Version
	if u.GetKind() != "Namespace" {
		labels[set.LabelManagedBy] = set.ManagedBy
	}
	u.SetLabels(labels)
	return u
}

func (w *world) both(part set.Part, audit, enforce string) set.Object {
	w.Helper()
	o := set.Object{Part: part, Enforce: w.ours(enforce)}
	if audit != "" {
		o.Audit = w.ours(audit)
	}
	return o
}

func (w *world) labelled(namespace string) set.Object {
	audit := "{apiVersion: v1, kind: Namespace, metadata: {name: " + namespace + ", labels: {" + psa.WarnLevelLabel + ": baseline, " + psa.AuditLevelLabel + ": baseline"
	return w.both(set.PartAdmission, audit+"}}}", audit+", "+psa.EnforceLevelLabel+": baseline}}}")
}

func (w *world) armor(namespace, part, action, paths string) string {
	return `{apiVersion: security.kubearmor.com/v1, kind: KubeArmorPolicy, metadata: {name: ` + w.name + `-` + part + `, namespace: ` + namespace +
		`}, spec: {selector: {}, severity: 8, action: ` + action + `, process: {matchPaths: [` + paths + `]}}}`
}

func (w *world) tools(namespace string) set.Object {
	const paths = "{path: /usr/bin/apt}, {path: /usr/bin/curl}"
	return w.both(set.PartTools, w.armor(namespace, "tools", "Audit", paths), w.armor(namespace, "tools", "Block", paths))
}

func (w *world) chroot(namespace string) set.Object {
	return w.both(set.PartChroot, w.armor(namespace, "chroot", "Audit", "{path: /usr/sbin/chroot}"), w.armor(namespace, "chroot", "Block", "{path: /usr/sbin/chroot}"))
}

func (w *world) capabilities(namespace string) set.Object {
	return w.both(set.PartCapabilities, "", `{apiVersion: security.kubearmor.com/v1, kind: KubeArmorPolicy, metadata: {name: `+w.name+`-capabilities, namespace: `+namespace+
		`}, spec: {selector: {}, severity: 8, action: Block, capabilities: {matchCapabilities: [{capability: sys_module}]}}}`)
}

func (w *world) policy() set.Object {
	text := `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: ` + w.name + `}, spec: {
		matchConstraints: {namespaceSelector: {matchLabels: {nobody: has}}, resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]},
		validations: [{expression: "!has(object.spec.hostPID) || !object.spec.hostPID", message: no host PIDs}]}}`
	return w.both(set.PartAdmission, text, text)
}

func (w *world) binding() set.Object {
	text := func(actions string) string {
		return `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: ` + w.name + `}, spec: {policyName: ` + w.name + `, validationActions: [` + actions + `]}}`
	}
	return w.both(set.PartAdmission, text("Warn, Audit"), text("Deny"))
}

func (w *world) setOf(objects ...set.Object) *set.Set {
	return &set.Set{Options: set.Options{
		Name: w.name, Scope: targets.Scope{Namespaces: []string{w.one, w.two}}, Admission: set.AdmissionPSA,
		Level: psa.LevelBaseline, PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
	}, Objects: objects}
}

// whole is a set with objects of every sort.
func (w *world) whole() *set.Set {
	return w.setOf(w.labelled(w.one), w.labelled(w.two), w.policy(), w.binding(), w.chroot(w.one), w.capabilities(w.one), w.tools(w.two))
}

// inTheWay makes a policy of somebody else under the name of one of the set's, which
// the set shares: some of its fields are others', some are alike, some are its own.
func (w *world) inTheWay() {
	w.Helper()
	theirs := parse(w, w.armor(w.one, "chroot", "Audit", "{path: /usr/sbin/chroot}"))
	theirs.SetLabels(map[string]string{"team": "a", set.LabelManagedBy: "helm"})
	theirs.Object["spec"].(map[string]any)["message"] = "theirs"
	if _, err := w.other.Resource(armorKind()).Namespace(w.one).Create(w.Context(), theirs, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		w.Fatal(err)
	}
}

func now() time.Time { return time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC) }

func applyOptions() remediate.ApplyOptions { return remediate.ApplyOptions{By: "test", Now: now} }

func (w *world) plan(c remediate.Cluster, s *set.Set) (*remediate.Plan, error) {
	return remediate.NewPlan(w.Context(), c, s, w.opts)
}

// run plans by NewPlan, or NewRollback for no set, and carries out.
func (w *world) run(c remediate.Cluster, s *set.Set) (*remediate.Result, error) {
	var plan *remediate.Plan
	var err error
	if s == nil {
		plan, err = remediate.NewRollback(w.Context(), c, w.name, w.opts)
	} else {
		plan, err = w.plan(c, s)
	}
	if err != nil {
		return nil, err
	}
	return plan.Apply(w.Context(), c, applyOptions())
}

func (w *world) must(s *set.Set) *remediate.Result {
	w.Helper()
	result, err := w.run(w.writer, s)
	if err != nil {
		w.Fatal(err)
	}
	if result.Left != 0 {
		w.Fatalf("%d changes are left: %+v", result.Left, result.Changes)
	}
	return result
}

func (w *world) mustPlan(s *set.Set) *remediate.Plan {
	w.Helper()
	plan, err := w.plan(w.writer, s)
	if err != nil {
		w.Fatal(err)
	}
	return plan
}

func (w *world) status() *remediate.Status {
	w.Helper()
	status, err := remediate.ReadStatus(w.Context(), w.writer, w.name, w.opts)
	if err != nil {
		w.Fatal(err)
	}
	return status
}

// get is an object as it is, nil when it is not there.
func (w *world) get(ref remediate.Ref) *unstructured.Unstructured {
	w.Helper()
	u, err := w.writer.Get(w.Context(), ref)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return u
}

// dump is everything that belongs to the world, without what each write changes. The
// UIDs are in it, so nothing has been made anew.
func (w *world) dump() map[string]string {
	w.Helper()
	return w.dumpWithout("resourceVersion", "managedFields", "generation")
}

// contents is everything that belongs to the world, whoever made it and when.
func (w *world) contents() map[string]string {
	w.Helper()
	return w.dumpWithout("resourceVersion", "managedFields", "generation", "uid", "creationTimestamp")
}

func (w *world) dumpWithout(fields ...string) map[string]string {
	w.Helper()
	found := map[string]string{}
	for resource, namespaces := range map[schema.GroupVersionResource][]string{
		namespaceKind(): {""},
		admissionKind("validatingadmissionpolicies"):       {""},
		admissionKind("validatingadmissionpolicybindings"): {""},
		armorKind():                             {w.one, w.two},
		{Version: "v1", Resource: "configmaps"}: {w.one, w.two, w.records},
	} {
		for _, namespace := range namespaces {
			list, err := w.other.Resource(resource).Namespace(namespace).List(w.Context(), metav1.ListOptions{})
			if err != nil {
				w.Fatal(err)
			}
			for i := range list.Items {
				u := &list.Items[i]
				if u.GetNamespace() == "" && !slices.Contains([]string{w.one, w.two, w.records}, u.GetName()) && !strings.HasPrefix(u.GetName(), w.name) {
					continue
				}
				for _, field := range fields {
					unstructured.RemoveNestedField(u.Object, "metadata", field)
				}
				text, err := yaml.Marshal(u.Object)
				if err != nil {
					w.Fatal(err)
				}
				found[remediate.RefOf(u).String()] = string(text)
			}
		}
	}
	return found
}

// wantDump compares with what was before.
func (w *world) wantDump(before map[string]string) {
	w.Helper()
	after := w.dump()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] != before[name] {
			w.Errorf("%s was\n%s\nand is\n%s", name, before[name], after[name])
		}
	}
	for name, text := range after {
		if _, ok := before[name]; !ok {
			w.Errorf("%s is left:\n%s", name, text)
		}
	}
}

// wantNoOwner checks that nobody sees us among the managers of an object.
func (w *world) wantNoOwner(ref remediate.Ref) {
	w.Helper()
	u := w.get(ref)
	if u == nil {
		w.Errorf("%s is gone", ref)
		return
	}
	for _, entry := range u.GetManagedFields() {
		if entry.Manager == remediate.FieldManager {
			w.Errorf("%s: we are still among its managers: %+v", ref, entry)
		}
	}
}

// edit changes an object as somebody else.
func (w *world) edit(resource schema.GroupVersionResource, namespace, name, manager string, change func(*unstructured.Unstructured)) {
	w.Helper()
	client := w.other.Resource(resource).Namespace(namespace)
	u, err := client.Get(w.Context(), name, metav1.GetOptions{})
	if err == nil {
		change(u)
		_, err = client.Update(w.Context(), u, metav1.UpdateOptions{FieldManager: manager})
	}
	if err != nil {
		w.Fatal(err)
	}
}

func states(status *remediate.Status) map[remediate.State]int {
	counts := map[remediate.State]int{}
	for _, o := range status.Objects {
		counts[o.State]++
	}
	return counts
}

// errDead is what a killed process would have got.
var errDead = errors.New("the process is dead")

// moment is when a write fails.
type moment string

const (
	diesAfter moment = "dies after"
	refused   moment = "refused"
)

// mortal is a cluster that fails at one write.
type mortal struct {
	remediate.Cluster
	at   int
	when moment

	mu     sync.Mutex
	writes int
	dead   bool
}

// write counts a write and does it, or not.
func (m *mortal) write(opts remediate.WriteOptions, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	if opts.DryRun {
		return do()
	}
	m.writes++
	if m.writes != m.at {
		return do()
	}
	if m.when == refused {
		return apierrors.NewInternalError(errors.New("failed calling webhook \"nobody\": timeout"))
	}
	m.dead = true
	if err := do(); err != nil {
		return err
	}
	return errDead
}

func (m *mortal) Get(ctx context.Context, ref remediate.Ref) (*unstructured.Unstructured, error) {
	m.mu.Lock()
	dead := m.dead
	m.mu.Unlock()
	if dead {
		return nil, errDead
	}
	return m.Cluster.Get(ctx, ref)
}

func (m *mortal) written(opts remediate.WriteOptions, do func() (*remediate.Written, error)) (written *remediate.Written, err error) {
	err = m.write(opts, func() (err error) {
		written, err = do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

func (m *mortal) Apply(ctx context.Context, u *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	return m.written(opts, func() (*remediate.Written, error) { return m.Cluster.Apply(ctx, u, opts) })
}

func (m *mortal) Create(ctx context.Context, u *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	return m.written(opts, func() (*remediate.Written, error) { return m.Cluster.Create(ctx, u, opts) })
}

func (m *mortal) Update(ctx context.Context, u *unstructured.Unstructured, opts remediate.WriteOptions) (*remediate.Written, error) {
	return m.written(opts, func() (*remediate.Written, error) { return m.Cluster.Update(ctx, u, opts) })
}

func (m *mortal) Delete(ctx context.Context, ref remediate.Ref, uid types.UID, rv string, opts remediate.WriteOptions) error {
	return m.write(opts, func() error { return m.Cluster.Delete(ctx, ref, uid, rv, opts) })
}
