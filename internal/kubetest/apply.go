package kubetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// podSecurityLabels begin with this.
const podSecurityLabels = "pod-security.kubernetes.io/"

// Apply makes the objects of all YAML and JSON files in a folder, and below it, and
// of every item of a List in them. It makes a cluster in which the pods were there
// before the rules for their admission: namespaces first, without their pod-security
// labels, then nodes and all else, pods after their controllers, and in the end the
// kinds of admissionregistration.k8s.io and the labels. Otherwise no test could have
// a pod that breaks a rule.
//
// A status is written too, by a second request. An owner reference without a uid is
// given that of the object of the folder that it names. A namespace that exists
// already (kube-system, default) is given the labels and annotations.
//
// When the test ends all is removed.
func (s *Server) Apply(tb testing.TB, folder fs.FS) {
	tb.Helper()
	var objects []*unstructured.Unstructured
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			return err
		}
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		found, err := decodeObjects(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, found...)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.apply(tb, objects)
}

// ApplyYAML does the same with manifests in a text.
func (s *Server) ApplyYAML(tb testing.TB, text string) {
	tb.Helper()
	objects, err := decodeObjects([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	s.apply(tb, objects)
}

func decodeObjects(text []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		switch {
		case len(object.Object) == 0:
		case object.IsList():
			err := object.EachListItem(func(item runtime.Object) error {
				objects = append(objects, item.(*unstructured.Unstructured))
				return nil
			})
			if err != nil {
				return nil, err
			}
		default:
			objects = append(objects, object)
		}
	}
}

func (s *Server) apply(tb testing.TB, objects []*unstructured.Unstructured) {
	tb.Helper()
	a, err := s.newApplier(tb)
	if err != nil {
		tb.Fatalf("apply: %v", err)
	}
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(x, y *unstructured.Unstructured) int { return cmp.Compare(stage(x), stage(y)) })
	for _, object := range objects {
		if err := a.make(tb.Context(), object); err != nil {
			tb.Fatalf("apply %s: %v", describe(object), err)
		}
	}
	for _, object := range objects {
		if err := a.labelNamespace(tb.Context(), object); err != nil {
			tb.Fatalf("apply %s: %v", describe(object), err)
		}
	}
}

// stage is the turn at which an object is made.
func stage(object *unstructured.Unstructured) int {
	gvk := object.GroupVersionKind()
	switch {
	case gvk.Group == "" && gvk.Kind == "Namespace":
		return 0
	case gvk.Group == "admissionregistration.k8s.io":
		return 4
	case gvk.Group == "" && gvk.Kind == "Pod":
		return 3
	case gvk.Kind == "ReplicaSet", gvk.Kind == "Job":
		return 2
	}
	return 1
}

// applier makes the objects of one Apply.
type applier struct {
	server *Server
	tb     testing.TB
	client dynamic.Interface
	mapper meta.RESTMapper
	// made are the objects of this Apply.
	made map[string]*unstructured.Unstructured
}

func (s *Server) newApplier(tb testing.TB) (*applier, error) {
	// That some kinds are deprecated is no news to the reader of a test's log.
	config := s.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &applier{
		server: s, tb: tb, client: client, made: map[string]*unstructured.Unstructured{},
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.client.Discovery())),
	}, nil
}

// resource is where the server keeps objects of this kind, in this namespace.
func (a *applier) resource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return a.client.Resource(mapping.Resource), nil
	}
	return a.client.Resource(mapping.Resource).Namespace(cmp.Or(object.GetNamespace(), metav1.NamespaceDefault)), nil
}

