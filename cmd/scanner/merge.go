package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

func (a *app) mergeCommand() *cobra.Command {
	explain := ""
	cmd := &cobra.Command{
		Use:   "merge FILE...",
		Short: "Join the parts of a cluster that scan --shard wrote to one result",
		Long: `Joins the files that scan --shard (or --shards) wrote with -o jsonl, of all parts of
one cluster and each once, to the result that one scan of it would have had: in every
format, with the same exit codes. Exceptions, --fail-on, --baseline and --manifests
are applied here.

Exit codes: those of scan. 2 also where the files are not all parts of one run.`,
		Example: `  escape-scanner scan --shard 0/2 -o jsonl=0.jsonl
  escape-scanner scan --shard 1/2 -o jsonl=1.jsonl
  escape-scanner merge 0.jsonl 1.jsonl
  escape-scanner merge shards/*.jsonl -o table -o sarif=escape-scanner.sarif --fail-on critical
  escape-scanner merge shards/*.jsonl --explain payments/Deployment/api`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("want the files of all parts, as scan --shard wrote them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := validateExplain(cmd, explain, cfg); err != nil {
				return err
			}
			return a.merge(cmd.Context(), args, explain, cfg)
		},
	}
	how := newFlagSet()
	how.StringVar(&explain, "explain", "", "print the whole reasoning about one `WORKLOAD` (NAMESPACE/KIND/NAME) instead of the table")
	// What was judged, and how it was read, is in the files.
	config.AddFlags(how, config.KeyLevel, config.KeyPSSVersion, config.KeyPageSize, config.KeyClusterName)
	cmd.Flags().AddFlagSet(how)
	completeWords(cmd, how)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		return writeUsage(cmd.OutOrStderr(), cmd, []flagGroup{{"How it is judged and written", how}}, a.width(a.stdout))
	})
	return cmd
}

// merge joins the files to one run.
func (a *app) merge(ctx context.Context, files []string, explain string, cfg *config.Config) error {
	runs := make([]scan.ShardRun, len(files))
	for i, name := range files {
		var err error
		if runs[i], err = a.readShard(name); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		if first := runs[0].Around; runs[i].Around != nil && reflect.DeepEqual(first, runs[i].Around) {
			// Mostly all are the same: one is enough to keep.
			runs[i].Around = first
		}
	}
	var opts scan.JoinOptions
	if len(cfg.Manifests) > 0 {
		index, failures, err := a.declarations(ctx, cfg.Manifests)
		if err != nil {
			return err
		}
		opts.Declarations, opts.Failures = index, failures
	}
	return a.audit(ctx, cfg, explain, func(h scan.Handler) error {
		h = scan.Except(exceptions(cfg), a.now(), h)
		if err := scan.Join(runs, opts, interruptible(ctx, h)); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		return nil
	})
}

// interruptible is the handler until the context is cancelled.
func interruptible(ctx context.Context, h scan.Handler) scan.Handler {
	return scan.HandlerFunc(func(e scan.Event) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return h.Handle(e)
	})
}

// readShard reads of a file all but the rows, and that they are whole.
func (a *app) readShard(name string) (scan.ShardRun, error) {
	run := scan.ShardRun{Name: name}
	rows := 0
	err := a.replayShard(name, scan.HandlerFunc(func(e scan.Event) error {
		switch p := e.Part; {
		case e.Start != nil:
			run.Start = *e.Start
		case e.End != nil:
			run.End = *e.End
		case p == nil:
		case p.Row != nil:
			rows++
		case p.Counts != nil:
			run.Counts = p.Counts
		case run.Around == nil:
			run.Around = p.Around
		default:
			run.Around.Add(p.Around)
		}
		return nil
	}))
	run.Rows = a.shardRows(name, rows)
	return run, err
}

// errStopped ends a reading of which no more is wanted.
var errStopped = errors.New("stopped")

// shardRows reads the rows of a file, one at a time: all of them would be as much as all
// that one scan holds. There were so many when the file was read for the first time.
func (a *app) shardRows(name string, rows int) iter.Seq2[*scan.ShardRow, error] {
	return func(yield func(*scan.ShardRow, error) bool) {
		left := rows
		err := a.replayShard(name, scan.HandlerFunc(func(e scan.Event) error {
			if e.Part == nil || e.Part.Row == nil {
				return nil
			}
			if left--; !yield(e.Part.Row, nil) {
				return errStopped
			}
			return nil
		}))
		if errors.Is(err, errStopped) {
			return
		}
		if err == nil && left != 0 {
			err = fmt.Errorf("%s: changed while it was read", name)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func (a *app) replayShard(name string, h scan.Handler) error {
	file, err := a.open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return &os.PathError{Op: "read", Path: name, Err: errors.New("is a directory: name the files in it")}
	case !info.Mode().IsRegular():
		return &os.PathError{Op: "read", Path: name, Err: errors.New("no file: each is read twice, which a pipe does not allow")}
	}
	if err := report.ReplayShard(file, h); err != nil && !errors.Is(err, errStopped) {
		return fmt.Errorf("%s: %w", name, err)
	} else if err != nil {
		return err
	}
	return nil
}
