package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/config"
)

func TestFileErrors(t *testing.T) {
	const f = "work/.escape-scanner.yaml"
	for _, tc := range []struct {
		name, content string
		want          []string
	}{
		{"typo", "color: auto\n\nlevle: baseline\n", []string{f + `:3: unknown key "levle", did you mean "level"?`}},
		{"camel case", "failOn: high", []string{`did you mean "fail-on"?`}},
		{"underscore", "page_size: 3", []string{`did you mean "page-size"?`}},
		{"capital", "Level: baseline", []string{`unknown key "Level", did you mean "level"?`}},
		{"half a name", "except: []", []string{`did you mean "exceptions"?`}},
		{"singular", "manifest: [a]", []string{`did you mean "manifests"?`}},
		{"far away", "namespace: web", []string{`unknown key "namespace"; known are level, pss-version,`}},
		{"merge key", "<<: {level: baseline}", []string{`unknown key "<<"`}},
		{"twice", "level: baseline\ncolor: auto\nlevel: restricted\n", []string{f + `:3: key "level" is there twice, first in line 1`}},
		{"key is a list", "[a]: b", []string{f + ":1: want a key, have a list"}},
		{"string for number", "level: baseline\npage-size: many", []string{f + `:2: page-size: want a whole number, have the string "many"`}},
		{"quoted number", `page-size: "5"`, []string{"page-size: want a whole number"}},
		{"fraction", "page-size: 5.5", []string{"page-size: want a whole number"}},
		{"huge number", "page-size: 99999999999999999999999", []string{"page-size: want a whole number"}},
		{"number for string", "pss-version: 1.30", []string{f + ":1: pss-version: want a string, have a number"}},
		{"bool for string", "level: true", []string{"level: want a string, have true or false"}},
		{"list for string", "level: [baseline]", []string{"level: want a string, have a list"}},
		{"mapping for bool", "allow-incomplete: {a: b}", []string{"allow-incomplete: want true or false, have a mapping"}},
		{"word for bool", `allow-incomplete: "true"`, []string{`want true or false, have the string "true"`}},
		{"false tag", "allow-incomplete: !!bool maybe", []string{"allow-incomplete: want true or false"}},
		{"own tag", "level: !x baseline", []string{`level: want a string, have "!x baseline"`}},
		{"binary", "level: !!binary aGk=", []string{"level: want a string"}},
		{"string for list", "output: json", []string{f + `:1: output: want a list of strings, have the string "json"`}},
		{"list of lists", "output:\n- table\n- [json]", []string{f + ":3: output[1]: want a string, have a list"}},
		{"list is no mapping", "- level", []string{f + ":1: want a mapping (key: value), have a list"}},
		{"scalar is no mapping", "\nlevel", []string{f + `:2: want a mapping (key: value), have the string "level"`}},
		{"two documents", "level: baseline\n---\ncolor: auto", []string{f + ":2: a second document", "want one"}},
		{"broken", "level: [", []string{f + ": is not valid YAML"}},
		{"broken second document", "level: baseline\n---\n[", []string{f + ": is not valid YAML"}},
		{"tab", "level:\n\t- x", []string{"is not valid YAML"}},
		{"unknown alias", "level: *x", []string{"is not valid YAML"}},
		{"UTF-8", "level: baseline\n# \xc3\x28", []string{f + ":2: is not valid UTF-8"}},
		{"UTF-16", "\xff\xfel\x00", []string{f + ":1: is not valid UTF-8"}},
		{"NUL", "level: \x00", []string{"is not valid YAML"}},
		{"too large", "# " + strings.Repeat("x", 1<<20), []string{f, "larger than 1 MiB"}},
		{"bad value", "\ncolor: pink", []string{"color: want one of", "(file " + f + ":2)"}},
		{"alias that holds itself", "exceptions: &a [*a]", []string{"exceptions[0]: want a mapping"}},
		{"deep", strings.Repeat("[", 100000), []string{"is not valid YAML"}},
		{"control characters", `"\e[2J": 1`, []string{`unknown key "\x1b[2J"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := loadFile(tc.content)
			wantError(t, err, tc.want...)
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\x00") || !utf8.ValidString(err.Error())) {
				t.Errorf("the message holds control characters: %q", err)
			}
		})
	}
}

func TestFilesWithNothing(t *testing.T) {
	for _, content := range []string{
		"", "\n\n", "# only a comment\n", "---\n", "null", "~", "{}", "---\n...\n", "\ufeff",
		"level:\nexceptions:\nmanifests: []\n", "exceptions: []",
	} {
		cfg, origins, err := loadFile(content)
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		if !reflect.DeepEqual(cfg, config.Default()) {
			t.Errorf("%q: got %+v", content, cfg)
		}
		if origins.File == "" || origins.Of(config.KeyLevel).Kind != config.OriginDefault {
			t.Errorf("%q: origins are %+v", content, origins)
		}
	}
}

func TestLargestFile(t *testing.T) {
	content := "level: restricted\n#"
	content += strings.Repeat("x", 1<<20-len(content))
	if cfg, _, err := loadFile(content); err != nil || cfg.Level != "restricted" {
		t.Errorf("1 MiB: %+v, %v", cfg, err)
	}
}

func TestAliases(t *testing.T) {
	cfg, _, err := loadFile("sarif-category: &c web\nmanifests: &m [*c, b]\noutput: [json]\nexceptions:\n- {rule: r, namespace: *c, reason: &r why}\n- {rule: s, namespace: *c, reason: *r}\n")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg.Manifests, []string{"web", "b"}) || cfg.Exceptions[1].Reason != "why" || cfg.Exceptions[1].Namespace != "web" {
		t.Errorf("got %+v", cfg)
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "unknown%d: x\n", i)
	}
	_, _, err := loadFile(b.String())
	wantError(t, err, "unknown0", "and 4980 more")
	if n := len(strings.Split(err.Error(), "\n")); n != 21 {
		t.Errorf("%d lines", n)
	}
}

// The real file system: directories, links and files that may not be read.
func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	_, _, err := config.Load(config.Options{File: dir})
	wantError(t, err, "--config", "is a directory, want a file")

	place := filepath.Join(dir, ".escape-scanner.yaml")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err = config.Load(config.Options{WorkDir: dir})
	wantError(t, err, place, "is a directory, want a file")
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(place, place); err != nil {
		t.Fatal(err)
	}
	_, _, err = config.Load(config.Options{WorkDir: dir})
	wantError(t, err, place)
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(place, []byte("level: restricted"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, origins, err := config.Load(config.Options{WorkDir: dir, UserConfigDir: filepath.Join(dir, "none")})
	if err != nil || cfg.Level != "restricted" || origins.File != place {
		t.Errorf("got %+v, %+v, %v", cfg, origins, err)
	}

	if err := os.Chmod(place, 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(place); err == nil {
		_ = f.Close()
		t.Log("this user may read everything: the check for a forbidden file is left out")
		return
	}
	_, _, err = config.Load(config.Options{WorkDir: dir})
	wantError(t, err, place, "permission denied")
}
