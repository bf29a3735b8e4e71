package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

func (a *app) remediateStatusCommand() *cobra.Command {
	f := newClusterFlags()
	var doc documentFlags
	var probes probeFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what there is of a set, what drifted, and whether it bites",
		Long: `Shows for each object of a set whether it is as apply left it, with the difference
where it is not; whether an apply or a rollback was cut short; and by the layers of
the scan whether each policy has its effect, and why not. Without --set it shows all
sets.

It exits with 1 when there is no set, or not all of it is in place.`,
		Example: `  escape-scanner remediate status
  escape-scanner remediate status --set escape-to-host -o json`,
		Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := doc.validate(); err != nil {
				return err
			}
			if err := f.validate(); err != nil {
				return err
			}
			if err := probes.validate(cmd.Flags(), ""); err != nil {
				return err
			}
			if probes.plansOnly() {
				return probes.writePlan(a.stdout)
			}
			p, err := f.patient(a, &probes, cfg)
			if err != nil {
				return noCluster("", err)
			}
			name := ""
			if cmd.Flags().Changed("set") {
				name = f.set
			}
			return noCluster(p.name, a.remediateStatus(cmd.Context(), p, name, f.records, &doc, cmd.Flags(), cfg))
		},
	}
	cluster, _ := kubectlFlags(f.kube)
	which, closer := newFlagSet(), newFlagSet()
	f.addSet(which)
	which.Lookup("set").Usage = "the `NAME` of the one set to show"
	which.Lookup("set").DefValue = ""
	probes.add(closer)
	a.useFlags(cmd, flagGroup{"What is shown", which}, doc.group(),
		flagGroup{"Looking closer, each with rights of its own", withoutFlag(closer, "ask-server")}, flagGroup{"Which cluster, as with kubectl", cluster})
	return cmd
}

func (a *app) remediateStatus(ctx context.Context, p *patient, name, records string, doc *documentFlags, flags *pflag.FlagSet, cfg *config.Config) error {
	names := []string{name}
	version, _, failures, err := p.serverVersion(ctx)
	if err != nil {
		return err
	}
	if name == "" {
		if names, err = remediate.Sets(ctx, p.writes, records); err != nil {
			return err
		}
	}
	all := &report.Standings{Tool: "escape-scanner", Version: a.version, Time: a.now(), Cluster: p.name, ServerVersion: version, Failures: failures, Records: records}
	var unread []error
	for _, name := range names {
		status, err := remediate.ReadStatus(ctx, p.writes, name, remediate.PlanOptions{RecordNamespace: records})
		if err != nil {
			// Of the others there may be something to tell.
			unread = append(unread, err)
			all.Failures = append(all.Failures, scan.FailureOf("set "+name, records, err, "how this set stands"))
			continue
		}
		all.Sets = append(all.Sets, report.Standing{Status: status})
	}
	if len(all.Sets) == 0 && len(unread) > 0 {
		return errors.Join(unread...)
	}
	if err := a.bites(ctx, p, all); err != nil {
		return err
	}
	all.Next = a.afterStatus(all, flags)
	if doc.json() {
		err = report.WriteStatusJSON(a.stdout, all)
	} else {
		err = report.WriteStatus(a.stdout, all, a.planStyle(a.stdout, doc, cfg))
	}
	if err != nil {
		return err
	}
	return a.concludeStatus(ctx, all, cfg)
}

// bites scans the cluster and says of the sets' objects whether they have their effect.
func (a *app) bites(ctx context.Context, p *patient, all *report.Standings) error {
	if !slices.ContainsFunc(all.Sets, func(s report.Standing) bool { return len(s.Status.Objects) > 0 }) {
		return nil
	}
	found := effects{policies: map[string]*scan.Policy{}, workloads: map[string]int{}, pods: map[string]int{}}
	line := a.liveLine()
	defer line.say("")
	opts := scan.ClusterOptions{Start: a.start(p.kind, p.name), Level: psa.LevelBaseline, PSSVersion: scan.PSSServer, Probes: p.probes}
	err := scan.ScanCluster(ctx, p.reads, opts, scan.HandlerFunc(func(e scan.Event) error {
		switch {
		case e.Progress != nil:
			line.say(fmt.Sprintf("reading %s", counted(e.Progress.Pods, "pod")))
		case e.Failure != nil:
			all.Failures = append(all.Failures, *e.Failure)
		case e.Policy != nil:
			found.policies[policyKey(e.Policy.Kind, e.Policy.Namespace, e.Policy.Name)] = e.Policy
		case e.Verdict != nil:
			found.workloads[e.Verdict.Workload.Namespace]++
			found.pods[e.Verdict.Workload.Namespace] += e.Verdict.Pods
		}
		return nil
	}))
	if err != nil {
		return err
	}
	all.Failures = distinctFailures(all.Failures)
	for i := range all.Sets {
		s := &all.Sets[i]
		s.Bites = map[string]report.Bite{}
		for j := range s.Status.Objects {
			o := &s.Status.Objects[j]
			if b, ok := found.of(o); ok {
				s.Bites[o.Object.String()] = b
			}
		}
	}
	return nil
}

func policyKey(kind, namespace, name string) string { return kind + "\x00" + namespace + "\x00" + name }

