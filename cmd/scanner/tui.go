package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/tui"
)

// tuiFlags are the flags of tui: those of a watch, and what else can be looked at.
type tuiFlags struct {
	watchFlags
	files []string
	from  string
	theme string
}

// themes are the words of --theme.
func themes() []string { return []string{"auto", "light", "dark"} }

func (a *app) tuiCommand() *cobra.Command {
	f := &tuiFlags{watchFlags: newWatchFlags()}
	cmd := &cobra.Command{
		Use:   "tui",
		Short: "Look at a cluster, manifests or an earlier run in the terminal",
		Long: `Shows on the whole terminal what scan and watch tell: verdicts, every escape path
against the three layers, the evidence for each node, and attacks as they happen; and
plans, shows and carries out what closes ways out, after a typed confirmation.

A cluster is followed as it changes (all namespaces, unless -n is given). Press ? for
the keys.`,
		Example: `  escape-scanner tui --demo              with recorded attacks, and no cluster at all
  escape-scanner tui
  escape-scanner tui -n payments,shop --no-alerts
  escape-scanner tui -f deploy/
  escape-scanner tui --from run.jsonl`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, origins, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := f.validate(cmd, cfg); err != nil {
				return err
			}
			f.settlePace(cmd)
			reload := func() (*config.Config, config.Origins, error) { return a.load(cmd.Flags()) }
			return a.tui(cmd.Context(), f, cmd, cfg, origins.File, reload)
		},
	}
	f.addFlags(cmd, a)
	return cmd
}

func (f *tuiFlags) addFlags(cmd *cobra.Command, a *app) {
	what := newFlagSet()
	what.StringSliceVarP(&f.files, "filename", "f", nil, "look at manifests: a `PATH` of a file or directory, or - for standard input; may be repeated")
	what.BoolVar(&f.demo, "demo", false, "look at the demo cluster that is part of the program, with recorded attacks")
	what.StringVar(&f.from, "from", "", "look at an earlier run: a `FILE` of -o jsonl or json, or - for standard input")
	cluster := addScopeFlags(what, f.kube, &f.allNamespaces, &f.selector, "follow")
	addProbeLogs(what, &f.probeLogs)
	alerts := newFlagSet()
	f.addAlerts(alerts)
	how := newFlagSet()
	config.AddFlagsOf(how, config.KeyLevel, config.KeyPSSVersion, config.KeyColor)
	how.StringVar(&f.theme, "theme", "auto", "colours for a `BACKGROUND`: "+strings.Join(themes(), ", "))
	config.AddFlagsOf(how, config.KeyPageSize)
	a.useFlags(cmd, flagGroup{"What is looked at", what}, flagGroup{"Alerts of KubeArmor", alerts},
		flagGroup{"How it is judged and drawn", how}, flagGroup{"Which cluster, as with kubectl", cluster})
}

// still is the flag by which no cluster is followed, empty when one is.
func (f *tuiFlags) still() string {
	switch {
	case len(f.files) > 0:
		return "-f"
	case f.from != "":
		return "--from"
	}
	return ""
}

func (f *tuiFlags) validate(cmd *cobra.Command, cfg *config.Config) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("filename") && (len(f.files) == 0 || slices.Contains(f.files, "")):
		return errors.New("-f: want a file, a directory or -, have nothing")
	case changed("from") && f.from == "":
		return errors.New("--from: want a file or -, have nothing")
	case len(f.files) > 0 && f.from != "":
		return errors.New("-f and --from: use one of them")
	case f.still() != "" && f.demo:
		return fmt.Errorf("%s and --demo: use one of them", f.still())
	}
	if err := oneOf("theme", f.theme, themes()); err != nil {
		return err
	}
	if f.still() == "" {
		return f.watchFlags.validate(cmd, cfg)
	}
	for _, name := range slices.Concat(
		[]string{"context", "cluster", "server", "selector", "all-namespaces", "namespace", "replay", "pace", "no-alerts", flagProbeLogs}, kubeArmorKeys()) {
		if changed(name) {
			return fmt.Errorf("--%s: speaks of a cluster, and %s reads none", name, f.still())
		}
	}
	if f.from != "" && (changed(config.KeyLevel) || changed(config.KeyPSSVersion)) {
		return errors.New("--from shows what was judged; scan again to judge by another level or version")
	}
	return nil
}

// endPatience is how long the run behind the screen may take to end.
const endPatience = 20 * time.Second

// tui shows a run on the terminal, until the user leaves it.
func (a *app) tui(ctx context.Context, f *tuiFlags, cmd *cobra.Command, cfg *config.Config, file string, reload loader) error {
	in, out, err := a.screenFiles(f)
	if err != nil {
		return err
	}
	defer in.Close()
	// A terminal that goes, as with a lost connection, ends the program as other signals do:
	// changes end between two of them.
	ctx, deaf := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer deaf()
	feed := tui.NewFeed(a.now)
	// What the run has to say of itself must not be written over the screen.
	quiet := a.onto(feed)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	source, err := quiet.source(ctx, f, cfg, file, reload, feed)
	if err != nil {
		return err
	}
	defer source.close()
	ended := make(chan error, 1)
	go func() {
		err := source.run(ctx)
		feed.Close(err)
		ended <- err
	}()
	opts := tui.Options{
		Source: source.name, Feed: feed, Rules: scan.Rules(), NoRemedy: source.noRemedy,
		Export: a.exporter(cfg), Formats: config.Words(config.KeyOutput), Copy: a.copyText, Now: a.now, Theme: f.theme, Color: cfg.Color,
	}
	if source.noRemedy == "" {
		opts.Remedy = quiet.remedy(f, cmd)
	}
	err = tui.Run(ctx, opts, in, out)
	stop()
	runErr := bounded(ctx, endPatience, func() error { return <-ended })
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{code: exitInterrupted}
	case err != nil:
		return err
	}
	return runErr
}

// screenFiles are the terminal that is drawn on and read from. Where standard input is
// what is looked at, keys come from the terminal itself.
func (a *app) screenFiles(f *tuiFlags) (in, out *os.File, err error) {
	const hint = "; for pipes and files there are scan and watch"
	out, ok := a.stdout.(*os.File)
	if _, terminal := a.terminalWidth(a.stdout); !ok || !terminal {
		return nil, nil, errors.New("tui: standard output is no terminal" + hint)
	}
	if f.from == "-" || f.replay == "-" || slices.Contains(f.files, "-") {
		if in, err = os.Open("/dev/tty"); err != nil {
			return nil, nil, fmt.Errorf("tui: standard input is read, and there is no terminal for keys: %w", err)
		}
		return in, out, nil
	}
	in, ok = a.stdin.(*os.File)
	if !ok || !a.terminalInput(a.stdin) {
		return nil, nil, errors.New("tui: standard input is no terminal" + hint)
	}
	return in, out, nil
}
