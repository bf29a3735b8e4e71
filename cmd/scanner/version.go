package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/escape-scanner/escape-scanner/scan"
)

// printVersion prints the versions that decide what a scan says.
func (a *app) printVersion() error {
	library := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "k8s.io/pod-security-admission" {
				library = m.Version
			}
		}
	}
	_, err := fmt.Fprintf(a.stdout, "escape-scanner %s\nrule set %s\nPod Security Standards up to %s (k8s.io/pod-security-admission %s)\n%s %s/%s\n",
		a.version, scan.RuleSetVersion, scan.NewestPSS(), library, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
