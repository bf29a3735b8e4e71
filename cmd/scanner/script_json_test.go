package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] json FILE PATH WANT")
	}
	values, err := decodeAll(ts.ReadFile(args[0]))
	ts.Check(err)
	var root any = values
	if len(values) == 1 {
		root = values[0]
	}
	got, err := jsonPath(root, args[1])
	ts.Check(err)
	want := args[2]
	if strings.HasPrefix(want, `"`) {
		want, err = strconv.Unquote(want)
		ts.Check(err)
	}
	if (got == want) == neg {
		ts.Fatalf("%s is %q, want %q (negated: %v)", args[1], got, want, neg)
	}
}

// decodeAll decodes every value of a text: one of json, many of jsonl.
func decodeAll(text string) ([]any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var values []any
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
}

// jsonPath takes a value out of another by keys and indexes with dots between
// them. A value in double quotes is one with escapes, as in Go. "len" is the length of a list; "*" all elements of a list that have what
// follows, their values parted by blanks. Strings come without quotes, what is
// not there as "absent".
func jsonPath(v any, path string) (string, error) {
	step, rest, more := strings.Cut(path, ".")
	if path == "" {
		return jsonText(v)
	}
	next := func(v any) (string, error) {
		if more {
			return jsonPath(v, rest)
		}
		return jsonText(v)
	}
	switch v := v.(type) {
	case map[string]any:
		child, ok := v[step]
		if !ok {
			return "absent", nil
		}
		return next(child)
	case []any:
		if step == "len" {
			return strconv.Itoa(len(v)), nil
		}
		if step == "*" {
			var all []string
			for _, child := range v {
				text, err := next(child)
				if err != nil {
					return "", err
				}
				if text != "absent" {
					all = append(all, text)
				}
			}
			return strings.Join(all, " "), nil
		}
		i, err := strconv.Atoi(step)
		if err != nil || i >= len(v) {
			return "absent", nil
		}
		return next(v[i])
	}
	return "absent", nil
}

func jsonText(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// schemas are what output is held against.
type schemas struct{ event, document, remediate, sarif *jsonschema.Schema }

func loadSchemas(t *testing.T) schemas {
	t.Helper()
	const events = "../../docs/events.schema.json"
	compile := func(name string) *jsonschema.Schema {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		schema, err := compiler.Compile(name)
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	return schemas{
		event:     compile(events),
		document:  compile(events + "#/$defs/document"),
		remediate: compile("../../docs/remediate.schema.json"),
		sarif:     oracle.SARIFSchema(t),
	}
}

// command is the command valid: events are jsonl or json.
func (s schemas) command(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: valid events|remediate|sarif FILE")
	}
	ts.Check(s.validate(args[0], ts.ReadFile(args[1])))
}

func (s schemas) validate(kind, text string) error {
	switch kind {
	case "sarif":
		return validateOne(s.sarif, []byte(text))
	case "remediate":
		return validateOne(s.remediate, []byte(text))
	}
	if strings.HasPrefix(text, "{\n") {
		return validateOne(s.document, []byte(text))
	}
	for line := range strings.Lines(text) {
		if err := validateOne(s.event, []byte(line)); err != nil {
			return fmt.Errorf("%s%w", line, err)
		}
	}
	return nil
}

func validateOne(schema *jsonschema.Schema, text []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}
