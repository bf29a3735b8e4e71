package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// diffFormats are what a comparison is written as.
func diffFormats() []string { return []string{"table", "json", "html"} }

func (a *app) diffCommand() *cobra.Command {
	var outputs []string
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare two saved runs: what opened, closed, was excepted, changed verdict",
		Long: `Compares two saved runs: files of -o jsonl or json, of scan or of watch (a watch as it
was at its end), - for standard input. It tells what opened, closed, was excepted and
changed verdict, workloads, policies and nodes that came, went or changed, and what
could not be read.

What the new run could not have seen is never said to be closed: it is not known.

Exit codes: 0 nothing at or above --fail-on opened, 1 something did: a finding is new,
not excepted any more or more severe, or a workload became exposed; 2 wrong usage, or
a file that is no whole run; 3 one of the runs is incomplete and --allow-incomplete
was not given (goes before 1).`,
		Example: `  escape-scanner scan -o jsonl=old.jsonl
  escape-scanner scan -o jsonl=new.jsonl
  escape-scanner diff old.jsonl new.jsonl
  escape-scanner diff old.jsonl new.jsonl -o table -o html=diff.html
  escape-scanner scan -f deploy/ -o jsonl --fail-on none | escape-scanner diff main.jsonl -`,
		Args: diffArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			outs, err := diffOutputs(outputs)
			if err != nil {
				return err
			}
			if err := a.keepRuns(args, outs); err != nil {
				return err
			}
			return a.diff(args[0], args[1], outs, cfg)
		},
	}
	how := newFlagSet()
	how.StringSliceVarP(&outputs, "output", "o", []string{"table"}, "`FORMAT[=FILE]` to write: "+strings.Join(diffFormats(), ", ")+"; may be repeated, one of them to standard output")
	config.AddFlagsOf(how, config.KeyColor)
	gate := newFlagSet()
	config.AddFlagsOf(gate, config.KeyFailOn, config.KeyAllowIncomplete)
	gate.Lookup(config.KeyFailOn).Usage = "exit with 1 when something of this `SEVERITY` and above opened: " + strings.Join(config.Words(config.KeyFailOn), ", ")
	gate.Lookup(config.KeyAllowIncomplete).Usage = "succeed even when one of the runs is incomplete (otherwise exit with 3)"
	groups := []flagGroup{{"How it is written", how}, {"How it ends", gate}}
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	for name, words := range map[string][]string{
		"output": diffFormats(), config.KeyColor: config.Words(config.KeyColor), config.KeyFailOn: config.Words(config.KeyFailOn),
	} {
		// It fails only for a flag that is not there.
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		return writeUsage(cmd.OutOrStderr(), cmd, groups, a.width(a.stdout))
	})
	return cmd
}

func diffArguments(_ *cobra.Command, args []string) error {
	switch {
	case len(args) != 2:
		return fmt.Errorf("want two saved runs, OLD and NEW, have %d", len(args))
	case args[0] == "" || args[1] == "":
		return errors.New("want a file or -, have nothing")
	case args[0] == "-" && args[1] == "-":
		return errors.New("standard input is one run: name a file for the other")
	}
	return nil
}

// diffOutputs takes apart what is to be written where.
func diffOutputs(outputs []string) ([]config.Output, error) {
	writer := map[string]string{}
	outs := make([]config.Output, 0, len(outputs))
	for _, s := range outputs {
		format, file, toFile := strings.Cut(s, "=")
		if err := oneOf("output", format, diffFormats()); err != nil {
			return nil, err
		}
		if toFile && file == "" {
			return nil, fmt.Errorf("--output %s: want a path behind =, have nothing", s)
		}
		if first, taken := writer[file]; taken {
			where := file
			if !toFile {
				where = "standard output"
			}
			return nil, fmt.Errorf("--output: %s and %s both go to %s: give one of them a file of its own, as in %s=FILE", first, format, where, format)
		}
		writer[file] = format
		out := config.Output{Format: format, File: file}
		if out.InBucket() {
			return nil, fmt.Errorf("--output %s: a comparison goes to a file; only scan and merge write to buckets", s)
		}
		outs = append(outs, out)
	}
	if len(outs) == 0 {
		return nil, fmt.Errorf("--output: want one of %s, have nothing", strings.Join(diffFormats(), ", "))
	}
	return outs, nil
}

