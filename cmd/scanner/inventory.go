package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// inventoryMode is the mode of an inventory: it tells more of a cluster than a
// report does, and is for its owner to pass on.
const inventoryMode = 0o600

// scanSaving is scan.ScanCluster that writes what it reads to an inventory, whose
// file appears when it is whole; without a path it is no more than that. Of a run
// that was interrupted nothing is left.
func (a *app) scanSaving(ctx context.Context, path string, cluster scan.Cluster, opts scan.ClusterOptions, h scan.Handler) (err error) {
	if path == "" {
		return scan.ScanCluster(ctx, cluster, opts, h)
	}
	file, err := openOutput(a.path(path))
	if err != nil {
		return fmt.Errorf("save-inventory: %w", err)
	}
	defer func() {
		if err != nil || ctx.Err() != nil {
			file.discard()
		}
	}()
	about := snapshot.Begin{
		Tool: opts.Start.Tool, Version: opts.Start.Version, Time: opts.Start.Time,
		Cluster: opts.Start.Cluster, Namespaces: opts.Namespaces, Selector: opts.Start.Selector,
	}
	r := snapshot.NewRecorder(file, about, cluster, opts.Probes)
	opts.Probes = r.Probes()
	if err := scan.ScanCluster(ctx, r, opts, h); err != nil || ctx.Err() != nil {
		return err
	}
	if err = r.Finish(); err == nil {
		err = file.commitAs(inventoryMode)
	}
	if err != nil {
		return fmt.Errorf("save-inventory %s: %w", path, err)
	}
	return nil
}

// commitAs is commit for a file that gets this mode, whatever stood there before.
func (f *outputFile) commitAs(mode os.FileMode) error {
	if err := errors.Join(f.Flush(), f.file.Close()); err != nil || f.path == "" {
		return err
	}
	if err := os.Chmod(f.file.Name(), mode); err != nil {
		return err
	}
	return os.Rename(f.file.Name(), f.path)
}
