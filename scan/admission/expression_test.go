package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// vapYAML is a policy that speaks of the creation of pods, with the rest of its spec.
func vapYAML(spec string) string {
	if !strings.Contains(spec, "matchConstraints:") {
		spec = "matchConstraints: {resourceRules: [" + podRule + "]}\n" + spec
	}
	return "metadata: {name: policy}\nspec:\n" + indent(spec)
}

const podRule = `{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}`

func bindingYAML(spec string) string {
	if !strings.Contains(spec, "validationActions:") {
		spec = "validationActions: [Deny]\n" + spec
	}
	return "metadata: {name: binding}\nspec:\n  policyName: policy\n" + indent(spec)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") + "\n"
}

func asJSON(t testing.TB, text string) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return data
}

func newVAP(t testing.TB, spec string, bindings ...string) *VAP {
	t.Helper()
	return newVAPAt(t, "v1.36.3", nil, spec, bindings...)
}

func newVAPAt(t testing.TB, server string, params Params, spec string, bindings ...string) *VAP {
	t.Helper()
	var bound [][]byte
	for _, b := range bindings {
		bound = append(bound, asJSON(t, bindingYAML(b)))
	}
	vaps, errs := NewVAPs([][]byte{asJSON(t, vapYAML(spec))}, bound, params, server)
	if len(errs) > 0 || len(vaps) != 1 {
		t.Fatalf("%d policies, errors %v", len(vaps), errs)
	}
	return vaps[0]
}

// podSubject is a privileged pod named pod in namespace space.
func podSubject() Subject {
	return Subject{
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "space", Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{
				ServiceAccountName: "default",
				Containers: []corev1.Container{{
					Name: "main", Image: "registry.example/app:1",
					SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
				}},
			},
		},
		Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "space", Labels: map[string]string{"kubernetes.io/metadata.name": "space", "env": "prod"},
		}},
		OwnerKind: "Pod", OwnerName: "pod",
	}
}

// namespaceless is the same where the namespace could not be read.
func namespaceless() Subject {
	s := podSubject()
	s.Namespace, s.NamespaceUnknown = nil, "forbidden"
	return s
}

type wanted struct {
	answer  Answer
	cause   Cause
	message string
}

func check(t *testing.T, rulings []Ruling, want *wanted) {
	t.Helper()
	if want == nil {
		if len(rulings) > 0 {
			t.Errorf("rulings %+v of a policy that does not speak of the pod", rulings)
		}
		return
	}
	if len(rulings) != 1 {
		t.Fatalf("%d rulings: %+v", len(rulings), rulings)
	}
	r := rulings[0]
	var cause Cause
	if r.Toothless != nil {
		cause = r.Toothless.Cause
		if r.Toothless.Reason == "" || r.Toothless.Mend == "" {
			t.Errorf("toothless without reason or mend: %+v", r.Toothless)
		}
	}
	if r.Answer != want.answer || cause != want.cause || !strings.Contains(r.Message, want.message) {
		t.Errorf("answer %q, cause %q, message %q; want %+v", r.Answer, cause, r.Message, *want)
	}
	if r.Answer != Admits && r.Message == "" {
		t.Error("no message")
	}
}

var (
	refuses = &wanted{answer: Refuses}
	admits  = &wanted{answer: Admits}
	opens   = &wanted{answer: Admits, cause: CauseFailOpen}
	unknown = &wanted{answer: Unknown}
)

