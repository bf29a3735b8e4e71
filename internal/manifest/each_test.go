package manifest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// records reads a text as standard input and renders each record as a line.
func records(t testing.TB, text string) []string {
	t.Helper()
	return recordsOf(t, manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)})
}

func recordsOf(t testing.TB, in manifest.Inputs) []string {
	t.Helper()
	lines := []string{}
	err := manifest.Each(t.Context(), in,
		func(d *manifest.Document) string { return d.Workload.String() },
		func(r manifest.Record[string]) error {
			lines = append(lines, render(r))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func render(r manifest.Record[string]) string {
	switch {
	case r.Failure != nil:
		line := 0
		if r.Failure.Location != nil {
			line = r.Failure.Location.Line
		}
		return fmt.Sprintf("%d: %s: %s", line, r.Failure.Reason, r.Failure.Message)
	case r.Document != nil:
		return fmt.Sprintf("%d: %s", r.Line, r.Value)
	default:
		return fmt.Sprintf("%d: skipped: %s", r.Line, r.Skipped)
	}
}

// expect compares records with a list in which a trailing "…" stands for any rest.
func expect(t *testing.T, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		if prefix, cut := strings.CutSuffix(want[i], "…"); cut {
			ok = strings.HasPrefix(got[i], prefix)
		} else {
			ok = got[i] == want[i]
		}
	}
	if !ok {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n"

func TestDocumentsAreSplit(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want []string
	}{
		"empty":                   {"", nil},
		"blank":                   {"\n \n\t\n", nil},
		"comments only":           {"# a\n---\n# b\n--- # c\n...\n", nil},
		"null":                    {"---\nnull\n--- ~\n", nil},
		"one":                     {pod, []string{"1: -/Pod/p"}},
		"no newline at end":       {strings.TrimSpace(pod), []string{"1: -/Pod/p"}},
		"two":                     {pod + "---\n" + pod, []string{"1: -/Pod/p", "6: -/Pod/p"}},
		"comment on marker":       {"--- # first\n" + pod + "---   # second\n" + pod, []string{"2: -/Pod/p", "7: -/Pod/p"}},
		"content on marker":       {"--- {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}\n---\n" + pod, []string{"1: -/Pod/p", "3: -/Pod/p"}},
		"end markers":             {pod + "...\n# between\n" + pod + "...\n", []string{"1: -/Pod/p", "7: -/Pod/p"}},
		"directives":              {"%YAML 1.1\n---\n" + pod + "...\n%YAML 1.1\n# x\n---\n" + pod, []string{"3: -/Pod/p", "11: -/Pod/p"}},
		"windows":                 {strings.ReplaceAll("---\n"+pod+"---\n"+pod, "\n", "\r\n"), []string{"2: -/Pod/p", "7: -/Pod/p"}},
		"byte order marks":        {"\ufeff" + pod + "\ufeff---\n" + pod, []string{"1: -/Pod/p", "6: -/Pod/p"}},
		"old line ends":           {strings.ReplaceAll(pod+"---\n"+pod, "\n", "\r"), []string{"1: -/Pod/p", "6: -/Pod/p"}},
		"comment, old line ends":  {strings.ReplaceAll("# c\n"+pod, "\n", "\r"), []string{"2: -/Pod/p"}},
		"comment, rare line ends": {strings.ReplaceAll("--- # c\n"+pod+"# d\n---\n"+pod, "\n", "\u2028"), []string{"2: -/Pod/p", "8: -/Pod/p"}},
		"markers in scalars":      {"apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    ---\n    x\n  ---b: c\n", []string{"1: skipped: no pod template"}},
		"helm":                    {"---\n# Source: a/templates/x.yaml\n---\n# Source: a/templates/y.yaml\n" + pod, []string{"5: -/Pod/p"}},
		"json":                    {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[]}}`, []string{"1: -/Pod/p"}},
		"ndjson": {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[]}}` + "\n" +
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"},"spec":{"containers":[]}}`, []string{"1: -/Pod/p", "2: -/Pod/q"}},
		"json glued together": {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{}}{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"},"spec":{}} # end`,
			[]string{"1: -/Pod/p", "1: -/Pod/q"}},
		"json and yaml": {"{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"},\"spec\":{}}\n---\n" + pod + "---\n{\"a\":1}",
			[]string{"1: -/Pod/p", "4: -/Pod/p", "9: skipped: not a Kubernetes object"}},
		"flow style": {"{apiVersion: v1, kind: Pod, metadata: {name: '}'}, # }\n spec: {containers: []}}\n---\n" + pod,
			[]string{"1: -/Pod/}", "4: -/Pod/p"}},
		"a broken one": {pod + "---\na: b: c\n---\n" + pod,
			[]string{"1: -/Pod/p", "6: invalid: line 6: is not valid YAML: mapping values are not allowed in this context", "8: -/Pod/p"}},
		"broken json": {"{\"a\":1,\n\"b\" 2}\n---\n" + pod,
			[]string{"2: invalid: line 2: is not valid JSON: …", "4: -/Pod/p"}},
		"cut off json": {"{\"a\":{\n\"b\":", []string{"2: invalid: line 2: is not valid JSON: unexpected end"}},
		"scalar":       {"hello\n", []string{"1: invalid: line 1: is a single value, not a Kubernetes object"}},
		"sequence":     {"- a\n- b\n", []string{"1: invalid: line 1: is a list, not a Kubernetes object"}},
		"text behind the root": {"  a: b\nkind: Pod\n",
			[]string{"2: invalid: line 2: is not valid YAML: did not find expected <document start>"}},
	} {
		t.Run(name, func(t *testing.T) { expect(t, records(t, tc.in), tc.want) })
	}
}

func TestKinds(t *testing.T) {
	const template = "{spec: {containers: [{name: c}]}}"
	for name, tc := range map[string]struct {
		in   string
		want []string
	}{
		"generated name": {"apiVersion: v1\nkind: Pod\nmetadata: {generateName: p-, namespace: shop}\nspec: {}\n", []string{"1: shop/Pod/p-*"}},
		"pod template":   {"apiVersion: v1\nkind: PodTemplate\nmetadata: {name: x}\ntemplate: " + template, []string{"1: -/PodTemplate/x"}},
		"controller":     {"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/ReplicationController/x"}},
		"deployment":     {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/Deployment/x"}},
		"old deployment": {"apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/Deployment/x"}},
		"old daemonset":  {"apiVersion: apps/v1beta2\nkind: DaemonSet\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/DaemonSet/x"}},
		"replicaset":     {"apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/ReplicaSet/x"}},
		"statefulset":    {"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/StatefulSet/x"}},
		"job":            {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/Job/x"}},
		"cron job":       {"apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: x}\nspec: {jobTemplate: {spec: {template: " + template + "}}}", []string{"1: -/CronJob/x"}},
		"rollout":        {"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: x}\nspec: {template: " + template + "}", []string{"1: -/Rollout/x"}},
		"advanced cron":  {"apiVersion: apps.kruise.io/v1alpha1\nkind: AdvancedCronJob\nmetadata: {name: x}\nspec: {jobTemplate: {spec: {template: " + template + "}}}", []string{"1: -/AdvancedCronJob/x"}},
		"other template": {"apiVersion: example.com/v1\nkind: X\nspec: {template: {spec: {replicas: 1}}}", []string{"1: skipped: no pod template"}},
		"template in text": {"apiVersion: example.com/v1\nkind: X\nspec: {template: '{{ x }}'}", []string{
			"1: skipped: no pod template"}},
		"service": {"apiVersion: v1\nkind: Service\nspec: {}", []string{"1: skipped: no pod template"}},
		"patch":   {"apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 3}", []string{"1: skipped: no pod template"}},
		"values":  {"image: x\nspec: {}", []string{"1: skipped: not a Kubernetes object"}},
		"pod without a version": {"kind: Pod\nspec: {containers: []}", []string{
			"1: invalid: line 1: kind Pod without an apiVersion"}},
		"kind is a number": {"apiVersion: v1\nkind: 7", []string{"2: invalid: line 2: kind: want a string"}},
		"spec is text":     {"apiVersion: apps/v1\nkind: Deployment\nspec: x", []string{"3: invalid: line 3: spec.template: want a mapping"}},
	} {
		t.Run(name, func(t *testing.T) { expect(t, records(t, tc.in), tc.want) })
	}
}

