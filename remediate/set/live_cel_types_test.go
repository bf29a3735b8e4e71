package set

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	psa "k8s.io/pod-security-admission/api"
)

// typeChecker checks expressions against the schema of a kind, as the controller does that
// writes a policy's status.typeChecking.
type typeChecker struct {
	compiler *plugincel.CompositedCompiler
	problems []string
}

// written is an expression as it is written.
type written struct{ name, text string }

func (w written) GetName() string          { return w.name }
func (w written) GetExpression() string    { return w.text }
func (w written) ReturnTypes() []*cel.Type { return []*cel.Type{cel.AnyType} }

// CompileCELExpression checks one expression.
func (c *typeChecker) CompileCELExpression(e plugincel.ExpressionAccessor, _ plugincel.OptionalVariableDeclarations, mode environment.Type) plugincel.CompilationResult {
	env, err := c.compiler.Env(mode)
	if err != nil {
		c.problems = append(c.problems, err.Error())
		return plugincel.CompilationResult{}
	}
	ast, issues := env.Compile(e.GetExpression())
	if issues.Err() != nil {
		c.problems = append(c.problems, fmt.Sprintf("%s: %v", e.GetExpression(), issues.Err()))
		return plugincel.CompilationResult{}
	}
	return plugincel.CompilationResult{OutputType: ast.OutputType()}
}

// checkTypes checks all expressions of a policy against a kind.
func (s *celSpace) checkTypes(t *testing.T, policy *admissionregistrationv1.ValidatingAdmissionPolicy, gvk schema.GroupVersionKind) []string {
	t.Helper()
	found, err := (&resolver.ClientDiscoveryResolver{Discovery: s.client.Discovery()}).ResolveSchema(gvk)
	if err != nil {
		t.Fatal(err)
	}
	object := common.SchemaDeclType(&openapi.Schema{Schema: found}, true).MaybeAssignTypeName(gvk.Kind)
	request, namespace := plugincel.BuildRequestType(), plugincel.BuildNamespaceType()
	env, err := environment.MustBaseEnvSet(version.MajorMinor(1, math.MaxInt16)).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions: []cel.EnvOption{
			cel.Variable(plugincel.ObjectVarName, object.CelType()), cel.Variable(plugincel.OldObjectVarName, object.CelType()),
			cel.Variable(plugincel.RequestVarName, request.CelType()), cel.Variable(plugincel.NamespaceVarName, namespace.CelType()),
		},
		DeclTypes: []*apiservercel.DeclType{object, request, namespace},
	})
	if err != nil {
		t.Fatal(err)
	}
	compiler, err := plugincel.NewCompositedCompilerForTypeChecking(env)
	if err != nil {
		t.Fatal(err)
	}
	checker := &typeChecker{compiler: compiler}
	compiler.Compiler = checker
	none := plugincel.OptionalVariableDeclarations{}
	for _, v := range policy.Spec.Variables {
		compiler.CompileAndStoreVariable(written{v.Name, v.Expression}, none, environment.StoredExpressions)
	}
	for _, c := range policy.Spec.MatchConditions {
		compiler.CompileCELExpression(written{text: c.Expression}, none, environment.StoredExpressions)
	}
	for _, v := range policy.Spec.Validations {
		compiler.CompileCELExpression(written{text: v.Expression}, none, environment.StoredExpressions)
		compiler.CompileCELExpression(written{text: v.MessageExpression}, none, environment.StoredExpressions)
	}
	return checker.problems
}

// The policies say nothing that the API server's check of types would warn of, whatever
// they match.
func TestLiveVAPChecksItsTypes(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
		o := celOptions("types", level, "latest")
		o.Scope.Labels = map[string]string{"app": "web"}
		for _, object := range renderings()[0].mustRender(t, o) {
			if object.Final().GetKind() == "ValidatingAdmissionPolicy" {
				s.checkPolicy(t, object.Final())
			}
		}
	}
}

func (s *celSpace) checkPolicy(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, policy); err != nil {
		t.Fatal(err)
	}
	wrong := policy.DeepCopy()
	wrong.Spec.Validations[0].Expression = "object.nope == 1"
	for _, rule := range policy.Spec.MatchConstraints.ResourceRules {
		for _, resource := range rule.Resources {
			if strings.Contains(resource, "/") {
				continue
			}
			gvk, err := s.mapper.KindFor(schema.GroupVersionResource{Group: rule.APIGroups[0], Version: rule.APIVersions[0], Resource: resource})
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range s.checkTypes(t, policy, gvk) {
				t.Errorf("%s, %s: %s", policy.Name, gvk.Kind, problem)
			}
			if problems := s.checkTypes(t, wrong, gvk); len(problems) != 1 {
				t.Errorf("%s, %s: problems of object.nope: %q", policy.Name, gvk.Kind, problems)
			}
		}
	}
}
