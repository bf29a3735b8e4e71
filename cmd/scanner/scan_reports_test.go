package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
)

// Who stops a scan while it writes its reports learns that they are not all there, by the
// exit code too.
func TestStoppedWhileReportsAreWritten(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var stderr bytes.Buffer
	kept := &keptReports{app: &app{deps: testDeps(""), stderr: &stderr}, sink: reports.New(reports.Options{}), told: true}
	findings := &exitError{code: exitFindings}
	for _, test := range []struct {
		ended error
		want  int
	}{{nil, exitInterrupted}, {findings, exitFindings}} {
		exit, ok := errors.AsType[*exitError](kept.write(ctx, test.ended))
		if !ok || exit.code != test.want || exit.err != nil {
			t.Errorf("after %v it ends with %+v", test.ended, exit)
		}
		if !strings.Contains(stderr.String(), "interrupted: not all reports were written") {
			t.Errorf("it says %q", stderr.String())
		}
		stderr.Reset()
	}
}
