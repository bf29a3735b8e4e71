package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// planFlags are the flags of plan, which apply has too.
type planFlags struct {
	setFlags
	documentFlags
	probes  probeFlags
	alerts  string
	observe time.Duration
	accept  []string
	stage   string
	force   bool
	demo    bool
}

func (f *planFlags) groups() []flagGroup {
	whom, what, cluster := f.setFlags.groups()
	fs := newFlagSet()
	fs.StringSliceVar(&f.accept, "accept", nil, "accept that these `WORKLOADS` (NAMESPACE/KIND/NAME) break; may be repeated")
	fs.StringVar(&f.stage, "stage", "all", "how far to go: `STAGE` is "+strings.Join(stages(), ", ")+"; audit brings in what only reports")
	fs.BoolVar(&f.force, "force-conflicts", false, "take over fields that another manager owns; rollback gives them back")
	evidence := newFlagSet()
	evidence.StringVar(&f.alerts, "alerts", "", "judge by the alerts in this `FILE` too, a recording of KubeArmor's, one alert in JSON a line")
	evidence.DurationVar(&f.observe, "observe", 0, "judge by the alerts that KubeArmor raises during this `TIME` too, as in 10m")
	config.AddFlagsOf(evidence, kubeArmorKeys()...)
	closer := newFlagSet()
	f.probes.add(closer)
	// A plan asks the API server anyway.
	evidence.AddFlagSet(withoutFlag(closer, "ask-server"))
	return []flagGroup{whom, what, {"How it is brought in", fs}, {"What is known of the workloads", evidence}, f.group(), cluster}
}

// validate refuses what cannot be meant together.
func (f *planFlags) validate(flags *pflag.FlagSet) error {
	if err := f.documentFlags.validate(); err != nil {
		return err
	}
	offline := ""
	if f.demo {
		offline = "--demo"
	}
	if err := f.probes.validate(flags, offline); err != nil {
		return err
	}
	if err := oneOf("stage", f.stage, stages()); err != nil {
		return err
	}
	for _, name := range f.accept {
		if _, err := report.ParseWorkload(name); err != nil {
			return fmt.Errorf("--accept: %w", err)
		}
	}
	switch {
	case flags.Changed("alerts") && f.alerts == "":
		return errors.New("--alerts: want a file or -, have nothing")
	case flags.Changed("observe") && f.observe <= 0:
		return fmt.Errorf("--observe %s: want more than nothing", f.observe)
	case f.alerts != "" && f.observe > 0:
		return errors.New("--alerts and --observe: use one of them")
	case f.demo && f.observe > 0:
		return errors.New("--observe: listens to a cluster, and --demo has none")
	case f.observe > 0:
		return nil
	}
	for _, key := range kubeArmorKeys() {
		if !flags.Changed(key) {
			continue
		}
		what := "how"
		if key == config.KeyKubeArmor {
			what = "where"
		}
		return fmt.Errorf("--%s: says %s --observe listens, which was not asked for", key, what)
	}
	return nil
}

func (a *app) remediatePlanCommand() *cobra.Command {
	f := &planFlags{setFlags: newSetFlags()}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and what that would break",
		Long: `Shows every object that apply would make or change, by a dry run of the API server,
with the difference to what is there; and for each workload what would happen to it:
what breaks, what may break, what the set does not protect, what is safe. It changes
nothing.`,
		Example: `  escape-scanner remediate plan -n shop,payments
  escape-scanner remediate plan -A --exclude monitoring --observe 10m
  escape-scanner remediate plan -A --without tools --fit precise -o json
  escape-scanner remediate plan -A --demo            on a cluster that is part of the program`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			return a.remediatePlan(cmd.Context(), f, cmd.Flags(), cfg)
		},
	}
	groups := f.groups()
	groups[0].flags.BoolVar(&f.demo, "demo", false, "plan for the demo cluster that is part of the program")
	a.useFlags(cmd, groups...)
	return cmd
}

func (a *app) remediatePlan(ctx context.Context, f *planFlags, flags *pflag.FlagSet, cfg *config.Config) error {
	if f.probes.plansOnly() {
		return f.probes.writePlan(a.stdout)
	}
	p, err := a.makePlan(ctx, f, flags, cfg)
	if err != nil {
		return err
	}
	p.view.Next = p.next(a, flags)
	if err := a.writePlan(&f.documentFlags, cfg, &p.view); err != nil {
		return err
	}
	return a.concludePlan(&p.view, cfg)
}

// planned is a plan with what it was made of.
type planned struct {
	patient *patient
	sight   *sight
	view    report.Remediation
}

