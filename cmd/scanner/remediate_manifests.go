package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
	"github.com/escape-scanner/escape-scanner/scan"
)

// manifestsFlags are the flags of remediate manifests that are no configuration.
type manifestsFlags struct {
	files []string
	write bool
	rules []string
}

func (a *app) remediateManifestsCommand() *cobra.Command {
	f := &manifestsFlags{}
	cmd := &cobra.Command{
		Use:   "manifests -f PATH",
		Short: "Repair manifests in their own files, by the repairs that were proven",
		Long: `Repairs manifests in their own files: the fields that the Pod Security Standards
refuse at --level, and those that leave an escape path open. Comments, order,
indentation, anchors and quotes stay; only the lines concerned change. It prints a
unified diff, which git apply and patch -p1 take, and writes nothing without --write.
Of standard input (-f -) --write prints the repaired text.

A repair is made only if it is proven: the file is read again, the findings are gone,
nothing else has changed and nothing new is found. The rest is left alone, and said.
So are the templates of Helm charts, patches, and what exceptions cover.

A program may need what is taken from it. What it may lose is said with each repair.

Exit codes: 0 nothing to repair, or all of it written; 1 there are repairs, which were
not written; 2 wrong usage or configuration; 3 something could not be read, repaired
or written; 130 interrupted.`,
		Example: `  escape-scanner remediate manifests -f deploy/
  escape-scanner remediate manifests -f deploy/ --level restricted --write
  escape-scanner remediate manifests -f deploy/ | git apply
  escape-scanner remediate manifests -f pod.yaml --rules privileged,escape-hostpid
  helm template ./chart | escape-scanner remediate manifests -f - --write | kubectl apply -f -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("argument %q: the files are named by -f %s", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := f.validate(); err != nil {
				return err
			}
			return a.remediateManifests(cmd.Context(), f, cfg)
		},
	}
	what, how := f.flags()
	a.useFlags(cmd, flagGroup{"What is repaired", what}, flagGroup{"How it is judged and written", how})
	return cmd
}

func (f *manifestsFlags) flags() (what, how *pflag.FlagSet) {
	what, how = newFlagSet(), newFlagSet()
	what.StringSliceVarP(&f.files, "filename", "f", nil, "repair manifests: a `PATH` of a file or directory, or - for standard input; may be repeated")
	what.StringSliceVar(&f.rules, "rules", nil, "repair only what these `RULES` find; may be repeated")
	what.BoolVar(&f.write, "write", false, "write the repaired files; of standard input, print the repaired text")
	config.AddFlagsOf(how, config.KeyLevel, config.KeyPSSVersion, config.KeyColor)
	return what, how
}

func (f *manifestsFlags) validate() error {
	if len(f.files) == 0 || slices.Contains(f.files, "") {
		return errors.New("-f: want a file, a directory or -, have nothing")
	}
	known := ruleIDs()
	for _, id := range f.rules {
		if !slices.Contains(known, id) {
			return fmt.Errorf("--rules: there is no rule %q (escape-scanner rules lists them)", id)
		}
	}
	return nil
}

// wanted tells which findings the flags mean.
func (f *manifestsFlags) wanted(finding *scan.Finding) bool {
	return len(f.rules) == 0 || slices.Contains(f.rules, finding.Rule)
}

// remediateManifests repairs one file after the other.
func (a *app) remediateManifests(ctx context.Context, f *manifestsFlags, cfg *config.Config) error {
	engine, _, err := scan.Begin(a.start(scan.SourceManifests, ""), psa.Level(cfg.Level), cfg.PSSVersion, "")
	if err != nil {
		return err
	}
	r := &repair.Repairer{Judge: repair.NewJudge(engine, exceptions(cfg), a.now()), Wanted: f.wanted}
	run := &manifestsRun{app: a, write: f.write, color: a.color(cfg.Color, a.stdout)}
	err = manifest.Texts(ctx, a.inputs(f.files), func(text manifest.Text) error {
		file, err := r.File(ctx, text, a.inChart(text.File))
		if err != nil {
			return err
		}
		return run.file(file, text.Stdin)
	})
	if ctx.Err() != nil {
		return &exitError{code: exitInterrupted, err: errors.New("interrupted: what was not reached yet is as it was")}
	}
	if err != nil {
		return err
	}
	return run.conclude()
}

// inChart tells whether a file is one of the templates of a Helm chart.
func (a *app) inChart(name string) bool {
	path := a.path(name)
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) != "templates" {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "Chart.yaml")); err == nil {
			return true
		}
	}
	return false
}

// manifestsRun is what one run comes to.
type manifestsRun struct {
	*app
	write, color bool
	// documents, repaired and left count what was there.
	documents, repaired, left int
	// shown counts the files with repairs that were not written, failed what could not
	// be read or written.
	shown, failed int
}

// file shows or writes what became of one file.
func (r *manifestsRun) file(f *repair.File, stdin bool) error {
	r.tell(f)
	switch {
	case r.write && stdin:
		_, err := r.stdout.Write(f.After)
		return err
	case !f.Changed():
		return nil
	case !r.write:
		r.shown++
		return r.diff(f)
	}
	if err := r.writeFile(f); err != nil {
		r.failed++
		r.complain("error", f.Name+": not written: "+err.Error())
	}
	return nil
}

// writeFile replaces a file, in one step, if it is still what was read.
func (r *manifestsRun) writeFile(f *repair.File) error {
	path := r.path(f.Name)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return pathless(err)
	case !info.Mode().IsRegular() || isOpenFile(path):
		return errors.New("is no file that could be replaced")
	}
	out, err := openOutput(path)
	if err != nil {
		return err
	}
	if _, err = out.Write(f.After); err == nil {
		var now []byte
		if now, err = os.ReadFile(path); err == nil && !bytes.Equal(now, f.Before) {
			err = errors.New("it was changed since it was read")
		}
	}
	if err == nil {
		err = out.put()
	}
	if err != nil {
		out.discard()
	}
	return pathless(err)
}

// pathless is the error without a path, where what it is about is said already.
func pathless(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// conclude turns what was done into the exit code.
func (r *manifestsRun) conclude() error {
	switch {
	case r.failed > 0 || r.left > 0:
		var parts []string
		if r.failed > 0 {
			parts = append(parts, counted(r.failed, "thing")+" could not be read or written")
		}
		if r.left > 0 {
			parts = append(parts, counted(r.left, "finding")+" could not be repaired")
		}
		r.complain("incomplete", fmt.Sprintf("%s (exit code %d)", strings.Join(parts, ", "), exitIncomplete))
		return &exitError{code: exitIncomplete}
	case r.shown > 0:
		r.complain("repairs", fmt.Sprintf("%s in %s; nothing was written (exit code %d; --write writes)",
			counted(r.repaired, "finding"), counted(r.shown, "file"), exitFindings))
		return &exitError{code: exitFindings}
	case r.documents == 0:
		r.complain("warning", "no pod and no pod template was found")
	}
	return nil
}