func TestVAPEvaluatesAsTheServerDoes(t *testing.T) {
	const deny, allow = "validations: [{expression: 'false'}]\n", "validations: [{expression: 'true'}]\n"
	const fails = "object.spec.nope.x == 1"
	for name, tt := range map[string]struct {
		spec, binding string
		subject       func() Subject
		want          *wanted
	}{
		"a validation that is false refuses": {spec: deny, want: &wanted{Refuses, "",
			"ValidatingAdmissionPolicy 'policy' with binding 'binding' denied request: failed expression: false"}},
		"a validation that is true admits": {spec: allow, want: admits},
		"it reads the pod": {
			spec: `validations: [{expression: "!object.spec.containers.exists(c, c.?securityContext.?privileged.orValue(false))", message: no privileged}]`,
			want: &wanted{Refuses, "", "denied request: no privileged"},
		},
		"the pod has kind and apiVersion":                          {spec: "validations: [{expression: \"object.kind == 'Pod' && object.apiVersion == 'v1' && oldObject == null\"}]", want: admits},
		"the request is a creation":                                {spec: "validations: [{expression: \"request.operation == 'CREATE' && request.kind.kind == 'Pod' && request.resource.resource == 'pods' && request.namespace == 'space' && request.name == 'pod' && !request.dryRun\"}]", want: admits},
		"the namespace is read":                                    {spec: "validations: [{expression: \"namespaceObject.metadata.labels.env == 'prod'\"}]", want: admits},
		"a message expression is the message":                      {spec: "validations: [{expression: 'false', message: plain, messageExpression: \"'pod ' + object.metadata.name\"}]", want: &wanted{Refuses, "", "denied request: pod pod"}},
		"a message expression that fails gives way to the message": {spec: "validations: [{expression: 'false', message: plain, messageExpression: \"object.nope\"}]", want: &wanted{Refuses, "", "denied request: plain"}},
		"so does one with a line break":                            {spec: "validations: [{expression: 'false', message: plain, messageExpression: \"'a\\\\nb'\"}]", want: &wanted{Refuses, "", "denied request: plain"}},
		"variables may read earlier ones": {
			spec: "variables: [{name: a, expression: object.spec}, {name: b, expression: variables.a.containers}]\n" +
				"validations: [{expression: size(variables.b) == 1}]", want: admits,
		},
		"a variable that nothing reads may fail": {spec: "variables: [{name: a, expression: object.nope}]\n" + allow, want: admits},

		"a condition that is false lets pass":        {spec: deny + "matchConditions: [{name: c, expression: 'false'}]", want: admits},
		"a condition that is true does not":          {spec: deny + "matchConditions: [{name: c, expression: 'true'}]", want: refuses},
		"conditions see no namespace":                {spec: deny + "matchConditions: [{name: c, expression: namespaceObject != null}]", want: admits},
		"conditions see variables":                   {spec: deny + "variables: [{name: a, expression: 'false'}]\nmatchConditions: [{name: c, expression: variables.a}]", want: admits},
		"a condition that fails refuses":             {spec: allow + "matchConditions: [{name: c, expression: " + fails + "}]", want: &wanted{Refuses, "", "no such key: nope"}},
		"a condition that fails is ignored":          {spec: deny + "failurePolicy: Ignore\nmatchConditions: [{name: c, expression: " + fails + "}]", want: opens},
		"a false condition beats one that fails":     {spec: deny + "matchConditions: [{name: c, expression: " + fails + "}, {name: d, expression: 'false'}]", want: admits},
		"a validation that fails refuses":            {spec: "validations: [{expression: " + fails + "}]", want: &wanted{Refuses, "", "no such key: nope"}},
		"a validation that fails is ignored":         {spec: "failurePolicy: Ignore\nvalidations: [{expression: " + fails + "}]", want: opens},
		"an ignored failure does not stop another":   {spec: "failurePolicy: Ignore\nvalidations: [{expression: " + fails + "}, {expression: 'false'}]", want: refuses},
		"an audit annotation that fails refuses":     {spec: allow + "auditAnnotations: [{key: k, valueExpression: string(object.nope)}]", binding: "validationActions: [Audit]", want: refuses},
		"an audit annotation that fails is ignored":  {spec: "failurePolicy: Ignore\n" + allow + "auditAnnotations: [{key: k, valueExpression: string(object.nope)}]", want: admits},
		"what only warns refuses nothing":            {spec: deny, binding: "validationActions: [Warn, Audit]", want: &wanted{Admits, CauseVAPNotEnforced, ""}},
		"what only warns and holds is no fault":      {spec: allow, binding: "validationActions: [Warn]", want: admits},
		"an expression too costly refuses":           {spec: "validations: [{expression: '" + costly + "'}]", want: &wanted{Refuses, "", "cost"}},
		"an expression too costly is ignored":        {spec: "failurePolicy: Ignore\nvalidations: [{expression: '" + costly + "'}]", want: opens},
		"orValue takes what is no optional":          {spec: "validations: [{expression: \"object.metadata.labels.orValue({}).size() == 1\"}]", want: admits},
		"orValue still takes optionals":              {spec: "validations: [{expression: \"object.?nope.orValue(1) == 1 && object.metadata.?labels.orValue({}).size() == 1\"}]", want: admits},
		"quantities, addresses, expressions, sets":   {spec: "validations: [{expression: \"quantity('1Gi').isGreaterThan(quantity('1Mi')) && ip('10.0.0.1').family() == 4 && 'ab1'.find('[0-9]') == '1' && sets.contains([1,2],[1])\"}]", want: admits},
		"a configuration that fails refuses":         {spec: "matchConstraints: {resourceRules: [" + podRule + "], objectSelector: {matchExpressions: [{key: a, operator: Nonsense}]}}\n" + deny, binding: "validationActions: [Warn]", want: &wanted{Refuses, "", "failed to configure policy"}},
		"a configuration that fails is ignored":      {spec: "failurePolicy: Ignore\nmatchConstraints: {resourceRules: [" + podRule + "], objectSelector: {matchExpressions: [{key: a, operator: Nonsense}]}}\n" + deny, want: opens},
		"no constraints at all":                      {spec: "matchConstraints: null\n" + deny, want: unknown},
		"an expression that does not compile":        {spec: "validations: [{expression: 'nonsense('}]", want: &wanted{Unknown, "", "does not compile"}},
		"one that calls what is not there names it":  {spec: "validations: [{expression: \"resource.Get('v1', 'pods', 'a', 'b') == null\"}]", want: &wanted{Unknown, "", "resource.Get"}},
		"the others still refuse":                    {spec: "validations: [{expression: 'nonsense('}, {expression: 'false'}]", want: refuses},
		"and where nothing is enforced it is nought": {spec: "validations: [{expression: 'nonsense('}]", binding: "validationActions: [Audit]", want: admits},
		"a variable that does not compile":           {spec: "variables: [{name: a, expression: nope()}]\nvalidations: [{expression: variables.a == 1}]", want: &wanted{Unknown, "", "variable a calls what the API server's CEL library has not: nope"}},
		"a variable that does not matter":            {spec: "variables: [{name: a, expression: nope()}]\nvalidations: [{expression: variables.a == 1 || true}]", want: admits},
		"an expression of the wrong type":            {spec: "validations: [{expression: '1'}]", want: &wanted{Unknown, "", "must evaluate to bool"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := podSubject()
			if tt.subject != nil {
				s = tt.subject()
			}
			check(t, newVAP(t, tt.spec, tt.binding).Rule(s), tt.want)
		})
	}
}

