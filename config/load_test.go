package config_test

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
)

// options reads from files in memory: keys are paths under the working directory
// "work" and the user's directory "home".
func options(files map[string]string) config.Options {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return config.Options{
		WorkDir:       "work",
		UserConfigDir: "home",
		Open:          func(name string) (fs.File, error) { return m.Open(name) },
	}
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(set)
	config.AddFlagsOf(set, config.KeyParallel)
	if err := set.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return set
}

// loadFile loads with content as the file in the working directory.
func loadFile(content string) (*config.Config, config.Origins, error) {
	return config.Load(options(map[string]string{"work/.escape-scanner.yaml": content}))
}

// wantError checks that err says each of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q:\n%v", p, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	cfg, origins, err := config.Load(config.Options{WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Level: "baseline", PSSVersion: "server", FailOn: "high", Output: []string{"table"},
		Manifests: []string{}, Color: "auto", PageSize: 500, Parallel: 4, SARIFCategory: "escape-scanner",
		S3: config.S3{Addressing: "auto"},
		Watch: config.Watch{
			Output: []string{"text"}, RotateSize: 100, RotateKeep: 5, KubeArmor: []string{}, KubeArmorTLS: "auto",
			Reports: "off", WebhookSeverity: "high", LeaseName: "escape-scanner-watch",
		},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	if !reflect.DeepEqual(config.Default(), want) {
		t.Errorf("Default is %+v", config.Default())
	}
	if err := cfg.Validate(config.Origins{}); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	if origins.File != "" || origins.Of(config.KeyLevel).String() != "default" {
		t.Errorf("origins are %+v", origins)
	}
}

// TestPrecedence tries every set of places for every key: the strongest wins, and
// is named.
func TestPrecedence(t *testing.T) {
	get := func(c *config.Config, key string) any {
		return map[string]any{
			"level": c.Level, "pss-version": c.PSSVersion, "fail-on": c.FailOn, "allow-incomplete": c.AllowIncomplete,
			"output": c.Output, "baseline": c.Baseline, "manifests": c.Manifests, "color": c.Color,
			"page-size": c.PageSize, "sarif-category": c.SARIFCategory, "parallel": c.Parallel,
			"cluster-name": c.ClusterName, "s3-endpoint": c.S3.Endpoint, "s3-region": c.S3.Region, "s3-addressing": c.S3.Addressing, "s3-ca": c.S3.CA,
		}[key]
	}
	type value struct {
		written string
		want    any
	}
	for _, tc := range []struct {
		key             string
		file, env, flag value
	}{
		{"level", value{"restricted", "restricted"}, value{"baseline", "baseline"}, value{"restricted", "restricted"}},
		{"pss-version", value{"latest", "latest"}, value{"v1.30", "v1.30"}, value{"v1.31", "v1.31"}},
		{"fail-on", value{"low", "low"}, value{"medium", "medium"}, value{"none", "none"}},
		{"allow-incomplete", value{"true", true}, value{"false", false}, value{"true", true}},
		{"output", value{"[json, sarif=a.sarif]", []string{"json", "sarif=a.sarif"}}, value{"jsonl,table=t", []string{"jsonl", "table=t"}}, value{"sarif,json=x", []string{"sarif", "json=x"}}},
		{"baseline", value{"file.json", "file.json"}, value{"env.json", "env.json"}, value{"flag.json", "flag.json"}},
		{"manifests", value{"[f1, f2]", []string{"f1", "f2"}}, value{"e1,e2", []string{"e1", "e2"}}, value{"g1", []string{"g1"}}},
		{"color", value{"always", "always"}, value{"never", "never"}, value{"auto", "auto"}},
		{"page-size", value{"1", 1}, value{"10000", 10000}, value{"500", 500}},
		{"sarif-category", value{"file", "file"}, value{"env", "env"}, value{"flag", "flag"}},
		{"parallel", value{"1", 1}, value{"100", 100}, value{"7", 7}},
		{"cluster-name", value{"file", "file"}, value{"env", "env"}, value{"arn:aws:eks:eu-west-1:1:cluster/flag", "arn:aws:eks:eu-west-1:1:cluster/flag"}},
		{"s3-endpoint", value{"https://file", "https://file"}, value{"http://env:9000", "http://env:9000"}, value{"https://flag/", "https://flag/"}},
		{"s3-region", value{"file", "file"}, value{"env", "env"}, value{"eu-west-1", "eu-west-1"}},
		{"s3-addressing", value{"path", "path"}, value{"host", "host"}, value{"auto", "auto"}},
		{"s3-ca", value{"file.pem", "file.pem"}, value{"env.pem", "env.pem"}, value{"", ""}},
	} {
		for set := range 8 {
			files := map[string]string{}
			want, from := get(config.Default(), tc.key), "default"
			if set&1 != 0 {
				files["work/.escape-scanner.yaml"] = "\n" + tc.key + ": " + tc.file.written + "\n"
				want, from = tc.file.want, "file work/.escape-scanner.yaml:2"
			}
			o := options(files)
			if set&2 != 0 {
				name := config.EnvPrefix + strings.ToUpper(strings.ReplaceAll(tc.key, "-", "_"))
				o.Environ = []string{"HOME=/", name + "=" + tc.env.written}
				want, from = tc.env.want, "environment "+name
			}
			o.Flags = flags(t)
			if set&4 != 0 {
				o.Flags = flags(t, "--"+tc.key+"="+tc.flag.written)
				want, from = tc.flag.want, "flag --"+tc.key
			}
			cfg, origins, err := config.Load(o)
			if err != nil {
				t.Errorf("%s %03b: %v", tc.key, set, err)
				continue
			}
			if got := get(cfg, tc.key); !reflect.DeepEqual(got, want) {
				t.Errorf("%s %03b: got %v, want %v", tc.key, set, got, want)
			}
			if got := origins.Of(tc.key).String(); got != from {
				t.Errorf("%s %03b: comes from %q, want %q", tc.key, set, got, from)
			}
			for _, other := range []string{"level", "output", "page-size"} {
				if other != tc.key && !reflect.DeepEqual(get(cfg, other), get(config.Default(), other)) {
					t.Errorf("%s %03b: %s changed as well", tc.key, set, other)
				}
			}
		}
	}
}

