package main

import (
	"fmt"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

// conclude turns the end of a run into the exit code, and says on stderr why it is
// not 0: the output may be a file, or a stream that nobody reads.
func (a *app) conclude(end *scan.End, cfg *config.Config) error {
	whole, err := a.concludeWhole(end, cfg)
	if err != nil {
		return err
	}
	if whole && end.Workloads == 0 {
		a.complain("warning", "no workload was found: nothing was judged")
	}
	gate := scan.Severity(cfg.FailOn)
	if worse := end.AtLeast(gate); worse > 0 {
		a.complain("failed", fmt.Sprintf("%s of severity %s (exit code %d; --fail-on sets the severity)", counted(worse, "finding"), atLeast(gate), exitFindings))
		return &exitError{code: exitFindings}
	}
	return nil
}

// concludeWhole tells whether all of the run was read. Where that ends it, the error has
// the exit code.
func (a *app) concludeWhole(end *scan.End, cfg *config.Config) (whole bool, err error) {
	incomplete := ""
	if end.Incomplete {
		incomplete = "something could not be read"
		if end.Failures > 0 {
			incomplete = counted(end.Failures, "thing") + " could not be read"
		}
		incomplete += ", so what the result does not list is not proven absent"
	}
	switch {
	case end.Interrupted:
		a.complain("interrupted", "the scan was stopped before its end: the result is not whole")
		return false, &exitError{code: exitInterrupted}
	case end.Incomplete && !cfg.AllowIncomplete:
		a.complain("incomplete", fmt.Sprintf("%s (exit code %d; --allow-incomplete accepts it)", incomplete, exitIncomplete))
		return false, &exitError{code: exitIncomplete}
	case end.Incomplete:
		a.complain("incomplete", incomplete+" (accepted by --allow-incomplete)")
	}
	return !end.Incomplete, nil
}

func atLeast(gate scan.Severity) string {
	if gate == scan.SeverityCritical {
		return string(gate)
	}
	return string(gate) + " or above"
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