// costly is an expression that costs more than an expression may.
const costly = "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, " +
	"[0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, a + b + c + d + e + f >= 0))))))"

// Nobody knows who will create the pod. The answer is unknown only where that
// decides.
func TestVAPIsUnknownWhereTheUnknownDecides(t *testing.T) {
	const user = "request.userInfo.username == 'admin'"
	for name, tt := range map[string]struct {
		spec, binding string
		want          *wanted
	}{
		"a validation by the user":               {spec: "validations: [{expression: " + user + "}]", want: &wanted{Unknown, "", "who will create the pod is not known"}},
		"one that holds without":                 {spec: "validations: [{expression: object.kind == 'Pod' || " + user + "}]", want: admits},
		"in the other order":                     {spec: "validations: [{expression: " + user + " || object.kind == 'Pod'}]", want: admits},
		"one that cannot hold":                   {spec: "validations: [{expression: " + user + " && object.kind != 'Pod'}]", want: refuses},
		"one that would fail for others":         {spec: "validations: [{expression: " + user + " || object.nope == 1}]", want: unknown},
		"another one refuses":                    {spec: "validations: [{expression: " + user + "}, {expression: 'false'}]", want: refuses},
		"through a variable":                     {spec: "variables: [{name: a, expression: " + user + "}]\nvalidations: [{expression: variables.a}]", want: unknown},
		"through the whole request":              {spec: "validations: [{expression: \"dyn(request).userInfo.username == 'x'\"}]", want: unknown},
		"the rest of the request is known":       {spec: "validations: [{expression: request.operation == 'CREATE'}]", want: admits},
		"by the authorizer":                      {spec: "validations: [{expression: \"authorizer.group('').resource('pods').check('create').allowed()\"}]", want: &wanted{Unknown, "", "authorizer"}},
		"by the authorizer of the request":       {spec: "validations: [{expression: \"authorizer.requestResource.check('x').allowed()\"}]", want: &wanted{Unknown, "", "authorizer"}},
		"in a list":                              {spec: "validations: [{expression: \"['a', 'b'].exists(x, x == request.userInfo.username)\"}]", want: unknown},
		"a list of which the size is known":      {spec: "validations: [{expression: \"size(request.userInfo.groups) >= 0\"}]", want: unknown},
		"in a ternary":                           {spec: "validations: [{expression: \"" + user + " ? true : false\"}]", want: unknown},
		"has":                                    {spec: "validations: [{expression: has(request.userInfo.uid)}]", want: unknown},
		"where nothing is enforced":              {spec: "validations: [{expression: " + user + "}]", binding: "validationActions: [Warn]", want: admits},
		"a message is no matter":                 {spec: "validations: [{expression: 'false', message: plain, messageExpression: \"'for ' + request.userInfo.username\"}]", want: &wanted{Refuses, "", "denied request: plain"}},
		"a condition, and a validation fails":    {spec: "matchConditions: [{name: c, expression: " + user + "}]\nvalidations: [{expression: 'false'}]", want: unknown},
		"a condition, and all validations hold":  {spec: "matchConditions: [{name: c, expression: \"!('system:nodes' in request.userInfo.groups) && " + user + "\"}]\nvalidations: [{expression: 'true'}]", want: admits},
		"a condition that might fail":            {spec: "matchConditions: [{name: c, expression: \"request.userInfo.extra['x'][0] == 'y'\"}]\nvalidations: [{expression: 'true'}]", want: unknown},
		"that might fail and would be ignored":   {spec: "failurePolicy: Ignore\nmatchConditions: [{name: c, expression: \"request.userInfo.extra['x'][0] == 'y'\"}]\nvalidations: [{expression: 'true'}]", want: admits},
		"a condition beside a false one":         {spec: "matchConditions: [{name: c, expression: " + user + "}, {name: d, expression: 'false'}]\nvalidations: [{expression: 'false'}]", want: admits},
		"a condition beside one that fails":      {spec: "matchConditions: [{name: c, expression: " + user + "}, {name: d, expression: object.nope}]\nvalidations: [{expression: 'true'}]", want: unknown},
		"beside one that fails and is ignored":   {spec: "failurePolicy: Ignore\nmatchConditions: [{name: c, expression: " + user + "}, {name: d, expression: object.nope == 1}]\nvalidations: [{expression: 'false'}]", want: opens},
		"an audit annotation with the user":      {spec: "validations: [{expression: 'true'}]\nauditAnnotations: [{key: k, valueExpression: \"'by ' + request.userInfo.username\"}]", want: admits},
		"an audit annotation that might fail":    {spec: "validations: [{expression: 'true'}]\nauditAnnotations: [{key: k, valueExpression: \"request.userInfo.extra['x'][0]\"}]", want: unknown},
		"what creation fills in":                 {spec: "validations: [{expression: object.metadata.uid == 'x'}]", want: &wanted{Unknown, "", "object.metadata.uid is filled in"}},
		"status":                                 {spec: "validations: [{expression: has(object.status.qosClass)}]", want: unknown},
		"what is filled in, where no one looks":  {spec: "validations: [{expression: object != null && has(object.metadata)}]", want: admits},
		"what is filled in, by way of metadata":  {spec: "variables: [{name: m, expression: object.metadata}]\nvalidations: [{expression: variables.m.uid == 'x'}]", want: unknown},
		"options":                                {spec: "validations: [{expression: request.options.fieldManager == 'x'}]", want: unknown},
		"the user in a condition on the message": {spec: "validations: [{expression: 'true', messageExpression: request.userInfo.username}]", want: admits},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, newVAP(t, tt.spec, tt.binding).Rule(podSubject()), tt.want)
		})
	}
}