func TestSearch(t *testing.T) {
	const here, hereToo, home = "work/.escape-scanner.yaml", "work/.escape-scanner.yml", "home/escape-scanner/config.yaml"
	files := func(names ...string) config.Options {
		m := map[string]string{"other.yaml": "sarif-category: other.yaml"}
		for _, n := range names {
			m[n] = "sarif-category: " + n
		}
		return options(m)
	}
	with := func(o config.Options, file, env string) config.Options {
		o.File = file
		if env != "" {
			o.Environ = []string{config.EnvConfig + "=" + env}
		}
		return o
	}
	for name, tc := range map[string]struct {
		o    config.Options
		want string
	}{
		"none":                       {files(), ""},
		"working directory":          {files(here), here},
		"working directory, yml":     {files(hereToo), hereToo},
		"user":                       {files(home), home},
		"user, yml":                  {files("home/escape-scanner/config.yml"), "home/escape-scanner/config.yml"},
		"working directory first":    {files(here, home), here},
		"--config alone":             {with(files(here, home), "other.yaml", ""), "other.yaml"},
		"variable alone":             {with(files(here, home), "", "other.yaml"), "other.yaml"},
		"--config over variable":     {with(files(here, home), home, "other.yaml"), home},
		"--config ends an ambiguity": {with(files(here, hereToo), "other.yaml", ""), "other.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, origins, err := config.Load(tc.o)
			if err != nil {
				t.Fatal(err)
			}
			if origins.File != tc.want {
				t.Errorf("read %q, want %q", origins.File, tc.want)
			}
			if tc.want != "" && cfg.SARIFCategory != tc.want {
				t.Errorf("category is %q, want that of %q", cfg.SARIFCategory, tc.want)
			}
		})
	}

	_, _, err := config.Load(files(here, hereToo))
	wantError(t, err, here, hereToo, "both there")
	_, _, err = config.Load(with(files(here), "missing.yaml", ""))
	wantError(t, err, "--config", "missing.yaml", "does not exist")
	_, _, err = config.Load(with(files(here), "", "missing.yaml"))
	wantError(t, err, config.EnvConfig, "missing.yaml", "does not exist")
}

func TestFlags(t *testing.T) {
	o := options(map[string]string{"work/.escape-scanner.yaml": "baseline: old.json\nmanifests: [a]\n"})
	o.Flags = flags(t, "-o", "table", "-o", `sarif=out.sarif,"json=a,b.json"`, "--baseline", "", "--allow-incomplete", "--fail-on", "HIGH")
	cfg, origins, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Output{{Format: "table"}, {Format: "sarif", File: "out.sarif"}, {Format: "json", File: "a,b.json"}}
	if got := cfg.Outputs(); !reflect.DeepEqual(got, want) {
		t.Errorf("outputs are %+v, want %+v", got, want)
	}
	if cfg.Baseline != "" || origins.Of(config.KeyBaseline).Kind != config.OriginFlag {
		t.Errorf("--baseline '' leaves %q from %s", cfg.Baseline, origins.Of(config.KeyBaseline))
	}
	if !cfg.AllowIncomplete || cfg.FailOn != "high" || len(cfg.Manifests) != 1 {
		t.Errorf("got %+v", cfg)
	}
}

