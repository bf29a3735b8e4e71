package config_test

import (
	"bytes"
	"errors"
	"io/fs"
	"reflect"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/escape-scanner/escape-scanner/config"
)

func TestView(t *testing.T) {
	o := options(map[string]string{"work/.escape-scanner.yaml": `level: restricted
manifests: ["a, b", "c\e[2J"]
exceptions:
- {rule: r, namespace: a, reason: "for a while \u202e", expires: 2030-01-01}
`})
	o.Environ = []string{"ESCAPE_SCANNER_FAIL_ON=low"}
	o.Flags = flags(t, "-o", "json")
	cfg, origins, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := config.View(&b, cfg, origins); err != nil {
		t.Fatal(err)
	}
	const want = `KEY                    VALUE                                                              ORIGIN
level                  restricted                                                         file work/.escape-scanner.yaml:1
pss-version            server                                                             default
fail-on                low                                                                environment ESCAPE_SCANNER_FAIL_ON
allow-incomplete       false                                                              default
output                 [json]                                                             flag --output
baseline               ""                                                                 default
manifests              ["a, b", "c\x1b[2J"]                                               file work/.escape-scanner.yaml:2
color                  auto                                                               default
page-size              500                                                                default
sarif-category         escape-scanner                                                     default
cluster-name           ""                                                                 default
s3-endpoint            ""                                                                 default
s3-region              ""                                                                 default
s3-addressing          auto                                                               default
s3-ca                  ""                                                                 default
parallel               4                                                                  default
watch-output           [text]                                                             default
rotate-size            100                                                                default
rotate-keep            5                                                                  default
kubearmor              []                                                                 default
kubearmor-tls          auto                                                               default
kubearmor-ca           ""                                                                 default
kubearmor-cert         ""                                                                 default
kubearmor-key          ""                                                                 default
kubearmor-server-name  ""                                                                 default
listen                 ""                                                                 default
reports                off                                                                default
events                 false                                                              default
webhook                ""                                                                 default
webhook-secret-file    ""                                                                 default
webhook-ca             ""                                                                 default
webhook-severity       high                                                               default
leader-elect           false                                                              default
lease-namespace        ""                                                                 default
lease-name             escape-scanner-watch                                               default
exceptions[0]          rule=r namespace=a reason="for a while \u202e" expires=2030-01-01  file work/.escape-scanner.yaml:4
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	wantVisible(t, b.String())
}

func wantVisible(t *testing.T, s string) {
	t.Helper()
	for _, r := range s {
		if r != '\n' && !strconv.IsPrint(r) {
			t.Errorf("the view holds %U:\n%q", r, s)
			return
		}
	}
}

func TestViewYAMLOfDefault(t *testing.T) {
	var b bytes.Buffer
	if err := config.ViewYAML(&b, config.Default()); err != nil {
		t.Fatal(err)
	}
	const want = `level: baseline
pss-version: server
fail-on: high
allow-incomplete: false
output:
  - table
baseline: ""
manifests: []
color: auto
page-size: 500
sarif-category: escape-scanner
cluster-name: ""
s3-endpoint: ""
s3-region: ""
s3-addressing: auto
s3-ca: ""
parallel: 4
watch-output:
  - text
rotate-size: 100
rotate-keep: 5
kubearmor: []
kubearmor-tls: auto
kubearmor-ca: ""
kubearmor-cert: ""
kubearmor-key: ""
kubearmor-server-name: ""
listen: ""
reports: "off"
events: false
webhook: ""
webhook-secret-file: ""
webhook-ca: ""
webhook-severity: high
leader-elect: false
lease-namespace: ""
lease-name: escape-scanner-watch
exceptions: []
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestViewYAMLLoadsAgain(t *testing.T) {
	for _, content := range []string{
		"",
		"level: restricted\npss-version: V1.30\nfail-on: NONE\nallow-incomplete: true\noutput: [JSON=A.json, table]\nbaseline: no\nmanifests: ['1', 'true', ' a', '*x', \"a\\tb\\nc\\u2028\", '#', 'é', '😀', \"\\u200b\"]\ncolor: never\npage-size: 1\nsarif-category: '%x: {y}'\n",
		"exceptions:\n- {rule: r, workload: Pod/a*, reason: \"two\\nlines: here\"}\n- {rule: 'on', image: '*a', container: c, reason: '-', expires: 2024-02-29}\n",
	} {
		cfg, _, err := loadFile(content)
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		wantSameAgain(t, cfg)
	}
}

// wantSameAgain checks that the YAML view of cfg loads to cfg.
func wantSameAgain(t *testing.T, cfg *config.Config) {
	t.Helper()
	var b bytes.Buffer
	if err := config.ViewYAML(&b, cfg); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, b.String())
	again, _, err := loadFile(b.String())
	if err != nil {
		t.Fatalf("the view does not load: %v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(withoutPlaces(cfg), withoutPlaces(again)) {
		t.Errorf("the view loads to something else:\n%+v\n%+v\n%s", cfg, again, b.String())
	}
}

func withoutPlaces(c *config.Config) config.Config {
	out := *c
	out.Exceptions = nil
	for _, e := range c.Exceptions {
		e.File, e.Line = "", 0
		out.Exceptions = append(out.Exceptions, e)
	}
	return out
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestViewOnBrokenWriter(t *testing.T) {
	cfg := config.Default()
	wantError(t, config.View(brokenWriter{}, cfg, config.Origins{}), "configuration", "disk full")
	wantError(t, config.ViewYAML(brokenWriter{}, cfg), "configuration", "disk full")
}

func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "level: restricted\n", "level: [", "- a", "a: &a [*a, *a]\nb: *a", "level: &l baseline\ncolor: *l",
		"output: [json, sarif=x]\nmanifests:\n- \"a\\x01b\"\n", "page-size: 0x10", "allow-incomplete: yes",
		"exceptions:\n- rule: r\n  workload: Deployment/w*\n  reason: |\n    why\n  expires: 2030-01-01\n",
		"exceptions: &e\n- &x {rule: r, namespace: n, reason: y}\n- *x\n", "? [a]\n: b", "<<: {level: x}", "!!map {}",
		"%YAML 1.2\n---\nlevel: baseline\n...\n", "# c\n\n", "level: \"\\ud800\"", "sarif-category: \"\\U0010ffff\"", "a: b: c",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := fstest.MapFS{"c.yaml": &fstest.MapFile{Data: data}}
		cfg, origins, err := config.Load(config.Options{
			File: "c.yaml",
			Open: func(name string) (fs.File, error) { return files.Open(name) },
		})
		if err != nil {
			for _, r := range err.Error() {
				if r != '\n' && !strconv.IsPrint(r) {
					t.Fatalf("the error holds %U: %q", r, err)
				}
			}
			return
		}
		if err := cfg.Validate(origins); err != nil {
			t.Fatalf("a loaded configuration is not valid: %v", err)
		}
		var b bytes.Buffer
		if err := config.View(&b, cfg, origins); err != nil {
			t.Fatal(err)
		}
		wantVisible(t, b.String())
		wantSameAgain(t, cfg)
	})
}