func TestVAPParameters(t *testing.T) {
	const kind = "paramKind: {apiVersion: v1, kind: ConfigMap}\n"
	limit := func(q ParamQuery) ([]map[string]any, error) {
		if q.Kind != "ConfigMap" || q.APIVersion != "v1" || q.Namespace != "space" {
			return nil, fmt.Errorf("asked for %+v", q)
		}
		one := func(name, max string) map[string]any {
			return map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"of": name}}, "data": map[string]any{"max": max}, "list": []any{2.0, 0.5}}
		}
		all := []map[string]any{one("strict", "0"), one("loose", "9")}
		return slices.DeleteFunc(all, func(o map[string]any) bool {
			name := o["metadata"].(map[string]any)["name"]
			return q.Name != "" && q.Name != name
		}), nil
	}
	unread := func(ParamQuery) ([]map[string]any, error) { return nil, errors.New("forbidden") }
	const within = kind + "validations: [{expression: size(object.spec.containers) <= int(params.data.max)}]"
	for name, tt := range map[string]struct {
		params        Params
		spec, binding string
		want          *wanted
	}{
		"one that allows":                       {limit, within, "paramRef: {name: loose, parameterNotFoundAction: Deny}", admits},
		"one that refuses":                      {limit, within, "paramRef: {name: strict, parameterNotFoundAction: Deny}", refuses},
		"several, of which one refuses":         {limit, within, "paramRef: {selector: {}, parameterNotFoundAction: Deny}", refuses},
		"it has kind and apiVersion":            {limit, kind + "validations: [{expression: params.kind == 'ConfigMap' && params.apiVersion == 'v1'}]", "paramRef: {name: loose, parameterNotFoundAction: Deny}", admits},
		"its whole numbers are integers":        {limit, kind + "validations: [{expression: \"params.list[0] + 1 == 3 && params.list[1] + 0.5 == 1.0\"}]", "paramRef: {name: loose, parameterNotFoundAction: Deny}", admits},
		"none, which denies":                    {limit, within, "paramRef: {name: none, parameterNotFoundAction: Deny}", &wanted{Refuses, "", "no params found"}},
		"none, which denies even if it warns":   {limit, within, "validationActions: [Warn]\nparamRef: {name: none, parameterNotFoundAction: Deny}", refuses},
		"none, which denies, ignored":           {limit, "failurePolicy: Ignore\n" + within, "paramRef: {name: none, parameterNotFoundAction: Deny}", opens},
		"none, which allows":                    {limit, within, "paramRef: {name: none, parameterNotFoundAction: Allow}", admits},
		"no reference gives null":               {limit, kind + "validations: [{expression: params == null}]", "", admits},
		"not read":                              {unread, within, "paramRef: {name: strict, parameterNotFoundAction: Allow}", &wanted{Unknown, "", "forbidden"}},
		"not read, and no matter":               {unread, kind + "validations: [{expression: 'true'}]", "paramRef: {name: strict, parameterNotFoundAction: Allow}", admits},
		"not read, and may be missing":          {unread, kind + "validations: [{expression: 'true'}]", "paramRef: {name: strict, parameterNotFoundAction: Deny}", unknown},
		"not read, and refused if it is there":  {unread, kind + "validations: [{expression: 'false'}]", "paramRef: {name: strict, parameterNotFoundAction: Allow}", unknown},
		"nobody to ask":                         {nil, within, "paramRef: {name: strict, parameterNotFoundAction: Allow}", unknown},
		"a reference that is none":              {limit, within, "paramRef: {parameterNotFoundAction: Allow}", &wanted{Refuses, "", "one of name or selector"}},
		"a name and a selector":                 {limit, within, "paramRef: {name: a, selector: {}, parameterNotFoundAction: Allow}", &wanted{Refuses, "", "mutually exclusive"}},
		"a reference without a kind is ignored": {limit, "validations: [{expression: 'true'}]", "paramRef: {name: none, parameterNotFoundAction: Deny}", admits},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, newVAPAt(t, "v1.36.3", tt.params, tt.spec, tt.binding).Rule(podSubject()), tt.want)
		})
	}
}