// effects are what a scan came upon: policies, and what runs in each namespace.
type effects struct {
	policies        map[string]*scan.Policy
	workloads, pods map[string]int
}

// of is what the scan says of an object; ok is false for one that is no policy by
// itself or is not there.
func (f *effects) of(o *remediate.ObjectStatus) (b report.Bite, ok bool) {
	switch o.State {
	case remediate.StateInPlace, remediate.StateAuditing, remediate.StateDrifted:
	default:
		return b, false
	}
	switch o.Object.Kind {
	case "ValidatingAdmissionPolicyBinding":
		return b, false
	case "Namespace":
		return f.ofLabels(o)
	}
	found := f.policies[policyKey(o.Object.Kind, o.Object.Namespace, o.Object.Name)]
	if found == nil {
		return report.Bite{Bites: scan.BitesUnknown, Reasons: []string{"the scan came upon no policy of this name"}}, true
	}
	return report.Bite{Bites: found.Bites, Workloads: found.Workloads, Pods: found.Pods, Reasons: found.Reasons}, true
}

// ofLabels is what pod-security labels do: the API server goes by them itself, so a scan
// has no policy of them.
func (f *effects) ofLabels(o *remediate.ObjectStatus) (b report.Bite, ok bool) {
	if o.State == remediate.StateDrifted {
		// Which labels are left only the difference tells.
		return b, false
	}
	b = report.Bite{Bites: scan.BitesYes, Workloads: f.workloads[o.Object.Name], Pods: f.pods[o.Object.Name]}
	b.Reasons = []string{"the API server refuses by the label enforce, unless its configuration exempts the pods from Pod Security"}
	if o.Stage != remediate.StageEnforce {
		b.Bites, b.Reasons = scan.BitesNo, []string{"the labels only audit and warn, which refuses nothing"}
	}
	return b, true
}

// afterStatus are the commands that finish, mend or take back the first set that needs it.
func (a *app) afterStatus(all *report.Standings, flags *pflag.FlagSet) []string {
	for i := range all.Sets {
		status := all.Sets[i].Status
		if status.Phase == remediate.PhaseNone || inPlace(status) {
			continue
		}
		which := notOf(flags, kubeFlagNames())
		back := a.command("rollback", flags, which...) + foundBy(status.Set, all.Records) + "   puts back what was before"
		if status.Phase == remediate.PhaseRollingBack {
			return []string{back}
		}
		return []string{a.command("apply", flags, which...) + meantBy(&status.Options) + foundBy(status.Set, all.Records) + "   brings it in place", back}
	}
	return nil
}

// inPlace is whether all of a set is as it is meant to be.
func inPlace(s *remediate.Status) bool {
	return s.Phase == remediate.PhaseApplied && s.Unfinished == "" && !slices.ContainsFunc(s.Objects, func(o remediate.ObjectStatus) bool {
		return o.State != remediate.StateInPlace && o.State != remediate.StateAuditing && o.State != remediate.StateUnreadable
	})
}

// meantBy are the flags that mean the options, foundBy those by which the set is found.
func meantBy(o *set.Options) string {
	words := ""
	add := func(flag, value, fallback string) {
		if value != fallback {
			words += " " + flag + " " + shellWord(value)
		}
	}
	if add("-n", strings.Join(o.Scope.Namespaces, ","), ""); len(o.Scope.Namespaces) == 0 {
		words += " -A"
	}
	add("--exclude", strings.Join(o.Scope.Exclude, ","), "")
	add("-l", labels.Set(o.Scope.Labels).String(), "")
	add("--admission", string(o.Admission), "")
	add("--level", string(o.Level), string(psa.LevelBaseline))
	add("--pss-version", o.PSSVersion, "latest")
	add("--action", string(o.Action), string(set.ActionBlock))
	add("--fit", string(o.Fit), string(set.FitFull))
	add("--only", strings.Join(o.Only, ","), "")
	add("--without", strings.Join(o.Without, ","), "")
	return words
}

func foundBy(name, records string) string {
	words := ""
	if name != set.DefaultName {
		words += " --set " + shellWord(name)
	}
	if records != remediate.DefaultRecordNamespace {
		words += " --record-namespace " + shellWord(records)
	}
	return words
}

// concludeStatus turns what there is into the exit code.
func (a *app) concludeStatus(ctx context.Context, all *report.Standings, cfg *config.Config) error {
	if ctx.Err() != nil {
		a.complain("interrupted", "the result is not whole")
		return &exitError{code: exitInterrupted}
	}
	unreadable, amiss := len(all.Failures), false
	for i := range all.Sets {
		amiss = amiss || !inPlace(all.Sets[i].Status)
		for _, o := range all.Sets[i].Status.Objects {
			if o.State == remediate.StateUnreadable {
				unreadable++
			}
		}
	}
	switch {
	case unreadable > 0 && !cfg.AllowIncomplete:
		a.complain("incomplete", fmt.Sprintf("%s could not be read%s", counted(unreadable, "thing"), incompleteHint(cfg)))
		return &exitError{code: exitIncomplete}
	case len(all.Sets) == 0:
		a.complain("note", fmt.Sprintf("no set is in this cluster (exit code %d)", exitFindings))
	case amiss:
		a.complain("drift", fmt.Sprintf("not everything is in place (exit code %d)", exitFindings))
	default:
		return nil
	}
	return &exitError{code: exitFindings}
}
