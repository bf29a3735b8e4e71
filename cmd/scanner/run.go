package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/report"
)

// The exit codes.
const (
	exitOK          = 0
	exitFindings    = 1
	exitUsage       = 2
	exitIncomplete  = 3
	exitInterrupted = 130
)

// exitError ends the run with a code of its own. Without an error nothing is
// printed: the output has said it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// app is what the commands share.
type app struct {
	deps
	stdin          io.Reader
	stdout, stderr io.Writer
	configFile     string
}

// run is the whole program: everything it reads and writes comes in by arguments.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, d deps) int {
	a := &app{deps: d, stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	if strings.TrimSuffix(d.program, ".exe") == kubectlCompletion {
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	helpAnyway(root, args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitUsage, err: err}
	}
	if ctx.Err() != nil {
		exit.code = exitInterrupted
		if errors.Is(exit.err, context.Canceled) {
			exit.err = nil
			a.complain("interrupted", "the scan was stopped before it began")
		}
	}
	if exit.err != nil {
		a.complain("error", exit.err.Error())
	}
	return exit.code
}

// complain writes a message to stderr, harmless to a terminal.
func (a *app) complain(kind, msg string) {
	for line := range strings.Lines(msg) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(a.stderr, "escape-scanner: %s: %s\n", kind, report.Clean(line))
		}
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "escape-scanner",
		Short: "Find out what in a Kubernetes cluster can get out to its host",
		Long: `escape-scanner tells, for every workload of a cluster or of manifests, which ways
out to the host its pods leave open: by the Pod Security Standards, control by
control with the field to change, and by a table of escape paths beyond them.

Exit codes: 0 nothing at or above --fail-on, 1 findings at or above it, 2 wrong
usage or configuration, or no cluster, 3 something could not be read and
--allow-incomplete was not given, 130 interrupted. A watch that is stopped ends
with 0.`,
		Example: `  escape-scanner scan --demo             the demo cluster, to see what comes out
  escape-scanner scan -f deploy/         manifests
  escape-scanner scan                    the cluster of the current context
  escape-scanner tui --demo              to look around in, in the terminal
  escape-scanner watch                   the same as it changes, with KubeArmor's alerts
  escape-scanner diff OLD NEW            what changed between two saved runs
  escape-scanner remediate plan -n NS    what closing its ways out would change, and break
  escape-scanner rules explain ID        what a rule means`,
		Version:       a.version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          commandsOnly,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if strings.HasPrefix(a.program, "kubectl-") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl escape-scanner"}
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration file (default: ./.escape-scanner.yaml, else escape-scanner/config.yaml in the user's configuration directory)")
	root.AddCommand(a.scanCommand(), a.mergeCommand(), a.diffCommand(), a.watchCommand(), a.tuiCommand(), a.remediateCommand(), a.nodeCommand(), a.rulesCommand(), a.configCommand(), a.versionCommand(), a.manCommand())
	completeClusters(root)
	root.SetFlagErrorFunc(flagError)
	return root
}

// load reads the configuration in force for a command with these flags.
func (a *app) load(flags *pflag.FlagSet) (*config.Config, config.Origins, error) {
	file := a.configFile
	if file != "" {
		file = a.path(file)
	}
	cfg, origins, err := config.Load(config.Options{
		File: file, Flags: flags, Environ: a.environ, WorkDir: a.workDir, UserConfigDir: a.userConfigDir,
	})
	if err != nil {
		return nil, origins, err
	}
	return cfg, origins, cfg.CheckRules(ruleIDs())
}