func TestLists(t *testing.T) {
	item := func(name string) string {
		return "- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: " + name + "\n  spec:\n    containers: []\n"
	}
	indented := func(s string) string {
		return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
	}
	for name, tc := range map[string]struct {
		in   string
		want []string
	}{
		"of kubectl": {"apiVersion: v1\nitems:\n" + item("a") + item("b") + "kind: List\nmetadata:\n  resourceVersion: \"\"\n",
			[]string{"3: -/Pod/a", "9: -/Pod/b"}},
		"kind first": {"apiVersion: v1\nkind: List\nitems:\n" + item("a") + "# c\n\n" + item("b") + "---\n" + pod,
			[]string{"4: -/Pod/a", "12: -/Pod/b", "19: -/Pod/p"}},
		"indented": {"apiVersion: v1\nkind: List\nitems: # two\n" + indented(item("a")+item("b")) + "metadata: {}\n",
			[]string{"4: -/Pod/a", "10: -/Pod/b"}},
		"typed": {"apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n  spec: {containers: []}\n- metadata: {name: b}\n  spec: {containers: []}\n",
			[]string{"4: -/Pod/a", "6: -/Pod/b"}},
		"typed, kind last": {"apiVersion: v1\nitems:\n- metadata: {name: a}\n  spec: {containers: []}\n- metadata: {name: b}\n  spec: {containers: []}\nkind: PodList\n",
			[]string{"3: -/Pod/a", "5: -/Pod/b"}},
		"empty":         {"apiVersion: v1\nkind: List\nitems: []\n", []string{"1: skipped: no pod template"}},
		"flow style":    {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}]\n", []string{"3: -/Pod/a"}},
		"no list":       {"items:\n- a\n- b\nother: x\n", []string{"1: skipped: not a Kubernetes object"}},
		"no list too":   {"apiVersion: v1\nkind: ConfigMap\nitems:\n" + item("a"), []string{"1: skipped: no pod template"}},
		"nested":        {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n" + indented(item("a")+item("b")), []string{"7: -/Pod/a", "13: -/Pod/b"}},
		"broken item":   {"apiVersion: v1\nkind: List\nitems:\n" + item("a") + "- a: b: c\n" + item("b"), []string{"4: -/Pod/a", "10: invalid: …", "11: -/Pod/b"}},
		"broken end":    {"apiVersion: v1\nkind: List\nitems:\n" + item("a") + "kind: List\n", []string{"4: -/Pod/a", "10: invalid: line 10: key \"kind\" stands twice…"}},
		"items twice":   {"apiVersion: v1\nkind: List\nitems:\n" + item("a") + "items:\n" + item("b"), []string{"4: -/Pod/a", "10: invalid: line 10: key \"items\" stands twice…"}},
		"not an object": {"apiVersion: v1\nkind: List\nitems:\n- x\n" + item("a"), []string{"4: invalid: line 4: is a single value…", "5: -/Pod/a"}},
		"anchors between items": {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec: &s {containers: []}\n" + item("b") + "- apiVersion: v1\n  kind: Pod\n  metadata: {name: c}\n  spec: *s\n",
			[]string{"4: -/Pod/a", "8: -/Pod/b", "14: -/Pod/c"}},
		"text over two items": {"apiVersion: v1\nkind: List\nitems:\n" + item("a") + "- apiVersion: \"\n" + item("b"), []string{
			"4: -/Pod/a", "11: invalid: line 11: is not valid YAML: found unexpected end of stream", "11: -/Pod/b"}},
		"json": {`{"apiVersion":"v1","items":[` + "\n" + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}},` + "\n" +
			` {"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{}}],"kind":"List"}`, []string{"2: -/Pod/a", "3: -/Pod/b"}},
		"typed json": {`{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"items":[1]},"items":[{"metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[]}}}}]}` + "\n{}",
			[]string{"1: -/Deployment/a", "2: skipped: not a Kubernetes object"}},
		"typed json, kind last": {`{"apiVersion":"v1","items":[{"metadata":{"name":"a"},"spec":{}},{"metadata":{"name":"b"},"spec":{}}],"kind":"PodList"}`,
			[]string{"1: -/Pod/a", "1: -/Pod/b"}},
		"json with a comment": {`{"apiVersion":"v1","kind":"List","items":[` + "\n" + `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}},` + "\n# c\n" +
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{}}]}` + "\n---\n" + pod,
			[]string{"2: -/Pod/a", "3: invalid: …", "6: -/Pod/p"}},
		"sequence of objects": {item("a") + item("b"), []string{"1: -/Pod/a", "7: -/Pod/b"}},
	} {
		t.Run(name, func(t *testing.T) { expect(t, records(t, tc.in), tc.want) })
	}
}

func TestBadDocumentsFailWithTheirPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want []string
	}{
		"text for a truth value": {"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n  - name: b\n    securityContext:\n      privileged: \"yes\"\n",
			[]string{"8: invalid: line 8: spec.containers[1].securityContext.privileged: want true or false, not string"}},
		"in json": {"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\n\"spec\":{\"containers\":\n[{\"name\":1}]}}",
			[]string{"3: invalid: line 3: spec.containers[0].name: want a string, not number"}},
		"mapping for a list": {"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    name: a\n",
			[]string{"4: invalid: line 4: spec.containers: want a list, not object"}},
		"a key twice":        {"apiVersion: v1\nkind: Pod\nspec:\n  hostPID: true\n  containers: []\n  hostPID: false\n", []string{"6: invalid: line 6: key \"hostPID\" stands twice in one mapping"}},
		"a key twice, json":  {"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\n\"spec\":{\"hostPID\":true,\n\"hostPID\":false}}", []string{"3: invalid: line 3: key \"hostPID\" stands twice in one mapping"}},
		"a key twice, later": {"apiVersion: v1\nkind: Service\nspec: {a: 1, 'a': 2}\n", []string{"3: invalid: line 3: key \"a\" stands twice in one mapping"}},
		"tab":                {"a: b\nc:\n\td: e\n", []string{"3: invalid: line 3: is not valid YAML: found character that cannot start any token"}},
		"NUL":                {"a: b\nc: \x00\n---\n" + pod, []string{"2: invalid: line 2: contains a NUL byte…", "4: -/Pod/p"}},
		"UTF-8":              {"a: b\nc: \xff\n---\n" + pod, []string{"2: invalid: line 2: is not valid UTF-8", "4: -/Pod/p"}},
		"UTF-16":             {"\xff\xfea\x00", []string{"1: invalid: line 1: is UTF-16: save it as UTF-8"}},
		"UTF-32":             {"\xff\xfe\x00\x00a\x00", []string{"1: invalid: line 1: is UTF-32: save it as UTF-8"}},
		"helm template": {"apiVersion: v1\nkind: Pod\n{{- if .Values.x }}\nspec: {}\n{{- end }}\n",
			[]string{"4: invalid: line 4: is not valid YAML: could not find expected ':'; it looks like a Helm template…"}},
		"unknown anchor": {"a: *b\n", []string{"1: invalid: line 1: is not valid YAML: unknown anchor 'b' referenced"}},
		"own anchor":     {"apiVersion: v1\nkind: X\na: &a [*a]\n", []string{"3: invalid: line 3: nested deeper than…"}},
		"not a number":   {"apiVersion: v1\nkind: Pod\nspec: {hostPID: .nan}\n", []string{"3: invalid: line 3: .nan has no form in JSON"}},
		"mapping as key": {"apiVersion: v1\nkind: Pod\nspec: {hostPID: {{ .Values.pid }}}\n", []string{
			"3: invalid: line 3: a mapping or a list cannot be a key; it looks like a Helm template…"}},
	} {
		t.Run(name, func(t *testing.T) { expect(t, records(t, tc.in), tc.want) })
	}
}

func TestEmitEndsTheRun(t *testing.T) {
	stop := errors.New("enough")
	count := 0
	err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(strings.Repeat(pod+"---\n", 5000))},
		func(*manifest.Document) int { return 0 },
		func(manifest.Record[int]) error {
			if count++; count == 10 {
				return stop
			}
			return nil
		})
	if !errors.Is(err, stop) || count != 10 {
		t.Errorf("error %v after %d records", err, count)
	}
}