func TestVAPBindings(t *testing.T) {
	const deny = "validations: [{expression: 'false'}]"
	t.Run("a policy without one would refuse", func(t *testing.T) {
		v := newVAP(t, deny)
		check(t, v.Rule(podSubject()), &wanted{Admits, CauseVAPUnbound, ""})
		if f := v.Faults(); len(f) != 1 || f[0].Cause != CauseVAPUnbound {
			t.Errorf("faults %+v", f)
		}
	})
	t.Run("a policy without one that would not refuse says nothing", func(t *testing.T) {
		check(t, newVAP(t, "validations: [{expression: 'true'}]").Rule(podSubject()), nil)
	})
	t.Run("bindings that were not read leave it unknown", func(t *testing.T) {
		v := newVAP(t, deny)
		v.BindingsUnread("forbidden")
		check(t, v.Rule(podSubject()), &wanted{Unknown, "", "its bindings were not read: forbidden"})
		if f := v.Faults(); len(f) > 0 {
			t.Errorf("faults %+v", f)
		}
	})
	t.Run("each that matches rules", func(t *testing.T) {
		v := newVAP(t, deny, "validationActions: [Audit]", "matchResources: {namespaceSelector: {matchLabels: {env: prod}}}", "matchResources: {namespaceSelector: {matchLabels: {env: test}}}")
		rulings := v.Rule(podSubject())
		if len(rulings) != 2 || rulings[0].Toothless == nil || rulings[1].Answer != Refuses {
			t.Errorf("rulings %+v", rulings)
		}
		if f := v.Faults(); len(f) > 0 {
			t.Errorf("faults %+v although one denies", f)
		}
	})
	t.Run("only warnings are a fault", func(t *testing.T) {
		if f := newVAP(t, deny, "validationActions: [Warn]").Faults(); len(f) != 1 || f[0].Cause != CauseVAPNotEnforced {
			t.Errorf("faults %+v", f)
		}
	})
	t.Run("a policy on other things has no faults here", func(t *testing.T) {
		v := newVAP(t, "matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}\n"+deny)
		if f := v.Faults(); len(f) > 0 {
			t.Errorf("faults %+v", f)
		}
	})
}

