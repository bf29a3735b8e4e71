package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
)

func TestExceptions(t *testing.T) {
	cfg, origins, err := loadFile(`
level: baseline
exceptions:
  - rule: hostPathVolumes
    namespace: kube-system
    workload: DaemonSet/node-*
    container: agent
    image: registry.example/*@sha256:*
    reason: |
      reads the host's logs
    expires: 2030-02-28
  # the second
  - {rule: privileged, workload: web, reason: "legacy", expires: "2031-01-01"}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Exception{
		{
			Rule: "hostPathVolumes", Namespace: "kube-system", Workload: "DaemonSet/node-*", Container: "agent",
			Image: "registry.example/*@sha256:*", Reason: "reads the host's logs",
			Expires: time.Date(2030, 2, 28, 0, 0, 0, 0, time.UTC), File: "work/.escape-scanner.yaml", Line: 4,
		},
		{
			Rule: "privileged", Workload: "web", Reason: "legacy",
			Expires: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), File: "work/.escape-scanner.yaml", Line: 13,
		},
	}
	if !reflect.DeepEqual(cfg.Exceptions, want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Exceptions, want)
	}
	if got := origins.Of(config.KeyExceptions).String(); got != "file work/.escape-scanner.yaml:3" {
		t.Errorf("exceptions come from %q", got)
	}
	if got := cfg.Exceptions[1].Place(); got != "work/.escape-scanner.yaml:13" {
		t.Errorf("the place is %q", got)
	}

	err = cfg.CheckRules([]string{"hostPathVolumes", "privilege-escalation", "privileged-container"})
	wantError(t, err, `work/.escape-scanner.yaml:13: exceptions[1].rule: no rule has the ID "privileged", did you mean "privileged-container"?`)
	if err := cfg.CheckRules([]string{"hostPathVolumes", "privileged"}); err != nil {
		t.Error(err)
	}
}

func TestExceptionErrors(t *testing.T) {
	for _, tc := range []struct {
		exception string
		want      []string
	}{
		{"{rule: r, namespace: a}", []string{":2: exceptions[0].reason: is missing"}},
		{"{namespace: a, reason: why}", []string{":2: exceptions[0].rule: is missing"}},
		{"{rule: r, reason: why}", []string{":2: exceptions[0]: is too wide: give at least one of namespace, workload, image"}},
		{"{rule: r, container: c, reason: why}", []string{"is too wide"}},
		{"{rule: r, cluster: prod, reason: why}", []string{"is too wide"}},
		{"{rule: r, namespace: a, cluster: '*', reason: why}", []string{`exceptions[0].cluster: "*" means any`}},
		{"{rule: r, namespace: a, cluster: \"prod\\e\", reason: why}", []string{"exceptions[0].cluster: want the name of a context"}},
		{"{rule: 'host*', namespace: a, reason: why}", []string{"exceptions[0].rule: want the ID of one rule without *"}},
		{"{rule: 'a b', namespace: a, reason: why}", []string{"exceptions[0].rule: want the ID of a rule"}},
		{"{rule: r, namespace: '*', reason: why}", []string{`exceptions[0].namespace: "*" means any: leave the key out, or be precise`}},
		{"{rule: r, namespace: '**', reason: why}", []string{"means any"}},
		{"{rule: r, namespace: a, workload: '*/*', reason: why}", []string{`exceptions[0].workload: "*/*" means any`}},
		{"{rule: r, namespace: a, container: '*', reason: why}", []string{"exceptions[0].container", "means any"}},
		{"{rule: r, image: '*:*', reason: why}", []string{"exceptions[0].image", "means any"}},
		{"{rule: r, namespace: Web, reason: why}", []string{`exceptions[0].namespace: want the name of a namespace`}},
		{"{rule: r, workload: ns/Deployment/web, reason: why}", []string{"exceptions[0].workload: want NAME or KIND/NAME", "the namespace under its own key"}},
		{"{rule: r, workload: Deployment/, reason: why}", []string{"exceptions[0].workload: want NAME or KIND/NAME"}},
		{"{rule: r, workload: Web, reason: why}", []string{"exceptions[0].workload: want"}},
		{"{rule: r, image: 'a b', reason: why}", []string{"exceptions[0].image: want an image"}},
		{"{rule: r, namespace: a, reason: why, expires: tomorrow}", []string{"exceptions[0].expires: want a date YYYY-MM-DD"}},
		{"{rule: r, namespace: a, reason: why, expires: 2030-02-30}", []string{"exceptions[0].expires: want a date"}},
		{"{rule: r, namespace: a, reason: why, expires: 2030-1-2}", []string{"exceptions[0].expires: want a date"}},
		{"{rule: r, namespace: a, reason: why, expires: 2030-01-02T00:00:00Z}", []string{"exceptions[0].expires: want a date"}},
		{"{rule: r, namespace: a, reason: why, expires: 20300102}", []string{"exceptions[0].expires: want a date"}},
		{"{rule: r, namespace: a, reason: why, expires: 0001-01-01}", []string{"exceptions[0].expires: want a date"}},
		{"{rule: r, namespace: a, reason: why, expires: }", []string{"exceptions[0].expires: want a date YYYY-MM-DD, have nothing"}},
		{"{rule: r, namespace: , workload: w, reason: why}", []string{"exceptions[0].namespace: want a string, have nothing"}},
		{"{rule: r, namespace: '', workload: w, reason: why}", []string{"exceptions[0].namespace: want a string"}},
		{"{rule: r, namespace: 7, reason: why}", []string{"exceptions[0].namespace: want a string, have a number"}},
		{"{rule: r, namespace: [a], reason: why}", []string{"exceptions[0].namespace: want a string, have a list"}},
		{"{rule: r, namespace: a, reason: '  '}", []string{"exceptions[0].reason: want a string"}},
		{"{rule: r, namespace: a, namespace: b, reason: why}", []string{`key "namespace" is there twice`}},
		{"{rule: r, namespcae: a, reason: why}", []string{`:2: unknown key "namespcae", did you mean "namespace"?`}},
		{"{rule: r, expiry: 2030-01-01, reason: why, namespace: a}", []string{`unknown key "expiry", did you mean "expires"?`}},
		{"{rule: r, severity: low, reason: why, namespace: a}", []string{`unknown key "severity"; known are rule, cluster, namespace, workload, container, image, reason, expires`}},
		{"text", []string{`:2: exceptions[0]: want a mapping (rule: …), have the string "text"`}},
		{"", []string{"exceptions[0]: want a mapping (rule: …), have nothing"}},
	} {
		_, _, err := loadFile("exceptions:\n- " + tc.exception)
		wantError(t, err, tc.want...)
	}
	_, _, err := loadFile("exceptions: {rule: r}")
	wantError(t, err, "exceptions: want a list of exceptions, have a mapping")
}

func TestExceptionWildcards(t *testing.T) {
	for _, e := range []string{
		"namespace: team-*", "workload: 'Deployment/*'", "workload: '*/web'", "workload: we*b", "workload: web.example",
		"image: '*/nginx:1.*'", "image: Registry:5000/a_b@sha256:00", "{namespace: a, container: 'c*'}",
		"{namespace: a, cluster: 'arn:aws:eks:eu-west-1:1:cluster/prod-*'}", "{namespace: a, cluster: 'müller@*'}", "{namespace: a, cluster: '生产'}",
	} {
		e = strings.Trim(e, "{}")
		if _, _, err := loadFile("exceptions:\n- {rule: r, reason: why, " + e + "}"); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
}
