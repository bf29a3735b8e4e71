// Command record asks Kyverno's own code what it says of pods and controllers by the
// policies in CEL. It is built inside of a copy of Kyverno's module: see the README
// beside it.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	policiesv1beta1 "github.com/kyverno/api/api/policies.kyverno.io/v1beta1"
	celengine "github.com/kyverno/kyverno/pkg/cel/engine"
	"github.com/kyverno/kyverno/pkg/cel/libs"
	"github.com/kyverno/kyverno/pkg/cel/matching"
	"github.com/kyverno/kyverno/pkg/cel/policies/vpol"
	vpolcompiler "github.com/kyverno/kyverno/pkg/cel/policies/vpol/compiler"
	vpolengine "github.com/kyverno/kyverno/pkg/cel/policies/vpol/engine"
	engineapi "github.com/kyverno/kyverno/pkg/engine/api"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// request is what Kyverno is asked, as the test that reads the recording makes it.
type request struct {
	Name        string         `json:"name"`
	Resource    string         `json:"resource"`
	Subresource string         `json:"subresource,omitempty"`
	Operation   string         `json:"operation"`
	Object      map[string]any `json:"object"`
	Old         map[string]any `json:"old,omitempty"`
}

// recording is what Kyverno said: the messages of the policies that refuse, by request.
type recording struct {
	// Policies is the SHA-256 of the file with the policies.
	Policies string              `json:"policies"`
	Warnings []string            `json:"warnings,omitempty"`
	Answers  map[string][]string `json:"answers"`
}

// main takes the folder with the policies, the files with the requests, and the folder
// for the recordings.
func main() {
	requests := os.Args[2]
	files, err := filepath.Glob(filepath.Join(requests, "*.json"))
	fail(err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		data, err := os.ReadFile(filepath.Join(os.Args[1], name+".yaml"))
		fail(err)
		asked, err := os.ReadFile(file)
		fail(err)
		var list []request
		fail(json.Unmarshal(asked, &list))
		out, err := json.MarshalIndent(record(data, list), "", " ")
		fail(err)
		fail(os.WriteFile(filepath.Join(os.Args[3], name+".json"), append(out, '\n'), 0o644))
	}
}

func record(data []byte, requests []request) recording {
	sum := sha256.Sum256(data)
	r := recording{Policies: hex.EncodeToString(sum[:]), Answers: map[string][]string{}}
	var policies []policiesv1beta1.ValidatingPolicyLike
	for document := range bytes.SplitSeq(data, []byte("---\n")) {
		if !bytes.Contains(document, []byte("\nkind:")) {
			continue
		}
		p := &policiesv1beta1.ValidatingPolicy{}
		fail(yaml.UnmarshalStrict(document, p))
		warnings, err := vpol.Validate(p)
		fail(err)
		r.Warnings = append(r.Warnings, warnings...)
		policies = append(policies, p)
	}
	provider, err := vpolengine.NewProvider(vpolcompiler.NewCompiler(), policies, nil)
	fail(err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Labels: map[string]string{corev1.LabelMetadataName: "team"}}}
	engine := vpolengine.NewEngine(provider, func(string) *corev1.Namespace { return namespace }, matching.NewMatcher())
	for _, q := range requests {
		object := &unstructured.Unstructured{Object: q.Object}
		var old *unstructured.Unstructured
		if q.Old != nil {
			old = &unstructured.Unstructured{Object: q.Old}
		}
		gvk := object.GroupVersionKind()
		gvr := schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: q.Resource}
		asked := celengine.Request(libs.GetLibsCtx(), gvk, gvr, q.Subresource, object.GetName(), "team", admissionv1.Operation(q.Operation),
			authenticationv1.UserInfo{}, object, nil, false, nil)
		if old != nil {
			asked.Request.OldObject.Object = old
			raw, err := old.MarshalJSON()
			fail(err)
			asked.Request.OldObject.Raw = raw
		}
		raw, err := object.MarshalJSON()
		fail(err)
		asked.Request.Object.Raw = raw
		response, err := engine.Handle(context.Background(), asked, nil)
		fail(err)
		messages := []string{}
		for _, policy := range response.Policies {
			for _, rule := range policy.Rules {
				switch rule.Status() {
				case engineapi.RuleStatusFail, engineapi.RuleStatusError:
					messages = append(messages, rule.Message())
				}
			}
		}
		slices.Sort(messages)
		r.Answers[q.Name] = messages
	}
	return r
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
