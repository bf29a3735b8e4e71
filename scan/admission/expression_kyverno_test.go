package admission

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var kyvernoNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func vpolYAML(spec string) string {
	return strings.Replace(vapYAML(spec), "metadata:", "kind: ValidatingPolicy\nmetadata:", 1)
}

func newVPol(t *testing.T, policy, doubt string, exceptions ...string) *ValidatingPolicy {
	t.Helper()
	var data [][]byte
	for _, x := range exceptions {
		data = append(data, asJSON(t, "metadata: {name: exception, namespace: team}\nspec:\n"+indent(x)))
	}
	policies, errs := NewValidatingPolicies([][]byte{asJSON(t, policy)}, data, doubt, kyvernoNow)
	if len(errs) > 0 || len(policies) != 1 {
		t.Fatalf("%d policies, errors %v", len(policies), errs)
	}
	return policies[0]
}

func TestValidatingPolicyEvaluatesAsKyvernoDoes(t *testing.T) {
	const deny, allow, fails = "validations: [{expression: 'false'}]\n", "validations: [{expression: 'true'}]\n", "object.spec.nope.x == 1"
	const refs = "policyRefs: [{name: policy, kind: ValidatingPolicy}]\n"
	const user = "request.userInfo.username == 'admin'"
	for name, tt := range map[string]struct {
		spec, more, doubt string
		exceptions        []string
		subject           func() Subject
		want              *wanted
	}{
		"no actions deny":                         {spec: deny, want: &wanted{Refuses, "", "Policy policy failed: CEL expression validation failed at index 0"}},
		"a validation that holds":                 {spec: allow, want: admits},
		"its message":                             {spec: "validations: [{expression: 'false', message: never}]", want: &wanted{Refuses, "", "Policy policy failed: never"}},
		"its message expression":                  {spec: "validations: [{expression: 'false', message: never, messageExpression: \"'pod ' + object.metadata.name\"}]", want: &wanted{Refuses, "", "failed: pod pod"}},
		"variables":                               {spec: "variables: [{name: a, expression: object.spec.containers}]\nvalidations: [{expression: size(variables.a) == 2}]", want: refuses},
		"only audit":                              {spec: "validationActions: [Audit]\n" + deny, want: &wanted{Admits, CauseKyvernoAudit, ""}},
		"audit and warn":                          {spec: "validationActions: [Audit, Warn]\n" + allow, want: admits},
		"deny among others":                       {spec: "validationActions: [Audit, Deny]\n" + deny, want: refuses},
		"admission switched off":                  {spec: "evaluation: {admission: {enabled: false}}\n" + deny, want: &wanted{Admits, CauseKyvernoNotReady, ""}},
		"admission switched on":                   {spec: "evaluation: {admission: {enabled: true}}\n" + deny, want: refuses},
		"for JSON":                                {spec: "evaluation: {mode: JSON}\n" + deny},
		"for Kubernetes":                          {spec: "evaluation: {mode: Kubernetes}\n" + deny, want: refuses},
		"not in the webhook":                      {spec: deny, more: "status: {conditionStatus: {ready: false, conditions: [{type: WebhookConfigured, status: 'False', message: missing}]}}", want: &wanted{Admits, CauseKyvernoNotReady, ""}},
		"only the background scan lacks a right":  {spec: deny, more: "status: {conditionStatus: {ready: false, conditions: [{type: WebhookConfigured, status: 'True'}, {type: RBACPermissionsGranted, status: 'False'}]}}", want: refuses},
		"not ready":                               {spec: deny, more: "status: {conditionStatus: {ready: false}}", want: &wanted{Admits, CauseKyvernoNotReady, ""}},
		"ready":                                   {spec: deny, more: "status: {conditionStatus: {ready: true}}", want: refuses},
		"left to a generated policy":              {spec: deny, more: "status: {generated: true}"},
		"a failure refuses":                       {spec: "validations: [{expression: " + fails + "}]", want: &wanted{Refuses, "", "no such key: nope"}},
		"a failure refuses even if it is ignored": {spec: "failurePolicy: Ignore\nvalidations: [{expression: " + fails + "}]", want: refuses},
		"a condition that fails":                  {spec: "matchConditions: [{name: c, expression: " + fails + "}]\n" + allow, want: refuses},
		"a condition that fails and is ignored":   {spec: "failurePolicy: Ignore\nmatchConditions: [{name: c, expression: " + fails + "}]\n" + deny, want: opens},
		"a condition that is false":               {spec: "matchConditions: [{name: c, expression: 'false'}]\n" + deny, want: admits},
		"a condition sees the namespace":          {spec: "matchConditions: [{name: c, expression: namespaceObject.metadata.name == 'space'}]\n" + deny, want: refuses},
		"a condition sees no variables":           {spec: "variables: [{name: a, expression: 'true'}]\nmatchConditions: [{name: c, expression: variables.a}]\n" + deny, want: unknown},
		"an audit annotation that fails":          {spec: "auditAnnotations: [{key: a, valueExpression: string(object.nope)}]\n" + allow, want: refuses},
		"the user":                                {spec: "validations: [{expression: " + user + "}]", want: &wanted{Unknown, "", "who will create the pod is not known"}},
		"the user in a condition":                 {spec: "matchConditions: [{name: c, expression: " + user + "}]\n" + deny, want: unknown},
		"the user in a condition, all holds":      {spec: "matchConditions: [{name: c, expression: " + user + "}]\n" + allow, want: admits},
		"what only Kyverno can call":              {spec: "validations: [{expression: \"resource.Get('v1', 'configmaps', 'a', 'b').data.x == 'y'\"}]", want: &wanted{Unknown, "", "resource.Get"}},
		"what only Kyverno can call, in a list":   {spec: "validations: [{expression: \"object.spec.containers.all(c, image(c.image).registry() == 'ghcr.io')\"}]", want: &wanted{Unknown, "", "image"}},
		"what only Kyverno can call, and audits":  {spec: "validationActions: [Audit]\nvalidations: [{expression: \"http.Get('x').y\"}]", want: admits},
		"CEL's libraries that Kyverno adds":       {spec: "validations: [{expression: \"cel.bind(x, object.spec.containers, size(x) == 1) && math.greatest(1, 2) == 2 && base64.encode(b'a') != ''\"}]", want: admits},
		"a policy whose constraints are missing":  {spec: "matchConstraints: null\n" + deny},
		"an unknown namespace":                    {spec: "matchConstraints: {resourceRules: [" + podRule + "], namespaceSelector: {matchLabels: {env: prod}}}\n" + deny, subject: namespaceless, want: unknown},
		"nobody knows whether Kyverno is asked":   {spec: deny, doubt: "no webhook was read", want: &wanted{Unknown, "", "no webhook was read"}},
		"which is no matter if it passes":         {spec: allow, doubt: "no webhook was read", want: admits},

		"an exception":                             {spec: deny, exceptions: []string{refs}, want: &wanted{Admits, CauseExcluded, ""}},
		"an exception of what passes":              {spec: allow, exceptions: []string{refs}, want: admits},
		"an exception that matches":                {spec: deny, exceptions: []string{refs + "matchConditions: [{name: c, expression: object.metadata.labels.app == 'web'}]"}, want: &wanted{Admits, CauseExcluded, ""}},
		"an exception for others":                  {spec: deny, exceptions: []string{refs + "matchConditions: [{name: c, expression: object.metadata.labels.app == 'db'}]"}, want: refuses},
		"an exception from another policy":         {spec: deny, exceptions: []string{"policyRefs: [{name: other, kind: ValidatingPolicy}]"}, want: refuses},
		"an exception from another kind":           {spec: deny, exceptions: []string{"policyRefs: [{name: policy, kind: NamespacedValidatingPolicy}]"}, want: refuses},
		"an exception that has expired":            {spec: deny, exceptions: []string{refs + "expiresAt: '2026-11-22T11:59:00Z'"}, want: refuses},
		"an exception that has not":                {spec: deny, exceptions: []string{refs + "expiresAt: '2026-11-22T12:01:00Z'"}, want: &wanted{Admits, CauseExcluded, ""}},
		"an exception by the user":                 {spec: deny, exceptions: []string{refs + "matchConditions: [{name: c, expression: " + user + "}]"}, want: &wanted{Unknown, "", "exception"}},
		"by the user, of what passes":              {spec: allow, exceptions: []string{refs + "matchConditions: [{name: c, expression: " + user + "}]"}, want: admits},
		"an exception that fails":                  {spec: allow, exceptions: []string{refs + "matchConditions: [{name: c, expression: " + fails + "}]"}, want: refuses},
		"an exception that fails, beside another":  {spec: deny, exceptions: []string{refs + "matchConditions: [{name: c, expression: " + fails + "}]", refs}, want: &wanted{Admits, CauseExcluded, ""}},
		"an exception for images, which are asked": {spec: "validations: [{expression: \"object.spec.containers.all(c, c.image in exceptions.allowedImages)\"}]", exceptions: []string{refs + "images: ['registry.example/app:1']"}, want: admits},
		"an exception for other images":            {spec: "validations: [{expression: \"object.spec.containers.all(c, c.image in exceptions.allowedImages)\"}]", exceptions: []string{refs + "images: ['registry.example/app:2']"}, want: refuses},
		"no exceptions are empty lists":            {spec: "validations: [{expression: size(exceptions.allowedImages) == 0 && size(exceptions.allowedValues) == 0}]", want: admits},
	} {
		t.Run(name, func(t *testing.T) {
			s := podSubject()
			if tt.subject != nil {
				s = tt.subject()
			}
			check(t, newVPol(t, vpolYAML(tt.spec)+tt.more, tt.doubt, tt.exceptions...).Rule(s), tt.want)
		})
	}
}

