package oracle

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// object is a part of a file that a test changes.
type object = map[string]any

// codeSample is a file that breaks no rule: two runs of two results.
func codeSample() object {
	rule := func(id string) object {
		text := object{"text": "what it means", "markdown": "what it means"}
		return object{
			"id": id, "name": "Name of " + id, "helpUri": "https://example.com/rules/" + id,
			"shortDescription": text, "fullDescription": text, "help": text,
			"defaultConfiguration": object{"level": "error"},
			"properties":           object{"tags": []any{"security"}, "precision": "high", "security-severity": "8.0"},
		}
	}
	run := func(category string) object {
		result := func(rule string, index int, level string) object {
			return object{
				"ruleId": rule, "ruleIndex": index, "level": level, "message": object{"text": "it is so"},
				"locations": []any{object{"physicalLocation": object{
					"artifactLocation": object{"uri": "cluster/" + category + "/shop/Deployment/checkout.yaml", "uriBaseId": "%SRCROOT%"},
					"region":           object{"startLine": 1, "startColumn": 1},
				}}},
				"partialFingerprints": object{"primaryLocationLineHash": "hash of " + rule},
			}
		}
		return object{
			"tool":              object{"driver": object{"name": "tool", "rules": []any{rule("a"), rule("b")}}},
			"automationDetails": object{"id": category + "/"},
			"invocations":       []any{object{"executionSuccessful": true}},
			"results":           []any{result("a", 0, "error"), result("b", 1, "warning")},
		}
	}
	return object{"version": "2.1.0", "runs": []any{run("one"), run("two")}}
}

// at leads into an object: names of fields, and numbers of elements.
func at(v any, path ...any) object {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(object)[step]
		case int:
			v = v.([]any)[step]
		}
	}
	return v.(object)
}

// breaks are, for each rule, changes of a file that break it.
func breaks() map[string][]func(file, run, rule, result object) {
	type change = func(file, run, rule, result object)
	place := func(result object) object { return at(result, "locations", 0, "physicalLocation") }
	uri := func(uri string) change {
		return func(_, _, _, result object) { at(place(result), "artifactLocation")["uri"] = uri }
	}
	many := func(n int, of any) []any { return slices.Repeat([]any{of}, n) }
	return map[string][]change{
		"json":    {func(file, _, _, _ object) { file["runs"] = "two" }},
		"schema":  {func(_, run, _, _ object) { delete(run, "tool") }, func(_, _, _, result object) { result["kind"] = "odd" }},
		"version": {func(file, _, _, _ object) { file["version"] = "2.0.0" }},
		"size": {func(file, _, _, _ object) {
			noise := make([]byte, 10_000_000)
			_, _ = rand.Read(noise)
			file["properties"] = object{"noise": base64.StdEncoding.EncodeToString(noise)}
		}},
		"runs": {
			func(file, _, _, _ object) { file["runs"] = []any{} },
			func(file, run, _, _ object) { file["runs"] = many(21, run) },
		},
		"null":     {func(_, _, _, result object) { result["properties"] = object{"x": nil} }},
		"harmless": {func(_, _, _, result object) { result["message"] = object{"text": "\x1b[31m"} }, func(_, _, _, result object) { result["properties"] = object{"x\u202e": "y"} }},
		"categories": {
			func(_, run, _, _ object) { delete(run, "automationDetails") },
			func(_, run, _, _ object) { run["automationDetails"] = object{"id": "noslash"} },
			func(_, run, _, _ object) { run["automationDetails"] = object{"id": "two/"} },
			func(_, run, _, _ object) { run["automationDetails"] = object{"id": "Two/night"} },
		},
		"apart":   {uri("cluster/two/shop/Deployment/checkout.yaml")},
		"results": {func(_, run, _, _ object) { delete(run, "results") }, func(_, run, _, result object) { run["results"] = many(25_001, result) }},
		"rules":   {func(_, run, rule, _ object) { at(run, "tool", "driver")["rules"] = many(25_001, rule) }},
		"driver":  {func(_, run, _, _ object) { at(run, "tool", "driver")["name"] = "" }},
		"invocation": {
			func(_, run, _, _ object) { delete(run, "invocations") },
			func(_, run, _, _ object) { run["invocations"] = []any{object{}} },
			func(_, run, _, _ object) { run["invocations"] = []any{object{"executionSuccessful": false}} },
		},
		"rule order":   {func(_, _, rule, _ object) { rule["id"] = "c" }, func(_, _, rule, _ object) { rule["id"] = "b" }},
		"result order": {func(_, _, _, result object) { result["level"] = "note" }, func(_, _, _, result object) { result["suppressions"] = []any{suppression("accepted")} }},
		"rule name": {
			func(_, _, rule, _ object) { rule["name"] = rule["id"] }, func(_, _, rule, _ object) { delete(rule, "name") },
			func(_, _, rule, _ object) { rule["name"] = strings.Repeat("n", 256) },
		},
		"rule description": {
			func(_, _, rule, _ object) { delete(rule, "fullDescription") },
			func(_, _, rule, _ object) { rule["shortDescription"] = object{"text": strings.Repeat("x", 1025)} },
		},
		"rule help":      {func(_, _, rule, _ object) { rule["help"] = object{"text": "no markdown"} }},
		"rule link":      {func(_, _, rule, _ object) { delete(rule, "helpUri") }, func(_, _, rule, _ object) { rule["helpUri"] = "docs/rules.md" }},
		"rule tags":      {func(_, _, rule, _ object) { at(rule, "properties")["tags"] = tagged(21) }, func(_, _, rule, _ object) { at(rule, "properties")["tags"] = []any{"kubernetes"} }},
		"rule severity":  {func(_, _, rule, _ object) { at(rule, "properties")["security-severity"] = "high" }, func(_, _, rule, _ object) { at(rule, "properties")["security-severity"] = "10.1" }, func(_, _, rule, _ object) { at(rule, "properties")["security-severity"] = "0.0" }},
		"rule precision": {func(_, _, rule, _ object) { at(rule, "properties")["precision"] = "exact" }},
		"rule level":     {func(_, _, rule, _ object) { rule["defaultConfiguration"] = object{} }},
		"result rule":    {func(_, _, _, result object) { result["ruleIndex"] = 1 }, func(_, _, _, result object) { result["ruleIndex"] = 7 }, func(_, _, _, result object) { delete(result, "ruleIndex") }},
		"result level":   {func(_, _, _, result object) { delete(result, "level") }},
		"message":        {func(_, _, _, result object) { result["message"] = object{"text": ""} }, func(_, _, _, result object) { result["message"] = object{"text": "[here](https://evil.example)"} }},
		"location": {
			func(_, _, _, result object) { result["locations"] = []any{} },
			func(_, _, _, result object) {
				result["locations"] = []any{object{"logicalLocations": []any{object{"name": "checkout"}}}}
			},
			func(_, _, _, result object) { delete(place(result), "region") },
			func(_, _, _, result object) { result["locations"] = many(1001, at(result, "locations", 0)) },
		},
		"uri": {uri("/etc/x.yaml"), uri("file:///x.yaml"), uri("https://example.com/x"), uri("../x.yaml"), uri(`a\b.yaml`), uri("a b.yaml"), uri("%zz")},
		"fingerprint": {
			func(_, _, _, result object) { delete(result, "partialFingerprints") },
			func(_, _, _, result object) { result["partialFingerprints"] = object{"other/v1": "x"} },
		},
		"fingerprint twice": {func(_, _, _, result object) {
			result["partialFingerprints"] = object{"primaryLocationLineHash": "hash of b"}
		}},
		"unstable": {
			uri("cluster/one/shop/Pod/checkout-7c9f8d-x2x4z.yaml"),
			func(_, _, _, result object) {
				result["partialFingerprints"] = object{"primaryLocationLineHash": "7c9f8d"}
			},
		},
		"suppression": {func(_, _, _, result object) { result["suppressions"] = []any{suppression("underReview")} }},
	}
}

