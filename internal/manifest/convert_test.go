package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	yamlv2 "go.yaml.in/yaml/v2"
	sigsyaml "sigs.k8s.io/yaml"
)

// yamlToJSON is what Each makes of a text that is one document.
func yamlToJSON(text []byte) ([]byte, error) {
	trees, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	if len(trees) != 1 {
		return nil, errors.New("not one document")
	}
	var c converter
	err = c.node(trees[0].val)
	return c.buf, err
}

// sameJSON compares two texts of JSON, with numbers to the last digit.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	return reflect.DeepEqual(decodeAny(t, a), decodeAny(t, b))
}

func decodeAny(t testing.TB, text []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}

// scalars are values whose meaning in YAML 1.1 is easily missed.
func scalars() []string {
	return []string{
		"yes", "Yes", "YES", "yEs", "y", "Y", "no", "n", "N", "on", "On", "oN", "off", "OFF", "true", "True", "tRue", "false",
		"~", "null", "Null", "NULL", "nULL", "''", `""`, "'yes'", `"0777"`, "|\n  yes", ">-\n  12",
		"0", "-0", "+1", "1", "0777", "0o777", "0x1F", "0X1f", "-0x1f", "0b101", "-0b101", "0b", "08", "09.5", "1_000", "0x_1f", "_1", "1__0", "1_",
		"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775809",
		"1.0", "1.", ".5", "-.5", "+.5", "1e3", "1E3", "1e+3", "1.5e-3", ".e3", "1e400", "12e03", "0.1", "1e21", "1e-7", "685_230.15", "190:20:30", ".inf", "-.Inf", ".nan", ".5_0",
		"2001-01-01", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "12:30", "1.2.3", "1.2.3.4", "-", "--", "+", "-x", ".", "..", ".x", "=", "<<",
		"a b", "a: b", "[yes, 'no', 0777]", "{yes: no}", "{1: a, 1.5: b, true: c}", "{~: a}", "{1e20: x}", "{0x10: x}",
		"!!str 12", "!!str yes", "!!int '12'", "!!int x", "!!float 12", "!!bool 'yes'", "!!null ''", "!!binary aGVsbG8=", "!!binary x", "!!timestamp 2001-01-01", "!foo bar", "!foo [1]", "! yes", "! 'yes'", "! \"12\"", "!!set {a, b}", "!!omap [a: 1]",
		"&a yes", "{a: &a 1, b: *a}", "{<<: {a: 1, b: 2}, a: 3}", "{a: 3, <<: {a: 1, b: 2}}", "{<<: [{a: 1}, {a: 2, b: 2}]}", "{<<: x}", "{'<<': {a: 1}}", "{x: &x {a: {b: 1}}, y: {<<: *x, a: {c: 2}}}",
		"\"\\u00e9\\n\\t\\x01\"", "\u2028", "\"a\u2028b\"", "é", "\U0001F600", "\"<>&\"", "!!str", "-.", "+.inf", "1e", "0e0", "00", "-00", "0.0", "-0.0", "1__2.3",
	}
}

func TestScalarsMeanWhatKubectlTakesThemFor(t *testing.T) {
	for _, s := range scalars() {
		for _, text := range []string{"a: " + s + "\n", "- " + s + "\n", s + ": a\n"} {
			checkSame(t, []byte(text), true)
		}
	}
}

// checkSame checks that both we and sigs.k8s.io/yaml read the same from a text that
// both accept; and, if strict, that we accept what it does, up to what we refuse
// on purpose.
func checkSame(t testing.TB, text []byte, strict bool) {
	t.Helper()
	ours, err := yamlToJSON(text)
	theirs, terr := sigsyaml.YAMLToJSON(text)
	if terr == nil && err != nil && strict && string(theirs) != "null" && sigsStrict(text) {
		t.Errorf("%q: only we refuse it: %v", text, err)
	}
	if err != nil || terr != nil {
		return
	}
	if !sameJSON(t, ours, theirs) {
		t.Errorf("%q\nours   %s\ntheirs %s", text, ours, theirs)
	}
}

// sigsStrict tells whether the text has no key twice.
func sigsStrict(text []byte) bool {
	_, err := sigsyaml.YAMLToJSONStrict(text)
	return err == nil
}

func TestCorpusReadsAsKubectlReadsIt(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}",
		"k8s.io/pod-security-admission", "k8s.io/api", "sigs.k8s.io/yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for dir := range strings.FieldsSeq(string(out)) {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !isManifestName(path) {
				return err
			}
			// One file in ten is plenty, and the set is the same on each run.
			if files++; files%10 != 0 {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			checkSame(t, text, true)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 1000 {
		t.Errorf("only %d files", files)
	}
}

func FuzzYAMLToJSON(f *testing.F) {
	for _, s := range scalars() {
		f.Add([]byte("a: " + s + "\nb:\n- " + s + "\n"))
	}
	for _, s := range []string{
		"a:\n- b\n -c\n", "a: |\n x\n  y\n\nb: >\n x\n y\n\n\n z\n", "? a\n: b\n? [c]\n: d\n", "a: \"x\n  y\\\n  z\"\n", "a: 'it''s'\n",
		"%YAML 1.1\n---\na: b\n...\n", "%TAG ! tag:yaml.org,2002:\n---\na: !int '3'\n", "- - - a\n    - b\n", "[a, [b, {c: d}], ]\n", "{a, b: , c: d}\n", "{? a : b}\n",
		"a: b # c\n# d\ne: f\n", "a:\n  # c\n  - b\n  # d\n", "\"a\": 'b'\n", "a: &x [1, *x]\n", "a:    \n  b\n c: d\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parse(text); err != nil {
			return
		}
		if !utf8Only(text) || twoDocuments(text) {
			return
		}
		checkSame(t, text, false)
	})
}

// utf8Only leaves out what the libraries may take for UTF-16.
func utf8Only(text []byte) bool {
	return !bytes.HasPrefix(text, []byte{0xFE, 0xFF}) && !bytes.HasPrefix(text, []byte{0xFF, 0xFE})
}

// twoDocuments tells whether kubectl would ignore a part of the text.
func twoDocuments(text []byte) bool {
	dec := yamlv2.NewDecoder(bytes.NewReader(text))
	var v any
	if err := dec.Decode(&v); err != nil {
		return false
	}
	return dec.Decode(&v) == nil
}