func (a *applier) make(ctx context.Context, object *unstructured.Unstructured) error {
	object = object.DeepCopy()
	if stage(object) == 0 {
		return a.makeNamespace(ctx, object)
	}
	if err := a.giveOwners(object); err != nil {
		return err
	}
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	made, err := resource.Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	a.made[key(made)] = made
	a.removeAtEnd(resource, made)
	status, _, err := unstructured.NestedMap(object.Object, "status")
	if err != nil || len(status) == 0 {
		return err
	}
	has, _, err := unstructured.NestedMap(made.Object, "status")
	if err != nil {
		return err
	}
	// What the server itself says of it, such as a pod's qosClass, stays.
	all := map[string]any{}
	maps.Copy(all, has)
	maps.Copy(all, status)
	made.Object["status"] = all
	_, err = resource.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

func (a *applier) removeAtEnd(resource dynamic.ResourceInterface, object *unstructured.Unstructured) {
	now := int64(0)
	what := describe(object)
	a.tb.Cleanup(func() {
		ctx, cancel := cleanupContext(a.tb)
		defer cancel()
		err := resource.Delete(ctx, object.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			a.tb.Errorf("%s: removing it: %v", what, err)
		}
	})
}

// giveOwners fills in the uid of owners that were made before.
func (a *applier) giveOwners(object *unstructured.Unstructured) error {
	owners := object.GetOwnerReferences()
	for i := range owners {
		o := &owners[i]
		if o.UID != "" {
			continue
		}
		owner := a.made[strings.Join([]string{o.APIVersion, o.Kind, object.GetNamespace(), o.Name}, "/")]
		if owner == nil {
			// Nodes own the pods that their kubelets run by themselves.
			owner = a.made[strings.Join([]string{o.APIVersion, o.Kind, "", o.Name}, "/")]
		}
		if owner == nil {
			return fmt.Errorf("owner %s %s is not among the objects: give a uid to have one that does not exist", o.Kind, o.Name)
		}
		o.UID = owner.GetUID()
	}
	if len(owners) > 0 {
		object.SetOwnerReferences(owners)
	}
	return nil
}

// makeNamespace makes a namespace without the labels that would refuse pods.
func (a *applier) makeNamespace(ctx context.Context, object *unstructured.Unstructured) error {
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	before, err := resource.Get(ctx, object.GetName(), metav1.GetOptions{})
	switch {
	case err == nil:
		a.restoreAtEnd(resource, before)
		return nil
	case !apierrors.IsNotFound(err):
		return err
	}
	labels := object.GetLabels()
	maps.DeleteFunc(labels, func(name, _ string) bool { return strings.HasPrefix(name, podSecurityLabels) })
	object.SetLabels(labels)
	if _, err := resource.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	name := object.GetName()
	a.tb.Cleanup(func() {
		ctx, cancel := cleanupContext(a.tb)
		defer cancel()
		if err := a.server.removeNamespace(ctx, name); err != nil {
			a.tb.Errorf("namespace %s: removing it: %v", name, err)
		}
	})
	return nil
}

func (a *applier) restoreAtEnd(resource dynamic.ResourceInterface, before *unstructured.Unstructured) {
	a.tb.Cleanup(func() {
		ctx, cancel := cleanupContext(a.tb)
		defer cancel()
		if err := setMeta(ctx, resource, before.GetName(), before.GetLabels(), before.GetAnnotations()); err != nil {
			a.tb.Errorf("namespace %s: giving it back its labels: %v", before.GetName(), err)
		}
	})
}

// labelNamespace gives a namespace all its labels, now that its pods are there.
func (a *applier) labelNamespace(ctx context.Context, object *unstructured.Unstructured) error {
	if stage(object) != 0 {
		return nil
	}
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	now, err := resource.Get(ctx, object.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	labels, annotations := now.GetLabels(), now.GetAnnotations()
	return setMeta(ctx, resource, object.GetName(), union(labels, object.GetLabels()), union(annotations, object.GetAnnotations()))
}

func union(a, b map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

func setMeta(ctx context.Context, resource dynamic.ResourceInterface, name string, labels, annotations map[string]string) error {
	now, err := resource.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	now.SetLabels(labels)
	now.SetAnnotations(annotations)
	_, err = resource.Update(ctx, now, metav1.UpdateOptions{})
	return err
}

func key(object *unstructured.Unstructured) string {
	return strings.Join([]string{object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName()}, "/")
}

func describe(object *unstructured.Unstructured) string {
	name := object.GetName()
	if ns := object.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return cmp.Or(object.GetKind(), "object without a kind") + " " + name
}
