package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/report"
)

func (a *app) remediateRenderCommand() *cobra.Command {
	f := newSetFlags()
	format := ""
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the set as YAML, for GitOps",
		Long: `Prints the objects of the set as they stand in the end. Nothing is changed, and no
cluster is read unless something of it must be known: what the API server serves
(--admission auto), its namespaces (pod-security labels with -A), or its workloads
(--fit precise).

Who applies it by other means gets neither the preview nor the record that rollback
needs.`,
		Example: `  escape-scanner remediate render -n shop --admission vap > set.yaml
  escape-scanner remediate render -A --admission kyverno-cel --without tools
  escape-scanner remediate render -n shop --fit precise`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := oneOf("output", format, []string{"yaml", "json"}); err != nil {
				return err
			}
			opts, err := f.options(a, cmd.Flags(), cfg)
			if err != nil {
				return err
			}
			s, err := a.render(cmd.Context(), &f, opts, cfg)
			if err != nil {
				return err
			}
			return a.writeSet(format, s, cmd.Flags())
		},
	}
	whom, what, cluster := f.groups()
	how := newFlagSet()
	how.StringVarP(&format, "output", "o", "yaml", "`FORMAT` to write: yaml, json (one List)")
	config.AddFlagsOf(how, config.KeyPageSize)
	a.useFlags(cmd, whom, what, flagGroup{"How it is written", how}, cluster)
	return cmd
}

// render makes the set, and reads a cluster where that must be.
func (a *app) render(ctx context.Context, f *setFlags, opts set.Options, cfg *config.Config) (*set.Set, error) {
	if opts.Admission != set.AdmissionAuto && opts.Fit != set.FitPrecise {
		// The options are right, so what goes wrong now is that something is not known.
		if s, err := set.Render(opts, set.Facts{}); err == nil {
			return s, nil
		}
	}
	p, err := f.patient(a, nil, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, withoutReading(&opts))
	}
	s, err := a.renderFor(ctx, p, opts)
	if _, ok := errors.AsType[net.Error](err); ok {
		return nil, fmt.Errorf("cluster %s: %w (%s)", p.name, err, withoutReading(&opts))
	}
	return s, err
}

func (a *app) renderFor(ctx context.Context, p *patient, opts set.Options) (*set.Set, error) {
	asked, why := opts.Admission, ""
	var err error
	if opts.Admission, why, err = p.choose(ctx, opts); err != nil {
		return nil, err
	}
	var facts set.Facts
	if opts.Fit == set.FitPrecise {
		inventory, err := targets.Read(ctx, p.reads, opts.Scope, targets.Options{})
		if err != nil {
			return nil, err
		}
		facts = factsOf(inventory.Namespaces)
		facts.Workloads, facts.Unseen = inventory.Workloads, inventory.Unseen
	} else {
		list, err := p.reads.Namespaces(ctx)
		if err != nil {
			return nil, err
		}
		byName := make(map[string]*corev1.Namespace, len(list))
		for i := range list {
			byName[list[i].Name] = &list[i]
		}
		facts = factsOf(byName)
	}
	s, err := renderSet(opts, facts)
	if err == nil && asked == set.AdmissionAuto {
		s.Notes = slices.Insert(s.Notes, 0, fmt.Sprintf("Admission %s: %s.", opts.Admission, why))
	}
	return s, err
}

// renderSet renders a set; one that would be wrong because something was not read is an
// incomplete run.
func renderSet(opts set.Options, facts set.Facts) (*set.Set, error) {
	s, err := set.Render(opts, facts)
	if errors.Is(err, set.ErrUnseen) {
		return nil, &exitError{code: exitIncomplete, err: err}
	}
	return s, err
}

// withoutReading says which flags make the reading of a cluster needless.
func withoutReading(opts *set.Options) string {
	switch {
	case opts.Admission == set.AdmissionAuto && opts.Fit == set.FitPrecise:
		return "render needs no cluster with --fit full and --admission psa, kyverno, kyverno-cel, vap or none"
	case opts.Admission == set.AdmissionAuto:
		return "render needs no cluster with --admission psa, kyverno, kyverno-cel, vap or none"
	case opts.Fit == set.FitPrecise:
		return "render needs no cluster with --fit full"
	}
	return "render needs no cluster where the namespaces are named with -n"
}

// writeSet writes the objects in the form in which they stand in the end.
func (a *app) writeSet(format string, s *set.Set, flags *pflag.FlagSet) error {
	if format == "json" {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
		for i := range s.Objects {
			list.Items = append(list.Items, *s.Objects[i].Final())
		}
		for _, note := range s.Notes {
			a.complain("note", note)
		}
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(list.UnstructuredContent())
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s\n", report.Clean(a.command("render", flags, kubeFlagNames()...)))
	for _, note := range s.Notes {
		fmt.Fprintf(&out, "# %s\n", report.Clean(note))
	}
	for i := range s.Objects {
		o := &s.Objects[i]
		out.WriteString("---\n")
		for _, why := range o.Why {
			fmt.Fprintf(&out, "# %s\n", report.Clean(why))
		}
		text, err := yaml.Marshal(o.Final().Object)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Final().GetName(), err)
		}
		out.Write(text)
	}
	_, err := a.stdout.Write(out.Bytes())
	return err
}