func TestValidatingPolicyIsUnknownWithoutExceptions(t *testing.T) {
	p := newVPol(t, vpolYAML("validations: [{expression: 'false'}]"), "")
	p.ExceptionsUnread("forbidden")
	check(t, p.Rule(podSubject()), &wanted{Unknown, "", "exceptions were not read: forbidden"})
}

func TestNamespacedValidatingPolicyHoldsInItsNamespace(t *testing.T) {
	policy := func(namespace string) string {
		return strings.Replace(vpolYAML("validations: [{expression: 'false'}]"), "kind: ValidatingPolicy\nmetadata: {name: policy}",
			"kind: NamespacedValidatingPolicy\nmetadata: {name: policy, namespace: "+namespace+"}", 1)
	}
	check(t, newVPol(t, policy("space"), "").Rule(podSubject()), refuses)
	check(t, newVPol(t, policy("elsewhere"), "").Rule(podSubject()), nil)
	want := Ref{Mechanism: KyvernoValidatingPolicy, Kind: "NamespacedValidatingPolicy", Namespace: "space", Name: "policy"}
	if got := newVPol(t, policy("space"), "").Ref(); got != want {
		t.Errorf("ref %+v", got)
	}
}

func TestValidatingPolicyFaults(t *testing.T) {
	const deny = "validations: [{expression: 'false'}]\n"
	match := func(fields string) string { return "matchConstraints: {" + fields + "}\n" + deny }
	deployments := `{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}`
	controllers := `{apiGroups: [apps, batch], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}`
	for name, tt := range map[string]struct {
		spec  string
		cause Cause
		names string
	}{
		"nothing amiss":               {deny, "", ""},
		"audit":                       {"validationActions: [Audit]\n" + deny, CauseKyvernoAudit, "Audit"},
		"admission off":               {"evaluation: {admission: {enabled: false}}\n" + deny, CauseKyvernoNotReady, "enabled is false"},
		"no autogen":                  {"autogen: {podControllers: {controllers: []}}\n" + deny, CauseKyvernoAutogen, "DaemonSet, Deployment, ReplicaSet, StatefulSet, Job, CronJob"},
		"autogen for one":             {"autogen: {podControllers: {controllers: [deployments]}}\n" + deny, CauseKyvernoAutogen, "DaemonSet, ReplicaSet"},
		"an object selector":          {match("resourceRules: [" + podRule + "], objectSelector: {matchLabels: {a: b}}"), CauseKyvernoAutogen, "objectSelector"},
		"an empty object selector":    {match("resourceRules: [" + podRule + "], objectSelector: {}"), "", ""},
		"an exclusion":                {match("resourceRules: [" + podRule + "], excludeResourceRules: [" + deployments + "]"), CauseKyvernoAutogen, "excludeResourceRules"},
		"names":                       {match(`resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [a]}]`), CauseKyvernoAutogen, "resourceNames"},
		"with ephemeral containers":   {match(`resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods, pods/ephemeralcontainers]}]`), CauseKyvernoAutogen, "more than"},
		"two rules":                   {match("resourceRules: [" + podRule + ", " + deployments + "]"), CauseKyvernoAutogen, "2 resourceRules"},
		"controllers matched as well": {match("resourceRules: [" + podRule + ", " + controllers + "]"), "", ""},
		"a policy on other things":    {match("resourceRules: [" + deployments + "]"), "", ""},
		"a policy for JSON":           {"evaluation: {mode: JSON}\nautogen: {podControllers: {controllers: []}}\n" + deny, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			faults := newVPol(t, vpolYAML(tt.spec), "").Faults()
			if tt.cause == "" {
				if len(faults) > 0 {
					t.Errorf("faults %+v", faults)
				}
				return
			}
			if len(faults) != 1 || faults[0].Cause != tt.cause || !strings.Contains(faults[0].Reason, tt.names) || faults[0].Mend == "" {
				t.Errorf("faults %+v, want %s with %q", faults, tt.cause, tt.names)
			}
		})
	}
}