// makePlan reads the cluster and makes the plan that the flags ask for.
func (a *app) makePlan(ctx context.Context, f *planFlags, flags *pflag.FlagSet, cfg *config.Config) (*planned, error) {
	if err := f.validate(flags); err != nil {
		return nil, err
	}
	opts, err := f.options(a, flags, cfg)
	if err != nil {
		return nil, err
	}
	p, err := a.planPatient(ctx, f, cfg)
	if err != nil {
		return nil, err
	}
	plan, err := a.planFor(ctx, f, p, opts, cfg)
	return plan, noCluster(p.name, err)
}

func (a *app) planPatient(ctx context.Context, f *planFlags, cfg *config.Config) (*patient, error) {
	if f.demo {
		return demoPatient(ctx)
	}
	p, err := f.patient(a, &f.probes, cfg)
	return p, noCluster("", err)
}

func (a *app) planFor(ctx context.Context, f *planFlags, p *patient, opts set.Options, cfg *config.Config) (*planned, error) {
	line := a.liveLine()
	defer line.say("")
	line.say("asking the API server what it serves")
	var why string
	var err error
	if opts.Admission, why, err = p.choose(ctx, opts); err != nil {
		return nil, err
	}
	s, err := p.look(ctx, a, line, opts.Scope)
	if err != nil {
		return nil, err
	}
	accepted, err := acceptedWorkloads(f.accept, s.inventory.Workloads)
	if err != nil {
		return nil, err
	}
	if err := a.listen(ctx, f, p, s, cfg, line); err != nil {
		return nil, err
	}
	facts := factsOf(s.inventory.Namespaces)
	facts.Workloads, facts.Unseen = s.inventory.Workloads, s.inventory.Unseen
	rendered, err := renderSet(opts, facts)
	if err != nil {
		return nil, err
	}
	line.say(fmt.Sprintf("dry run of %s", counted(len(rendered.Objects), "object")))
	plan, err := remediate.NewPlan(ctx, p.writes, rendered, f.planOptions())
	if err != nil {
		return nil, err
	}
	judged := preview.Judge(preview.Input{
		Set: rendered, Workloads: s.inventory.Workloads, Namespaces: s.inventory.Namespaces,
		Nodes: s.around.Nodes, Containers: s.inventory.Containers, Server: s.standards, Today: s.around.Admission, InForce: s.around.Policies,
		Alerts: s.alerts, Accepted: accepted, Excepted: a.excepted(cfg, s.inventory.Workloads), Failures: s.failures,
	})
	return &planned{patient: p, sight: s, view: report.Remediation{
		Tool: "escape-scanner", Version: a.version, Time: a.now(), Cluster: p.name, ServerVersion: s.version,
		Set: rendered, Admission: why, Plan: plan, Preview: judged,
	}}, nil
}

func (f *planFlags) planOptions() remediate.PlanOptions {
	opts := remediate.PlanOptions{RecordNamespace: f.records, Force: f.force}
	if f.stage != "all" {
		opts.Stages = []remediate.Stage{remediate.Stage(f.stage)}
	}
	return opts
}