// What a server of a version does not know, it does not evaluate.
func TestVAPVersions(t *testing.T) {
	for name, tt := range map[string]struct {
		server, expression string
		want               *wanted
	}{
		"addresses are known since 1.30":       {"v1.30.2", "ip('10.0.0.1').family() == 4", admits},
		"addresses are not known to 1.29":      {"v1.29.0", "ip('10.0.0.1').family() == 4", &wanted{Unknown, "", "ip"}},
		"versions with a vendor's tail":        {"v1.33.5-eks-5e0fdde", "semver('1.2.3').major() == 1", admits},
		"a version that nobody knows yet":      {"v1.99.0", "semver('1.2.3').major() == 1", admits},
		"no version is the newest":             {"", "semver('1.2.3').major() == 1", admits},
		"nonsense is the newest":               {"nonsense", "semver('1.2.3').major() == 1", admits},
		"orValue is strict since 1.37":         {"v1.37.0", "object.metadata.labels.orValue({}).size() == 1", refuses},
		"orValue was not before":               {"v1.36.9", "object.metadata.labels.orValue({}).size() == 1", admits},
		"and not where the version is unknown": {"", "object.metadata.labels.orValue({}).size() == 1", admits},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, newVAPAt(t, tt.server, nil, "validations: [{expression: \""+tt.expression+"\"}]", "").Rule(podSubject()), tt.want)
		})
	}
}

func TestVAPUnreadableObjectsAreErrors(t *testing.T) {
	good := asJSON(t, vapYAML("validations: [{expression: 'true'}]"))
	bad := [][]byte{
		[]byte("{"), []byte(`{"spec": 1}`), []byte(`{"metadata":{"name":[]}}`), nil,
		[]byte(strings.Repeat("[", 100_000)), []byte(`{"metadata":{"name":"` + strings.Repeat("a", maxPolicy) + `"}}`),
	}
	vaps, errs := NewVAPs(append(bad, good), bad, nil, "v1.36.3")
	if len(vaps) != 1 || len(errs) != 2*len(bad) {
		t.Errorf("%d policies and %d errors: %v", len(vaps), len(errs), errs)
	}
}

// Hostile policies end, quickly, as unknown.
func TestVAPHostile(t *testing.T) {
	many := strings.Repeat("- expression: 'true'\n", 5000)
	for name, tt := range map[string]struct {
		spec string
		want *wanted
	}{
		"deep parentheses":     {"validations: [{expression: '" + strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000) + "'}]", unknown},
		"deep fields":          {"failurePolicy: Ignore\nvalidations: [{expression: '" + "object" + strings.Repeat(".a", 20000) + " == 1'}]", nil},
		"a long expression":    {"validations: [{expression: '" + strings.Repeat("true && ", 40000) + "true'}]", unknown},
		"thousands":            {"validations:\n" + many, unknown},
		"variables of others":  {"variables: [{name: a, expression: variables.b}, {name: b, expression: variables.a}]\nvalidations: [{expression: variables.b}]", unknown},
		"one of itself":        {"variables: [{name: a, expression: variables.a}]\nvalidations: [{expression: variables.a}]", unknown},
		"an odd variable name": {"variables: [{name: 'a.b c', expression: 'nope('}]\nvalidations: [{expression: 'true'}]", admits},
	} {
		t.Run(name, func(t *testing.T) {
			rulings := newVAP(t, tt.spec, "").Rule(podSubject())
			if tt.want != nil {
				check(t, rulings, tt.want)
			}
		})
	}
}
