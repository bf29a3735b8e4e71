package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What diff writes of real runs follows its schema, both ways.
func TestDiffFollowsItsSchema(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const home = "https://github.com/escape-scanner/escape-scanner/docs/"
	for _, file := range []string{"events.schema.json", "diff.schema.json"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(home+file, text); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(home + "diff.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	d := testDeps(t.TempDir())
	for file, flags := range map[string][]string{"whole.jsonl": nil, "part.jsonl": {"-n", "ci,kube-system", "--level", "restricted"}} {
		if code, _, stderr := invoke(t.Context(), d, nil, append([]string{"scan", "--demo", "--fail-on", "none", "-o", "jsonl=" + file}, flags...)...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	for _, files := range [][]string{{"whole.jsonl", "part.jsonl"}, {"part.jsonl", "whole.jsonl"}, {"part.jsonl", "part.jsonl"}} {
		code, stdout, stderr := invoke(t.Context(), d, strings.NewReader(""), append([]string{"diff", "-o", "json", "--fail-on", "none"}, files...)...)
		if code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		if err := validateOne(schema, []byte(stdout)); err != nil {
			t.Errorf("%v: %v", files, err)
		}
	}
}
