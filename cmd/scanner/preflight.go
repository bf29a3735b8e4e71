package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/report"
)

// preflight prints what a scan may read. It ends as incomplete when a scan would.
func (a *app) preflight(ctx context.Context, f *scanFlags, cfg *config.Config) error {
	cluster, name, err := connect(f, cfg)
	if err != nil {
		return err
	}
	looks := f.probes.looks()
	if f.reports != reportsOff {
		api, err := reportSink(cluster, f.reports, nil).Check(ctx)
		if err != nil {
			return clusterError(name, fmt.Errorf("--reports: %w", err))
		}
		looks.Reports = api.Group()
	}
	perms, err := cluster.Preflight(ctx, f.namespaces(), looks)
	if err != nil {
		return clusterError(name, err)
	}
	if err := a.printPermissions(perms, cfg); err != nil {
		return err
	}
	missing := 0
	for _, p := range perms {
		if !p.Allowed {
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	a.complain("incomplete", fmt.Sprintf("without %s a scan is not whole%s", counted(missing, "permission"), incompleteHint(cfg)))
	if cfg.AllowIncomplete {
		return nil
	}
	return &exitError{code: exitIncomplete}
}

func (a *app) printPermissions(perms []kube.Permission, cfg *config.Config) error {
	if out := cfg.Outputs(); len(out) == 1 && out[0].Format == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(perms)
	}
	var table bytes.Buffer
	writePermissions(&table, perms, "\t")
	if width := a.width(a.stdout); width > 0 && longestLine(table.String()) > width {
		table.Reset()
		writePermissions(&table, perms, "\n\t")
	}
	_, err := table.WriteTo(a.stdout)
	return err
}

func longestLine(text string) int {
	longest := 0
	for line := range strings.Lines(text) {
		longest = max(longest, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")))
	}
	return longest
}

// writePermissions writes the table. The last column stands behind beforeLast: a tab, or
// the end of the line where the terminal is too narrow for all.
func writePermissions(out *bytes.Buffer, perms []kube.Permission, beforeLast string) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	// A buffer takes everything.
	defer func() { _ = w.Flush() }()
	fmt.Fprintf(w, "ALLOWED\tPERMISSION\tNAMESPACE%sWITHOUT IT IS UNKNOWN\n", beforeLast)
	for _, p := range perms {
		allowed, ns := "yes", p.Namespace
		if !p.Allowed {
			allowed = "NO"
		}
		if ns == "" {
			ns = "(all)"
		}
		why := p.For
		if !p.Allowed && p.Reason != "" {
			why += ": " + p.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s%s\n", allowed, p, report.Clean(ns), beforeLast, report.Clean(why))
	}
}
