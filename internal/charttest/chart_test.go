package charttest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

func TestLint(t *testing.T) {
	t.Parallel()
	for name, file := range Values(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"lint", "--strict", Chart}
			if file != "" {
				args = append(args, "--values", file)
			}
			if _, err := Helm(t, args...); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every object is one of the API's, with no field that it does not have and none twice.
func TestObjectsAreOfTheAPI(t *testing.T) {
	t.Parallel()
	for name, file := range Values(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkObjects(t, Render(t, file))
		})
	}
}

func checkObjects(t *testing.T, text []byte) {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	monitors := newCustomResource(t, "prometheus/monitoring.coreos.com_servicemonitors.yaml")
	seen := map[string]bool{}
	for _, document := range Documents(t, text) {
		var o unstructured.Unstructured
		if err := yaml.UnmarshalStrict(document, &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		id := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if o.GetKind() == "ServiceMonitor" {
			for _, wrong := range monitors.wrong(&o) {
				t.Errorf("%s: %s", id, wrong)
			}
			continue
		}
		if _, _, err := decoder.Decode(document, nil, nil); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// The checks of objects find what is wrong.
func TestChecksOfObjectsBite(t *testing.T) {
	t.Parallel()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	if _, _, err := decoder.Decode([]byte("apiVersion: v1\nkind: Service\nspec: {port: 80}\n"), nil, nil); err == nil {
		t.Error("an unknown field of a Service is not found")
	}
	monitors := newCustomResource(t, "prometheus/monitoring.coreos.com_servicemonitors.yaml")
	for _, spec := range []map[string]any{
		{"selector": map[string]any{}, "endpoints": []any{map[string]any{"prot": "metrics"}}},
		{"selector": map[string]any{}, "endpoints": []any{map[string]any{"interval": "soon"}}},
	} {
		o := unstructured.Unstructured{Object: map[string]any{"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "spec": spec}}
		if len(monitors.wrong(&o)) == 0 {
			t.Errorf("nothing is wrong with %v", spec)
		}
	}
}

// customResource checks objects of a CustomResourceDefinition.
type customResource struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
}

func newCustomResource(t *testing.T, file string) *customResource {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "bin", "crds", file))
	if err != nil {
		t.Fatalf(`%v: run "make controlplane"`, err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	var schema apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(crd.Spec.Versions[0].Schema, &schema, nil); err != nil {
		t.Fatal(err)
	}
	c := &customResource{}
	if c.structural, err = structuralschema.NewStructural(schema.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	if c.validator, _, err = validation.NewSchemaValidator(schema.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	return c
}

// wrong is what the API server would refuse or drop.
func (c *customResource) wrong(o *unstructured.Unstructured) []string {
	object := runtime.DeepCopyJSON(o.Object)
	var wrong []string
	for _, field := range pruning.PruneWithOptions(object, c.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		wrong = append(wrong, "unknown field "+field)
	}
	for _, err := range validation.ValidateCustomResource(nil, o.Object, c.validator) {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

// The manifests in the tree are what the chart gives.
func TestManifestsAreRendered(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	script, err := filepath.Abs(filepath.Join(root, "hack", "manifests.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(want) == 0 {
		t.Fatalf("nothing was rendered: %v", err)
	}
	for _, file := range want {
		have, err := os.ReadFile(filepath.Join(root, "deploy", "manifests", filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, rendered) {
			t.Errorf(`deploy/manifests/%s is not what the chart gives: run "make manifests"`, filepath.Base(file))
		}
	}
	here, err := filepath.Glob(filepath.Join(root, "deploy", "manifests", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range here {
		name := filepath.Base(file)
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil && name != "kustomization.yaml" {
			t.Errorf("deploy/manifests/%s is not rendered by anything", name)
		}
	}
}

// What the kustomization names is there.
func TestKustomizationIsWhole(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(root, "deploy", "manifests")
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
		Images     []struct {
			Name   string `json:"name"`
			NewTag string `json:"newTag"`
		} `json:"images"`
	}
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	if len(k.Resources) == 0 || k.Kind != "Kustomization" {
		t.Errorf("kustomization: %+v", k)
	}
	var all strings.Builder
	for _, name := range k.Resources {
		resource, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(resource)
	}
	for _, image := range k.Images {
		if !strings.Contains(all.String(), "image: "+image.Name+":") {
			t.Errorf("kustomization: no container has the image %s", image.Name)
		}
	}
}