func TestValidatingPolicyReads(t *testing.T) {
	p := newVPol(t, vpolYAML("validations: [{expression: object.metadata.name == 'a'}]"), "",
		"policyRefs: [{name: policy, kind: ValidatingPolicy}]\nmatchConditions: [{name: c, expression: object.metadata.labels.app == 'db'}]")
	if got, want := p.Reads(), (Keys{Labels: []string{"app"}, Names: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("reads %+v, want %+v", got, want)
	}
}

func TestValidatingPoliciesUnreadableObjectsAreErrors(t *testing.T) {
	bad := [][]byte{[]byte("{"), []byte(`{"spec": 1}`), nil}
	policies, errs := NewValidatingPolicies(append(bad, asJSON(t, vpolYAML("validations: [{expression: 'true'}]"))), bad, "", kyvernoNow)
	if len(policies) != 1 || len(errs) != 2*len(bad) {
		t.Errorf("%d policies and %d errors: %v", len(policies), len(errs), errs)
	}
}

// The fields that are read are those of Kyverno's own definitions, in all versions
// that it serves.
func TestValidatingPolicyFieldsAreKyvernos(t *testing.T) {
	dir := kyvernoCRDs(t)
	for _, file := range []string{"validatingpolicies", "namespacedvalidatingpolicies"} {
		for version, properties := range crdVersions(t, filepath.Join(dir, "policies.kyverno.io_"+file+".yaml")) {
			for _, path := range []string{
				"spec.matchConstraints.resourceRules", "spec.matchConditions", "spec.variables", "spec.validations", "spec.auditAnnotations",
				"spec.validationActions", "spec.failurePolicy", "spec.autogen.podControllers.controllers", "spec.evaluation.mode",
				"spec.evaluation.admission.enabled", "status.generated", "status.conditionStatus.ready", "status.conditionStatus.conditions",
			} {
				if !hasProperty(properties, path) {
					t.Errorf("%s %s has no %s", file, version, path)
				}
			}
		}
	}
	for version, properties := range crdVersions(t, filepath.Join(dir, "policies.kyverno.io_policyexceptions.yaml")) {
		for _, path := range []string{"spec.policyRefs", "spec.matchConditions", "spec.images", "spec.allowedValues"} {
			if !hasProperty(properties, path) {
				t.Errorf("policyexceptions %s has no %s", version, path)
			}
		}
	}
}

func crdVersions(t *testing.T, file string) map[string]map[string]any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Served bool
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, version := range crd.Spec.Versions {
		if version.Served {
			out[version.Name] = version.Schema.OpenAPIV3Schema
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s serves nothing", file)
	}
	return out
}

func hasProperty(schema map[string]any, path string) bool {
	for field := range strings.SplitSeq(path, ".") {
		properties, _ := schema["properties"].(map[string]any)
		next, ok := properties[field].(map[string]any)
		if !ok {
			return false
		}
		schema = next
	}
	return true
}

// kyvernoCRDs is the folder of Kyverno's definitions in its own module, which is
// read and never linked.
func kyvernoCRDs(t *testing.T) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/kyverno/kyverno@v1.19.1")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(module.Dir, "config", "crds", "policies.kyverno.io")
}
