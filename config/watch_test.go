package config_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
)

func watchFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(set, config.KeyOutput)
	config.AddWatchFlags(set)
	if err := set.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return set
}

// What -o means for a watch is not what it means for a scan.
func TestWatchOutputIsItsOwn(t *testing.T) {
	t.Parallel()
	o := options(map[string]string{"work/.escape-scanner.yaml": "output: [sarif=a.sarif]\nwatch-output: [text]\nreports: Auto\n"})
	o.Flags = watchFlags(t, "-o", "JSONL=b.jsonl", "--kubearmor", "relay:32767,10.0.0.1:32767")
	o.Environ = []string{"ESCAPE_SCANNER_LISTEN=:8080"}
	cfg, origins, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Output, []string{"sarif=a.sarif"}) {
		t.Errorf("output is %q", cfg.Output)
	}
	w := cfg.Watch
	if !slices.Equal(w.Outputs(), []config.Output{{Format: "jsonl", File: "b.jsonl"}}) {
		t.Errorf("the watch's output is %+v", w.Outputs())
	}
	if w.Reports != "auto" || w.Listen != ":8080" || len(w.KubeArmor) != 2 {
		t.Errorf("have %+v", w)
	}
	if from := origins.Of(config.KeyWatchOutput).String(); from != "flag --output" {
		t.Errorf("watch-output is from %s", from)
	}
}

func TestValidateWatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"-o", "table"}, []string{"watch-output: want FORMAT", "text, jsonl", "flag --output"}},
		{[]string{"-o", "text,jsonl"}, []string{"both go to standard output"}},
		{[]string{"--rotate-size=0"}, []string{"rotate-size: want a number"}},
		{[]string{"--rotate-keep=-1"}, []string{"rotate-keep: want a number"}},
		{[]string{"--kubearmor=relay"}, []string{"kubearmor: want HOST:PORT", `"relay"`}},
		{[]string{"--kubearmor=:32767"}, []string{"kubearmor: want HOST:PORT"}},
		{[]string{"--kubearmor=relay:0"}, []string{"kubearmor: want HOST:PORT"}},
		{[]string{"--kubearmor=relay:70000"}, []string{"kubearmor: want HOST:PORT"}},
		{[]string{"--kubearmor-tls=yes"}, []string{"kubearmor-tls: want one of auto, on, off"}},
		{[]string{"--kubearmor-tls=off", "--kubearmor-ca=ca.pem"}, []string{"kubearmor-ca and kubearmor-tls=off"}},
		{[]string{"--kubearmor-cert=a.pem"}, []string{"kubearmor-cert and kubearmor-key: one does not go without the other"}},
		{[]string{"--listen=8080"}, []string{"listen: want HOST:PORT or :PORT"}},
		{[]string{"--reports=both"}, []string{"reports: want one of off, auto, openreports, policyreport"}},
		{[]string{"--webhook=ftp://a/b"}, []string{"webhook: want a URL of http or https"}},
		{[]string{"--webhook-secret-file=key"}, []string{"webhook-secret-file without webhook"}},
		{[]string{"--webhook-severity=loud"}, []string{"webhook-severity: want one of"}},
		{[]string{"--lease-namespace=A_b"}, []string{"lease-namespace: want the name of a namespace"}},
		{[]string{"--lease-name="}, []string{"lease-name: want the name of a Lease", `have ""`, "flag --lease-name"}},
		{[]string{"--lease-name=Watch"}, []string{"lease-name: want the name of a Lease"}},
		{[]string{"--lease-name=a/b"}, []string{"lease-name: want the name of a Lease"}},
		{[]string{"--lease-name=a..b"}, []string{"lease-name: want the name of a Lease"}},
		{[]string{"--lease-name=a.-b"}, []string{"lease-name: want the name of a Lease"}},
		{[]string{"--lease-name=watch\n"}, []string{"lease-name: want the name of a Lease"}},
		{[]string{"--lease-name=" + strings.Repeat("a", 254)}, []string{"lease-name: want the name of a Lease"}},
	} {
		o := options(nil)
		o.Flags = watchFlags(t, test.args...)
		_, _, err := config.Load(o)
		wantError(t, err, test.parts...)
	}
}

// A Lease has its name from the flag before the variable before the file.
func TestLeaseName(t *testing.T) {
	t.Parallel()
	file := map[string]string{"work/.escape-scanner.yaml": "lease-name: file\n"}
	for _, test := range []struct {
		file          map[string]string
		environ, args []string
		want          string
	}{
		{nil, nil, nil, "escape-scanner-watch"},
		{file, nil, nil, "file"},
		{file, []string{"ESCAPE_SCANNER_LEASE_NAME=team-a.watch"}, nil, "team-a.watch"},
		{file, []string{"ESCAPE_SCANNER_LEASE_NAME=variable"}, []string{"--lease-name=" + strings.Repeat("a", 253)}, strings.Repeat("a", 253)},
	} {
		o := options(test.file)
		o.Environ, o.Flags = test.environ, watchFlags(t, test.args...)
		cfg, _, err := config.Load(o)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Watch.LeaseName != test.want {
			t.Errorf("the Lease is %q, want %q", cfg.Watch.LeaseName, test.want)
		}
	}
}

// A URL may hold a secret: an error does not repeat it.
func TestWebhookURLIsNotRepeated(t *testing.T) {
	t.Parallel()
	o := options(nil)
	o.Flags = watchFlags(t, "--webhook=https//user:hunter2@host/hook")
	_, _, err := config.Load(o)
	wantError(t, err, "webhook: want a URL")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error repeats it: %v", err)
	}
}

func TestWebhookURLIsNotShown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, table, yaml string }{
		{"https://user:hunter2@host:8443/services/T0/hunter2?token=hunter2", "https://host:8443/…", "# webhook: \"https://host:8443/…\""},
		{"https://host/hunter2", "https://host/…", "# webhook: \"https://host/…\""},
		{"https://host?hunter2", "https://host/…", "# webhook: \"https://host/…\""},
		{"https://host:8443/", "https://host:8443/ ", "\nwebhook: \"https://host:8443/\"\n"},
		{"http://[::1]:80", "http://[::1]:80 ", "\nwebhook: "},
	} {
		o := options(nil)
		o.Flags = watchFlags(t, "--webhook="+test.url)
		cfg, origins, err := config.Load(o)
		if err != nil {
			t.Fatal(err)
		}
		var table, yaml bytes.Buffer
		if err := errors.Join(config.View(&table, cfg, origins), config.ViewYAML(&yaml, cfg)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(table.String(), test.table) || !strings.Contains(yaml.String(), test.yaml) {
			t.Errorf("%s is shown as\n%s\n%s", test.url, &table, &yaml)
		}
		if strings.Contains(table.String()+yaml.String(), "hunter2") {
			t.Errorf("the secret of %s is shown", test.url)
		}
	}
}
