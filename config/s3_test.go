package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
)

func TestObjectKey(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.November, 22, 23, 30, 5, 0, time.FixedZone("west", -2*60*60))
	for _, test := range []struct{ key, cluster, want string }{
		{"a/{cluster}/{date}-{time}.sarif", "prod", "a/prod/2026-11-23-013005Z.sarif"},
		{"{cluster}", "https://10.0.0.1:6443", "https---10.0.0.1-6443"},
		{"{cluster}", "arn:aws:eks:eu-west-1:1:cluster/web", "arn-aws-eks-eu-west-1-1-cluster-web"},
		{"{cluster}", "../..", "unnamed"},
		{"{cluster}", "", "unnamed"},
		{"{cluster}", "{date}", "date"},
		{"{cluster}", strings.Repeat("é", 300), "unnamed"},
		{"plain", "prod", "plain"},
	} {
		if have := config.ObjectKey(test.key, test.cluster, at); have != test.want {
			t.Errorf("%s of %s is %s, want %s", test.key, test.cluster, have, test.want)
		}
	}
}

// A password in the endpoint is refused, and not repeated.
func TestNoSecretInEndpoint(t *testing.T) {
	t.Parallel()
	o := options(nil)
	o.Environ = []string{"ESCAPE_SCANNER_S3_ENDPOINT=https://user:hunter2@minio:9000"}
	_, _, err := config.Load(o)
	if err == nil || !strings.Contains(err.Error(), "credentials come from the environment or from files") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("have %v", err)
	}
}

// What a watch writes has no end, and goes to files.
func TestWatchWritesNoObjects(t *testing.T) {
	t.Parallel()
	o := options(nil)
	o.Environ = []string{"ESCAPE_SCANNER_WATCH_OUTPUT=jsonl=s3://bucket/watch.jsonl"}
	if _, _, err := config.Load(o); err == nil || !strings.Contains(err.Error(), "watch-output: want a file") {
		t.Errorf("have %v", err)
	}
}