// A command may use the name of a key for a flag of its own.
func TestForeignFlagIsLeftAlone(t *testing.T) {
	set := pflag.NewFlagSet("view", pflag.ContinueOnError)
	set.StringP("output", "o", "text", "text or yaml")
	config.AddFlags(set, config.KeyOutput)
	if err := set.Parse([]string{"-o", "yaml", "--level=restricted"}); err != nil {
		t.Fatal(err)
	}
	o := options(nil)
	o.Flags = set
	cfg, origins, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg.Output, []string{"table"}) || origins.Of(config.KeyOutput).Kind != config.OriginDefault {
		t.Errorf("output is %q from %s", cfg.Output, origins.Of(config.KeyOutput))
	}
	if cfg.Level != "restricted" {
		t.Errorf("level is %q", cfg.Level)
	}
}

func TestBadValues(t *testing.T) {
	for _, tc := range []struct {
		flag string
		want []string
	}{
		{"--level=restrict", []string{"level: want", "baseline, restricted", `"restrict"`, "flag --level", `did you mean "restricted"?`}},
		{"--pss-version=1.30", []string{"pss-version: want server, latest or v1.N", `did you mean "v1.30"?`}},
		{"--pss-version=v1.30.2", []string{`did you mean "v1.30"?`}},
		{"--pss-version=v1.01", []string{"pss-version: want"}},
		{"--pss-version=", []string{"pss-version: want"}},
		{"--fail-on=hihg", []string{"fail-on: want", `did you mean "high"?`}},
		{"--color=yes", []string{"color: want one of auto, always, never"}},
		{"--page-size=0", []string{"page-size: want a number from 1 to 10000", `"0"`, "flag --page-size"}},
		{"--page-size=10001", []string{"page-size: want"}},
		{"--parallel=0", []string{"parallel: want a number from 1 to 100", `"0"`, "flag --parallel"}},
		{"--parallel=101", []string{"parallel: want"}},
		{"--sarif-category=", []string{"sarif-category: want"}},
		{"--sarif-category=a/", []string{"sarif-category: want"}},
		{"--sarif-category=a\x1b[2J", []string{"sarif-category: want", `a\x1b[2J`}},
		{"--output=sarif=s3://bucket/{day}/a", []string{"output: want", "no braces in KEY but {cluster}, {date} and {time}"}},
		{"--output=sarif=s3://Bucket/a", []string{"output: want FORMAT=s3://BUCKET/KEY", "3 to 63"}},
		{"--output=sarif=s3://bucket", []string{"output: want", "a KEY"}},
		{"--output=sarif=s3://bucket/a/", []string{"output: want", "a KEY"}},
		{"--output=sarif=s3://bucket/a/../b", []string{"no empty part"}},
		{"--output=sarif=s3://bucket/\x1b[2J", []string{"visible characters", `\x1b[2J`}},
		{"--output=sarif=S3://bucket/a,json=S3://bucket/a", []string{"sarif and json both go to"}},
		{"--s3-endpoint=minio:9000", []string{"s3-endpoint: want a URL of https or http", "flag --s3-endpoint"}},
		{"--s3-endpoint=https://minio/bucket", []string{"s3-endpoint: want a URL", "no path"}},
		{"--s3-region=a b", []string{"s3-region: want"}},
		{"--s3-addressing=hots", []string{"s3-addressing: want one of auto, path, host", `did you mean "host"?`}},
		{"--cluster-name=a b", []string{"cluster-name: want"}},
		{"--manifests=a\x00b", []string{"manifests: want a path"}},
		{"--baseline=\xff", []string{"baseline: want a path in UTF-8"}},
		{"--output=", []string{"output: want at least one"}},
		{"--output=tabel", []string{"output: want FORMAT or FORMAT=FILE", `did you mean "table"?`}},
		{"--output=json=", []string{"output: want a path"}},
		{"--output=table,json", []string{"table and json both go to standard output", "json=FILE"}},
		{"--output=table,json=-", []string{"both go to standard output"}},
		{"--output=json=a,jsonl=a", []string{`json and jsonl both go to "a"`}},
	} {
		o := options(nil)
		o.Flags = flags(t, tc.flag)
		_, _, err := config.Load(o)
		wantError(t, err, tc.want...)
		if err != nil && (strings.ContainsAny(err.Error(), "\x1b\x00") || !utf8.ValidString(err.Error())) {
			t.Errorf("%q: the message holds control characters: %q", tc.flag, err)
		}
	}
}

func TestEveryBadValueIsNamed(t *testing.T) {
	o := options(map[string]string{"work/.escape-scanner.yaml": "level: top\n"})
	o.Environ = []string{"ESCAPE_SCANNER_FAIL_ON=bad"}
	o.Flags = flags(t, "--color=red")
	_, _, err := config.Load(o)
	wantError(t, err, "(file work/.escape-scanner.yaml:1)", "(environment ESCAPE_SCANNER_FAIL_ON)", "(flag --color)")
	if n := len(strings.Split(err.Error(), "\n")); n != 3 {
		t.Errorf("%d lines, want 3:\n%v", n, err)
	}
}