// keepRuns refuses to write a comparison over one of the runs.
func (a *app) keepRuns(runs []string, outs []config.Output) error {
	for _, run := range runs {
		if run == "-" {
			continue
		}
		read, err := os.Stat(a.path(run))
		if err != nil {
			// Opening it says what is wrong.
			continue
		}
		for _, out := range outs {
			if out.File == "" {
				continue
			}
			if there, err := os.Stat(a.path(out.File)); err == nil && there.Mode().IsRegular() && os.SameFile(read, there) {
				return fmt.Errorf("--output %s=%s: it is the run to be compared: write to another file", out.Format, out.File)
			}
		}
	}
	return nil
}

// diff compares two saved runs, writes what is other, and turns it into an exit code.
func (a *app) diff(oldFile, newFile string, outs []config.Output, cfg *config.Config) error {
	files, err := a.openDiff(outs)
	defer func() {
		for _, f := range files {
			if f != nil {
				f.discard()
			}
		}
	}()
	if err != nil {
		return err
	}
	old, err := a.readSide("old", oldFile)
	if err != nil {
		return err
	}
	new, err := a.readSide("new", newFile)
	if err != nil {
		return err
	}
	if err := scan.Comparable(old, new); err != nil {
		return err
	}
	c := &report.Comparison{
		Tool: "escape-scanner", Version: a.version, Time: a.now(), OldFile: oldFile, NewFile: newFile, Diff: scan.Compare(old, new),
	}
	for i, out := range outs {
		w := a.stdout
		if f := files[i]; f != nil {
			w = f
		}
		if err := a.writeDiff(w, out.Format, c, cfg); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	var errs []error
	for i, f := range files {
		if f != nil {
			errs = append(errs, f.put())
			files[i] = nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return a.concludeDiff(c, cfg)
}

// openDiff opens the files of the outputs, nil for standard output.
func (a *app) openDiff(outs []config.Output) ([]*outputFile, error) {
	files := make([]*outputFile, len(outs))
	for i, out := range outs {
		if out.File == "" {
			continue
		}
		f, err := openOutput(a.path(out.File))
		if err != nil {
			return files, fmt.Errorf("output %s: %w", out.Format, err)
		}
		files[i] = f
	}
	return files, nil
}

func (a *app) writeDiff(w io.Writer, format string, c *report.Comparison, cfg *config.Config) error {
	switch format {
	case "json":
		return report.WriteDiffJSON(w, c)
	case "html":
		return report.WriteDiffHTML(w, c)
	}
	return report.WriteDiff(w, c, report.TableOptions{Width: a.width(w), Color: a.color(cfg.Color, w)})
}

// readSide reads one of the runs, and of a watch how it was at last.
func (a *app) readSide(word, name string) (*scan.DiffSide, error) {
	side := scan.NewDiffSide()
	r := a.stdin
	if name != "-" {
		file, err := a.open(name)
		if err != nil {
			return nil, fmt.Errorf("%s run: %w", word, err)
		}
		defer file.Close()
		r = file
	}
	if err := report.Replay(r, report.Picture(side)); err != nil {
		if name == "-" {
			name = "standard input"
		}
		return nil, fmt.Errorf("%s run %s: %w", word, name, err)
	}
	return side, nil
}

// concludeDiff turns a comparison into the exit code, and says why it is not 0.
func (a *app) concludeDiff(c *report.Comparison, cfg *config.Config) error {
	var incomplete []string
	if c.Diff.Old.Incomplete() {
		incomplete = append(incomplete, "old")
	}
	if c.Diff.New.Incomplete() {
		incomplete = append(incomplete, "new")
	}
	if len(incomplete) > 0 {
		text := fmt.Sprintf("the %s run is incomplete, so what is not listed is not proven to be as it was", incomplete[0])
		if len(incomplete) > 1 {
			text = "both runs are incomplete, so what is not listed is not proven to be as it was"
		}
		if !cfg.AllowIncomplete {
			a.complain("incomplete", fmt.Sprintf("%s (exit code %d; --allow-incomplete accepts it)", text, exitIncomplete))
			return &exitError{code: exitIncomplete}
		}
		a.complain("incomplete", text+" (accepted by --allow-incomplete)")
	}
	gate := scan.Severity(cfg.FailOn)
	findings, verdicts := c.Diff.AtLeast(gate)
	var worse []string
	if findings > 0 {
		worse = append(worse, fmt.Sprintf("%s of severity %s opened", counted(findings, "finding"), atLeast(gate)))
	}
	if verdicts > 0 {
		worse = append(worse, counted(verdicts, "workload")+" became exposed")
	}
	if len(worse) == 0 {
		return nil
	}
	a.complain("failed", fmt.Sprintf("%s (exit code %d; --fail-on sets the severity)", strings.Join(worse, ", "), exitFindings))
	return &exitError{code: exitFindings}
}
