package config_test

import (
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/config"
)

func TestEnvironmentErrors(t *testing.T) {
	for _, tc := range []struct {
		entry string
		want  []string
	}{
		{"ESCAPE_SCANNER_LEVLE=x", []string{"unknown environment variable ESCAPE_SCANNER_LEVLE", "did you mean ESCAPE_SCANNER_LEVEL?"}},
		{"ESCAPE_SCANNER_PSSVERSION=x", []string{"did you mean ESCAPE_SCANNER_PSS_VERSION?"}},
		{"ESCAPE_SCANNER_FAIL-ON=x", []string{"did you mean ESCAPE_SCANNER_FAIL_ON?"}},
		{"ESCAPE_SCANNER_level=x", []string{"did you mean ESCAPE_SCANNER_LEVEL?"}},
		{"escape_scanner_level=x", []string{"did you mean ESCAPE_SCANNER_LEVEL?"}},
		{"ESCAPE_SCANNER_CONFG=x", []string{"did you mean ESCAPE_SCANNER_CONFIG?"}},
		{"ESCAPE_SCANNER_BASE=", []string{"did you mean ESCAPE_SCANNER_BASELINE?"}},
		{"ESCAPE_SCANNER_QWERTZUIOP=x", []string{"known are ESCAPE_SCANNER_CONFIG, ESCAPE_SCANNER_LEVEL"}},
		{"ESCAPE_SCANNER_=x", []string{"unknown environment variable ESCAPE_SCANNER_;"}},
		{"ESCAPE_SCANNER_\x1b[2J=x", []string{`"ESCAPE_SCANNER_\x1b[2J"`}},
		{"ESCAPE_SCANNER_EXCEPTIONS=x", []string{"in the configuration file only"}},
		{"ESCAPE_SCANNER_PAGE_SIZE=many", []string{"ESCAPE_SCANNER_PAGE_SIZE: want a whole number", `"many"`}},
		{"ESCAPE_SCANNER_ALLOW_INCOMPLETE=sure", []string{"want true or false"}},
		{`ESCAPE_SCANNER_OUTPUT=a"b`, []string{"want a list of strings"}},
		{"ESCAPE_SCANNER_PAGE_SIZE=0", []string{"page-size: want a number", "environment ESCAPE_SCANNER_PAGE_SIZE"}},
	} {
		o := options(nil)
		o.Environ = []string{tc.entry}
		_, _, err := config.Load(o)
		wantError(t, err, tc.want...)
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: the message holds control characters", tc.entry)
		}
	}
}

// A Service beside the pod puts variables of our prefix into it.
func TestServiceVariablesAreIgnored(t *testing.T) {
	o := options(nil)
	o.Environ = []string{
		"ESCAPE_SCANNER_SERVICE_HOST=10.0.0.1",
		"ESCAPE_SCANNER_SERVICE_PORT=443",
		"ESCAPE_SCANNER_SERVICE_PORT_HTTPS=443",
		"ESCAPE_SCANNER_PORT=tcp://10.0.0.1:443",
		"ESCAPE_SCANNER_PORT_443_TCP=tcp://10.0.0.1:443",
		"ESCAPE_SCANNER_PORT_443_TCP_ADDR=10.0.0.1",
		"ESCAPE_SCANNER_METRICS_SERVICE_HOST=10.0.0.2",
		"ESCAPE_SCANNER_METRICS_PORT_9090_UDP_PROTO=udp",
	}
	if _, _, err := config.Load(o); err != nil {
		t.Error(err)
	}
}

func TestEmptyVariableIsNotSet(t *testing.T) {
	o := options(map[string]string{"work/.escape-scanner.yaml": "level: restricted\noutput: [json]\n"})
	o.Environ = []string{"ESCAPE_SCANNER_LEVEL=", "ESCAPE_SCANNER_OUTPUT=", "ESCAPE_SCANNER_CONFIG=", "ESCAPE_SCANNER_PAGE_SIZE="}
	cfg, origins, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Level != "restricted" || cfg.Output[0] != "json" || origins.Of(config.KeyLevel).Kind != config.OriginFile {
		t.Errorf("got %+v from %s", cfg, origins.Of(config.KeyLevel))
	}
}

func TestFirstOfTwoVariablesCounts(t *testing.T) {
	o := options(nil)
	o.Environ = []string{"ESCAPE_SCANNER_LEVEL=restricted", "ESCAPE_SCANNER_LEVEL=baseline"}
	cfg, _, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Level != "restricted" {
		t.Errorf("level is %q", cfg.Level)
	}
}