// acceptedWorkloads finds those that --accept names. One that is not there is a
// mistake: what it was meant for would not be accepted.
func acceptedWorkloads(names []string, workloads []targets.Workload) ([]scan.Workload, error) {
	var out []scan.Workload
	for _, name := range names {
		want, err := report.ParseWorkload(name)
		if err != nil {
			return nil, fmt.Errorf("--accept: %w", err)
		}
		found := false
		for i := range workloads {
			w := workloads[i].Workload
			if w.Namespace == want.Namespace && w.Name == want.Name && strings.EqualFold(w.Kind, want.Kind) {
				out, found = append(out, w), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--accept %s: no such workload is in scope", name)
		}
	}
	return out, nil
}

// excepted tells of a workload whether an exception of the configuration speaks of it.
func (a *app) excepted(cfg *config.Config, workloads []targets.Workload) func(scan.Workload) (string, bool) {
	images := map[scan.Workload]map[string]string{}
	for i := range workloads {
		w := &workloads[i]
		byName := map[string]string{}
		for _, s := range w.Specimens {
			for _, c := range slices.Concat(s.Pod.Spec.InitContainers, s.Pod.Spec.Containers) {
				byName[c.Name] = c.Image
			}
		}
		images[w.Workload] = byName
	}
	list, now := exceptions(cfg), a.now()
	return func(w scan.Workload) (string, bool) {
		for i := range list {
			if x := &list[i]; !x.Expired(now) && x.MatchesWorkload(w, images[w]) {
				return fmt.Sprintf("%s (the exception at %s:%d)", x.Reason, x.File, x.Line), true
			}
		}
		return "", false
	}
}

// writePlan writes the plan in the format that was asked for.
func (a *app) writePlan(f *documentFlags, cfg *config.Config, r *report.Remediation) error {
	if f.json() {
		return report.WritePlanJSON(a.stdout, r)
	}
	return report.WritePlan(a.stdout, r, a.planStyle(a.stdout, f, cfg))
}

// showPlan writes the plan that is about to be done. Where standard output is for one
// document at the end, whoever is asked reads it on standard error.
func (a *app) showPlan(f *documentFlags, do doFlags, cfg *config.Config, r *report.Remediation) error {
	switch {
	case !f.json():
		return a.writePlan(f, cfg, r)
	case !do.yes:
		return report.WritePlan(a.stderr, r, a.planStyle(a.stderr, f, cfg))
	}
	return nil
}

func (a *app) planStyle(w io.Writer, f *documentFlags, cfg *config.Config) report.PlanOptions {
	return report.PlanOptions{
		Width: a.width(w), Color: a.color(cfg.Color, w), Diffs: report.Diffs(f.diff), Verbose: f.verbose,
	}
}

// next are the commands that could follow the plan.
func (p *planned) next(a *app, flags *pflag.FlagSet) []string {
	view := &p.view
	refused := view.Preview.Refused()
	// How it is done and shown once is no part of what is meant.
	how := []string{"output", "diff", "verbose", "yes", "wait"}
	switch {
	case p.patient.live == nil:
		return []string{a.command("plan", flags, "demo") + "   plans for the cluster of the current context"}
	case len(view.Plan.Blocked()) > 0:
		next := []string{a.command("plan", flags, how...) + "   once what blocks is mended"}
		if slices.ContainsFunc(view.Plan.Blocked(), func(c remediate.Change) bool { return c.Block.By == remediate.BlockedByConflict }) && !flags.Changed("force-conflicts") {
			next = append(next, a.command("plan", flags, how...)+" --force-conflicts   takes over what others own")
		}
		return next
	case len(refused) > 0:
		next := []string{a.command("apply", flags, how...) + " " + acceptFlags(refused) + "   breaks them knowingly"}
		if view.Set.Options.Fit == set.FitFull && len(view.Set.Spared) > 0 {
			next = append(next, a.command("plan", flags, append(how, "fit")...)+" --fit precise   spares what protects nothing")
		}
		return next
	case !view.Plan.Idle():
		return []string{a.command("apply", flags, how...)}
	}
	return []string{a.command("status", flags, notOf(flags, statusFlagNames())...)}
}

// acceptFlags accept workloads, or say how.
func acceptFlags(refused []preview.Workload) string {
	const most = 3
	if len(refused) > most {
		return "--accept NAMESPACE/KIND/NAME …"
	}
	var words []string
	for _, w := range refused {
		words = append(words, "--accept "+shellWord(w.Workload.String()))
	}
	return strings.Join(words, " ")
}

// concludePlan turns a plan into the exit code, and says on stderr why it is not 0.
func (a *app) concludePlan(r *report.Remediation, cfg *config.Config) error {
	code := exitOK
	if refused := r.Preview.Refused(); len(refused) > 0 {
		a.complain("breaks", fmt.Sprintf("%s would break, and nobody accepted that (exit code %d)", counted(len(refused), "workload"), exitFindings))
		code = exitFindings
	}
	if n := len(r.Preview.Failures); n > 0 {
		a.complain("incomplete", fmt.Sprintf("%s could not be read, so what is called safe is not proven%s", counted(n, "thing"), incompleteHint(cfg)))
		if !cfg.AllowIncomplete {
			code = exitIncomplete
		}
	}
	if n := len(r.Plan.Blocked()); n > 0 {
		a.complain("blocked", fmt.Sprintf("%s of the plan cannot be made (exit code %d)", counted(n, "change"), exitIncomplete))
		code = exitIncomplete
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

func incompleteHint(cfg *config.Config) string {
	if cfg.AllowIncomplete {
		return " (accepted by --allow-incomplete)"
	}
	return fmt.Sprintf(" (exit code %d; --allow-incomplete accepts it)", exitIncomplete)
}

// noCluster says of an error of the way to the cluster what needs none.
func noCluster(name string, err error) error {
	const hint = "without a cluster, try plan --demo, or render"
	if err == nil {
		return nil
	}
	if name == "" {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return fmt.Errorf("cluster %s: %w (%s%s)", name, err, nobodyNamed(name), hint)
	}
	if _, ok := errors.AsType[*remediate.RecordError](err); ok {
		return &exitError{code: exitIncomplete, err: err}
	}
	return err
}
