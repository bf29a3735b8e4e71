package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	flagShard  = "shard"
	flagShards = "shards"
	// envJobIndex is the variable in which Kubernetes tells the pods of an Indexed Job
	// which of them they are.
	envJobIndex = "JOB_COMPLETION_INDEX"
)

// shardFlags say which part of a cluster is scanned.
type shardFlags struct {
	shard  string
	shards int
	// is nil where the whole cluster is scanned.
	is *scan.Shard
}

func (f *shardFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.shard, flagShard, "", "audit part `I/N` of the namespaces only, I from 0 to N-1; escape-scanner merge joins what all parts write by -o jsonl, and judges by --fail-on, --baseline and exceptions")
	fs.IntVar(&f.shards, flagShards, 0, "the same of `N` parts, I from the variable "+envJobIndex+", as in an Indexed Job of Kubernetes")
}

// flag is the flag that asks for a part, empty where none does.
func (f *shardFlags) flag(cmd *cobra.Command) string {
	for _, name := range []string{flagShard, flagShards} {
		if cmd.Flags().Changed(name) {
			return "--" + name
		}
	}
	return ""
}

// validate refuses what is no part, and what a part alone cannot be asked for.
func (f *shardFlags) validate(cmd *cobra.Command, cfg *config.Config, env func(string) string) error {
	flag := f.flag(cmd)
	if flag == "" {
		return nil
	}
	changed := cmd.Flags().Changed
	for _, x := range []struct{ name, why string }{
		{flagShards, "use one of them"},
		{"filename", "manifests are not divided"},
		{"from", "an earlier run is not divided"},
		{"preflight", "it scans nothing"},
		{"alerts", "KubeArmor tells of the whole cluster"},
		{"probe-nodes", "each part would create the same DaemonSet"},
		{"save-inventory", "an inventory is of a whole cluster"},
		{config.KeyReports, "a part has no results: merge makes them"},
		{"explain", "a part has no results: ask merge"},
		{config.KeyFailOn, "a part has no results: give it to merge"},
		{config.KeyBaseline, "a part has no results: give it to merge"},
		{config.KeyManifests, "a part has no results: give it to merge"},
	} {
		if flag != "--"+x.name && changed(x.name) {
			return fmt.Errorf("%s and --%s: %s", flag, x.name, x.why)
		}
	}
	for _, out := range cfg.Outputs() {
		if out.Format != "jsonl" {
			return fmt.Errorf("%s: a part of a cluster has no results to write as %s: write it by -o jsonl=FILE, and join all parts by escape-scanner merge", flag, out.Format)
		}
	}
	var err error
	if flag == "--"+flagShard {
		f.is, err = parseShard(f.shard)
	} else {
		f.is, err = jobShard(f.shards, env(envJobIndex))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// parseShard reads I/N.
func parseShard(text string) (*scan.Shard, error) {
	index, of, ok := strings.Cut(text, "/")
	i, errIndex := strconv.Atoi(index)
	n, errOf := strconv.Atoi(of)
	if !ok || errIndex != nil || errOf != nil {
		return nil, fmt.Errorf("%q: want I/N, as in 0/3", text)
	}
	return newShard(i, n)
}

// jobShard is the part of which a pod of an Indexed Job is told the index.
func jobShard(of int, index string) (*scan.Shard, error) {
	if index == "" {
		return nil, fmt.Errorf("the variable %s is not set: Kubernetes sets it in the pods of a Job with completionMode: Indexed; anywhere else use --%s I/N", envJobIndex, flagShard)
	}
	i, err := strconv.Atoi(index)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: want a number", envJobIndex, index)
	}
	s, err := newShard(i, of)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", envJobIndex, index, err)
	}
	return s, nil
}

func newShard(index, of int) (*scan.Shard, error) {
	s := &scan.Shard{Index: index, Of: of}
	switch {
	case of < 1:
		return nil, fmt.Errorf("%d parts: want 1 or more", of)
	case !s.Valid():
		return nil, fmt.Errorf("part %d of %d: they count from 0 to %d", index, of, of-1)
	}
	return s, nil
}

// scanShard runs the audit of one part. What it writes is no result yet, so nothing of
// it is judged.
func (a *app) scanShard(ctx context.Context, f *scanFlags, cfg *config.Config) (err error) {
	outs, err := a.openOutputs(ctx, cfg, "")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			outs.discard()
		}
	}()
	tally := scan.NewTally(outs.handler)
	if err := a.feed(ctx, f, cfg, tally); err != nil {
		return err
	}
	if err := outs.commit(ctx); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	outs.places = nil
	end := tally.End()
	if end == nil {
		return errors.New("the scan has no end")
	}
	_, err = a.concludeWhole(end, cfg)
	return err
}
