package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

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
	for _, p := range perms {
		if !p.Allowed && !cfg.AllowIncomplete {
			return &exitError{code: exitIncomplete}
		}
	}
	return nil
}

func (a *app) printPermissions(perms []kube.Permission, cfg *config.Config) error {
	if out := cfg.Outputs(); len(out) == 1 && out[0].Format == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(perms)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ALLOWED\tPERMISSION\tNAMESPACE\tWITHOUT IT IS UNKNOWN")
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", allowed, p, report.Clean(ns), report.Clean(why))
	}
	return w.Flush()
}
