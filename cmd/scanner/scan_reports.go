package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// reportsOff is the word for no reports in the cluster.
const reportsOff = "off"

// validateReports refuses reports where there is no cluster to keep them, or no whole result
// to tell. clusterless is the flag that makes the run read no live cluster.
func (f *scanFlags) validateReports(clusterless string) error {
	f.reports = strings.ToLower(f.reports)
	if words := config.Words(config.KeyReports); !slices.Contains(words, f.reports) {
		return fmt.Errorf("--reports %q: want one of %s", f.reports, strings.Join(words, ", "))
	}
	switch {
	case f.reports == reportsOff:
		return nil
	case clusterless != "":
		return fmt.Errorf("--reports: writes to the cluster that is scanned, and %s scans none", clusterless)
	case f.shard.is != nil:
		return errors.New("--reports and --shard: a part of the result makes no reports; scan the cluster without shards for them")
	}
	return nil
}

// keptReports are the reports that one scan keeps in the cluster; nil for none.
type keptReports struct {
	app  *app
	sink *reports.Sink
	// told is true when the run was told to its end.
	told bool
}

// reportSink is the sink of reports for one run. Of one that is over nobody is told but at
// its end: notify is nil then.
func reportSink(cluster *kube.Cluster, kind string, notify func(sink.Notice)) *reports.Sink {
	return reports.New(reports.Options{
		Store: cluster.ReportStore(), API: reports.API(kind), Notify: notify,
		// Somebody waits for it, and the API server guards itself.
		QPS: 100, Parallel: 8,
	})
}

// keptReports finds out before the scan whether the cluster has an API for reports.
func (a *app) keptReports(ctx context.Context, f *scanFlags, cfg *config.Config) (*keptReports, error) {
	if f.reports == reportsOff || f.reports == "" {
		return nil, nil
	}
	cluster, name, err := connect(f, cfg)
	if err != nil {
		return nil, err
	}
	k := &keptReports{app: a, sink: reportSink(cluster, f.reports, nil)}
	if _, err := k.sink.Check(ctx); err != nil {
		return nil, clusterError(name, fmt.Errorf("--reports: %w", err))
	}
	return k, nil
}

// beside tells the reports what h is told.
func (k *keptReports) beside(h scan.Handler) scan.Handler {
	if k == nil {
		return h
	}
	end := scan.HandlerFunc(func(e scan.Event) error {
		k.told = k.told || e.End != nil
		return nil
	})
	return report.Tee(k.sink, h, end)
}

// write writes the reports when the run is over, and adds to how it ended that they could
// not be written.
func (k *keptReports) write(ctx context.Context, ended error) error {
	if k == nil || !k.told {
		return ended
	}
	err := k.sink.Once(ctx)
	switch {
	case err == nil:
		return ended
	case ctx.Err() != nil:
		k.app.complain("interrupted", "not all reports were written to the cluster")
		if ended == nil {
			return &exitError{code: exitInterrupted}
		}
		return ended
	}
	err = fmt.Errorf("reports: %w", err)
	if exit, ok := errors.AsType[*exitError](ended); ok && exit.err == nil {
		// It has been said how the scan ended.
		return err
	}
	return errors.Join(ended, err)
}
