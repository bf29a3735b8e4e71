package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/node"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func (a *app) nodeCommand() *cobra.Command {
	var options node.Options
	var format string
	var every time.Duration
	cmd := &cobra.Command{
		Use: "node", Short: "Check the machine that this runs on: can its kernel enforce BPF-LSM?", Args: noWords,
		Long: `Checks the machine that this runs on: whether its kernel can enforce the programs
by which KubeArmor stops a step at run time (BPF-LSM). It reads the active security
modules, lockdown, the kernel's types (BTF), the bpf file system, the kernel's
configuration and boot parameters, and tries whether a program that does nothing
loads, attaches and is called by the kernel; it is taken away at once. Only that
proves it: a kernel may list bpf and refuse every program.

To load a program takes root, or CAP_BPF and CAP_PERFMON. Without them the answer is
unknown, unless it is no anyway.

That a kernel can enforce does not say that KubeArmor does: scan tells that.

With --every it goes on until it is stopped, and then ends with 0. That is for a
DaemonSet, in whose pods' logs scan, watch, tui and remediate read the reports
(--node-probe-logs).

Exit codes: 0 the kernel can enforce BPF-LSM, 1 it cannot, 2 wrong usage, 3 unknown.`,
		Example: `  sudo escape-scanner node                      this machine
  escape-scanner node --load=false -o json      read only, for a program
  escape-scanner node --host-root /host         in a container that has the host's
                                                root mounted on /host
  escape-scanner node --every 1h --host-root /host --name "$NODE_NAME"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("output", format, []string{"text", "json"}); err != nil {
				return err
			}
			if err := validEvery(cmd.Flags(), every, format); err != nil {
				return err
			}
			if options.Root != "" {
				options.Root = a.path(options.Root)
				if info, err := os.Stat(options.Root); err != nil {
					return fmt.Errorf("host root: %w", err)
				} else if !info.IsDir() {
					return fmt.Errorf("host root: %s: not a directory", options.Root)
				}
			}
			if every > 0 {
				return a.followMachine(cmd.Context(), options, every)
			}
			return a.writeMachine(format, node.Check(cmd.Context(), options, a.now()))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Root, "host-root", "", "directory on which the machine's root is mounted (default: /)")
	flags.BoolVar(&options.Load, "load", true, "try whether a program that does nothing loads, attaches and is called")
	flags.StringVar(&options.Name, "name", "", "the machine's name in the report (default: its host name)")
	flags.DurationVar(&every, "every", 0, "check again and again after this `TIME` until stopped, and write each report as one line of json: what scan --node-probe-logs reads")
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// The bounds of --every. What reads the log takes reports of a longer interval for stale.
const (
	minEvery = time.Second
	maxEvery = kube.MaxProbeInterval
)

func validEvery(flags *pflag.FlagSet, every time.Duration, format string) error {
	switch {
	case !flags.Changed("every"):
		return nil
	case every < minEvery || every > maxEvery:
		return fmt.Errorf("--every %s: want %s to %s", every, minEvery, maxEvery)
	case format == "text" && flags.Changed("output"):
		return errors.New("--every and -o text: a report of --every is a line of json")
	}
	return nil
}

// followMachine writes a report now and after each interval until the context ends. What
// cannot be read is in the report, and is no reason to stop.
func (a *app) followMachine(ctx context.Context, options node.Options, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		m := node.Check(ctx, options, a.now())
		m.EverySeconds = int64((every + time.Second - 1) / time.Second)
		line, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			// What was read while it was stopped is not the whole.
			return nil
		}
		if _, err := a.stdout.Write(append(line, '\n')); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// writeMachine writes a report, and ends the run with the code for its conclusion.
func (a *app) writeMachine(format string, m *kernel.Machine) error {
	var out bytes.Buffer
	if format == "json" {
		enc := json.NewEncoder(&out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(m); err != nil {
			return err
		}
	} else {
		machineText(&out, m)
	}
	if _, err := a.stdout.Write(out.Bytes()); err != nil {
		return err
	}
	switch m.Conclusion {
	case kernel.Yes:
		return nil
	case kernel.No:
		return &exitError{code: exitFindings}
	case kernel.Unknown:
	}
	return &exitError{code: exitIncomplete}
}

// machineText writes a report for people: a line for each reading, what follows from
// them, and how to mend it.
func machineText(out *bytes.Buffer, m *kernel.Machine) {
	fmt.Fprintf(out, "%s: %s, kernel %s, %s\n\n", report.Clean(cmp.Or(m.Node, "this machine")),
		report.Clean(cmp.Or(m.OSImage, "unknown operating system")), report.Clean(cmp.Or(m.Kernel, "unknown")), m.Architecture)
	for _, line := range []struct {
		name    string
		reading kernel.Reading
	}{
		{"security modules", m.LSMs},
		{"lockdown", m.Lockdown},
		{"kernel types (BTF)", m.BTF},
		{"bpf file system", m.BPFFS},
		{"CONFIG_BPF_LSM", m.Config},
		{"CONFIG_LSM", m.ConfigLSM},
		{"boot parameters", m.CommandLine},
		{"no-op LSM program", m.Load},
	} {
		value := report.Clean(line.reading.Value)
		if line.reading.Error != "" {
			value = "unknown: " + report.Clean(line.reading.Error)
		} else if line.reading.Source != "" {
			value += "  (" + report.Clean(line.reading.Source) + ")"
		}
		fmt.Fprintf(out, "  %-18s  %s\n", line.name, value)
	}
	fmt.Fprintf(out, "\nCan this kernel enforce BPF-LSM? %s: %s.\n", m.Conclusion, report.Clean(m.Reason))
	if m.Conclusion == kernel.Yes && m.BPFFS.Value == kernel.Absent {
		fmt.Fprintln(out, "KubeArmor needs the bpf file system too: sudo mount -t bpf bpffs /sys/fs/bpf")
	}
	if how := kernel.HowToTurnOnMachine(m); how != nil {
		turnOnText(out, how)
	}
}

func turnOnText(out *bytes.Buffer, how *kernel.TurnOn) {
	title := "How to turn it on"
	if !how.Possible {
		title = "It cannot be turned on"
	}
	fmt.Fprintf(out, "\n%s (%s):\n", title, report.Clean(how.System))
	for i, step := range how.Steps {
		number := fmt.Sprintf("%d.", i+1)
		for line := range strings.Lines(step) {
			fmt.Fprintf(out, "  %-2s %s\n", number, report.Clean(strings.TrimRight(line, "\n")))
			number = ""
		}
	}
	if how.Possible {
		fmt.Fprintln(out, "  In a managed cluster, what nodes boot with may not be yours to change: scan knows by the node's labels.")
	}
	fmt.Fprintf(out, "  Source: %s\n", report.Clean(how.Source))
}