func suppression(status string) object {
	return object{"kind": "external", "status": status, "justification": "known"}
}

func tagged(n int) []any {
	tags := []any{"security"}
	for i := range n - 1 {
		tags = append(tags, fmt.Sprint("tag-", i))
	}
	return tags
}

func TestCodeScanningFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	check := NewCodeScanning(t)
	check.Unstable = []string{"7c9f8d"}
	encode := func(file object) []byte {
		out, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if broken := check.Check(t, encode(codeSample())); len(broken) > 0 {
		t.Fatalf("the sample is not sound: %v", broken)
	}
	cases := breaks()
	for _, rule := range append(codeRules(), codeCheck{name: "json"}, codeCheck{name: "schema"}) {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			if len(cases[rule.name]) == 0 {
				t.Fatal("nothing breaks this rule: who knows whether it is checked")
			}
			for i, change := range cases[rule.name] {
				file := codeSample()
				run := at(file, "runs", 0)
				change(file, run, at(run, "tool", "driver", "rules", 0), at(run, "results", 0))
				broken := check.Check(t, encode(file))
				if !slices.ContainsFunc(broken, func(b Broken) bool { return b.Rule == rule.name }) {
					t.Errorf("change %d is not noticed: %v", i, broken)
				}
			}
		})
	}
	if broken := check.Check(t, []byte("{")); len(broken) != 1 || broken[0].Rule != "json" {
		t.Errorf("half a file: %v", broken)
	}
}

func TestAlertsOfAFile(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(codeSample())
	if err != nil {
		t.Fatal(err)
	}
	want := []Alert{
		{"one", "a", "cluster/one/shop/Deployment/checkout.yaml", "hash of a"}, {"one", "b", "cluster/one/shop/Deployment/checkout.yaml", "hash of b"},
		{"two", "a", "cluster/two/shop/Deployment/checkout.yaml", "hash of a"}, {"two", "b", "cluster/two/shop/Deployment/checkout.yaml", "hash of b"},
	}
	if got := Alerts(t, out); !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}
