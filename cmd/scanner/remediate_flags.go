package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
)

// clusterFlags say which cluster a verb of remediate is for, and where its records are.
type clusterFlags struct {
	kube    *genericclioptions.ConfigFlags
	set     string
	records string
}

func newClusterFlags() clusterFlags {
	return clusterFlags{kube: genericclioptions.NewConfigFlags(true)}
}

// addSet registers the flags by which a set is found again.
func (f *clusterFlags) addSet(fs *pflag.FlagSet) {
	fs.StringVar(&f.set, "set", set.DefaultName, "the `NAME` of the set, which begins the names of its objects")
	fs.StringVar(&f.records, "record-namespace", remediate.DefaultRecordNamespace, "the `NAMESPACE` that keeps the record of what was before")
}

func (f *clusterFlags) validate() error {
	if wrong := validation.IsDNS1123Label(f.set); len(wrong) > 0 {
		return fmt.Errorf("--set %q: %s", f.set, wrong[0])
	}
	if wrong := validation.IsDNS1123Label(f.records); len(wrong) > 0 {
		return fmt.Errorf("--record-namespace %q: %s", f.records, wrong[0])
	}
	return validTimeout(f.kube)
}

// connect makes the client of the cluster, and gives its name for people.
func (f *clusterFlags) connect(cfg *config.Config) (*kube.Cluster, string, error) {
	rest, err := f.kube.ToRESTConfig()
	if err != nil {
		return nil, "", fmt.Errorf("cluster: %w", err)
	}
	cluster, err := kube.NewCluster(rest, kube.Options{PageSize: int64(cfg.PageSize)})
	if err != nil {
		return nil, "", err
	}
	return cluster, contextName(f.kube, rest.Host), nil
}

// setFlags say what set is meant, for whom.
type setFlags struct {
	clusterFlags
	allNamespaces          bool
	selector               string
	exclude, only, without []string
	admission, action, fit string
}

func newSetFlags() setFlags { return setFlags{clusterFlags: newClusterFlags()} }

// The words of the flags.
func admissions() []string {
	var words []string
	for _, a := range set.Admissions() {
		words = append(words, string(a))
	}
	return words
}
func setActions() []string { return []string{string(set.ActionBlock), string(set.ActionAudit)} }
func fits() []string       { return []string{string(set.FitFull), string(set.FitPrecise)} }
func stages() []string {
	return []string{"all", string(remediate.StageAudit), string(remediate.StageEnforce)}
}

// groups registers the flags and gives them under headings, who it is for first.
func (f *setFlags) groups() (whom, what flagGroup, cluster flagGroup) {
	kubeFlags, namespace := kubectlFlags(f.kube)
	who := newFlagSet()
	namespace.Usage = "for these `NAMESPACES`, several separated by commas"
	who.AddFlag(namespace)
	who.BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "for the whole cluster, also its namespaces to come; "+strings.Join(targets.Always(), ", ")+" are always left out")
	who.StringSliceVar(&f.exclude, "exclude", nil, "with -A, leave out these `NAMESPACES` too")
	who.StringVarP(&f.selector, "selector", "l", "", "only for the pods with these `LABELS` (key=value, all of them)")

	how := newFlagSet()
	how.StringVar(&f.admission, "admission", string(set.AdmissionAuto), "what rules on admission: `HOW` is "+strings.Join(admissions(), ", ")+"; auto takes what the API server serves")
	setLevel := newFlagSet()
	config.AddFlagsOf(setLevel, config.KeyLevel, config.KeyPSSVersion)
	level, version := setLevel.Lookup(config.KeyLevel), setLevel.Lookup(config.KeyPSSVersion)
	level.Usage = "admission refuses what this `LEVEL` of the Pod Security Standards refuses: " + strings.Join(config.Words(config.KeyLevel), ", ")
	version.Usage = "`VERSION` of the Pod Security Standards that admission applies: server or latest (that of the API server, always), or v1.N"
	how.AddFlag(level)
	how.AddFlag(version)
	how.StringVar(&f.action, "action", string(set.ActionBlock), "what the set does in the end: `ACTION` is "+strings.Join(setActions(), ", "))
	how.StringVar(&f.fit, "fit", string(set.FitFull), "how closely the KubeArmor policies are cut: full, or precise (each workload gets what protects something there)")
	how.StringSliceVar(&f.only, "only", nil, "only these `PARTS` of the set: admission, capabilities, chroot, tools, or one of their elements (sys_admin, curl)")
	how.StringSliceVar(&f.without, "without", nil, "all `PARTS` but these, or elements (dac_override, curl)")
	f.addSet(how)
	return flagGroup{"For whom", who}, flagGroup{"What is brought in", how}, flagGroup{"Which cluster, as with kubectl", kubeFlags}
}

// useFlags gives a command its flags, with completion of words.
func (a *app) useFlags(cmd *cobra.Command, groups ...flagGroup) {
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	words := map[string][]string{
		"admission": admissions(), "action": setActions(), "fit": fits(), "stage": stages(),
		"diff": diffWords(), "output": documentFormats(),
		config.KeyLevel: config.Words(config.KeyLevel), config.KeyPSSVersion: config.Words(config.KeyPSSVersion), config.KeyColor: config.Words(config.KeyColor),
	}
	for name, list := range words {
		if cmd.Flags().Lookup(name) != nil {
			// It fails only for a flag that is not there.
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		return writeUsage(cmd.OutOrStderr(), cmd, groups, a.width(a.stdout))
	})
}

// oneOf is the error of a word that is none of those that a flag takes.
func oneOf(flag, have string, words []string) error {
	if slices.Contains(words, have) {
		return nil
	}
	return fmt.Errorf("--%s: want one of %s, have %q", flag, strings.Join(words, ", "), have)
}

// options are the set that the flags mean. Admission may still be auto.
func (f *setFlags) options(a *app, flags *pflag.FlagSet, cfg *config.Config) (set.Options, error) {
	if err := f.validate(); err != nil {
		return set.Options{}, err
	}
	for _, word := range []struct {
		flag, have string
		words      []string
	}{{"admission", f.admission, admissions()}, {"action", f.action, setActions()}, {"fit", f.fit, fits()}} {
		if err := oneOf(word.flag, word.have, word.words); err != nil {
			return set.Options{}, err
		}
	}
	scope, err := f.scope(flags)
	if err != nil {
		return set.Options{}, err
	}
	scope.Own = a.ownNamespace
	version := cfg.PSSVersion
	if version == scan.PSSServer {
		// The same by another name: whoever enforces it is the API server, or asks it.
		version = "latest"
	}
	o := set.Options{
		Name: f.set, Scope: scope, Admission: set.Admission(f.admission), Level: psa.Level(cfg.Level), PSSVersion: version,
		Action: set.Action(f.action), Fit: set.Fit(f.fit), Only: f.only, Without: f.without,
	}
	return o, o.Validate()
}

// scope is for whom the set is. Nobody gets the whole cluster by leaving a flag out.
func (f *setFlags) scope(flags *pflag.FlagSet) (targets.Scope, error) {
	var s targets.Scope
	names := splitNames(*f.kube.Namespace)
	switch {
	case flags.Changed("namespace") && len(names) == 0:
		return s, errors.New("-n: want the name of a namespace, have nothing")
	case f.allNamespaces && len(names) > 0:
		return s, errors.New("-A and -n: use one of them")
	case !f.allNamespaces && len(names) == 0:
		return s, errors.New("say whom it is for: -n NAMESPACE (several with commas), or -A for the whole cluster")
	case len(f.exclude) > 0 && !f.allNamespaces:
		return s, errors.New("--exclude: leaves namespaces out of the whole cluster, and -n names those that are meant")
	case flags.Changed("selector") && strings.TrimSpace(f.selector) == "":
		return s, errors.New("-l: want key=value, have nothing")
	}
	matched, err := equalLabels(f.selector)
	if err != nil {
		return s, err
	}
	return targets.Scope{Namespaces: names, Exclude: f.exclude, Labels: matched}, nil
}

// splitNames takes a list with commas apart.
func splitNames(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// equalLabels reads a selector that not only the API server understands: every
// product must mean the same pods by it.
func equalLabels(selector string) (map[string]string, error) {
	parsed, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("-l %q: %w", selector, err)
	}
	requirements, _ := parsed.Requirements()
	var out map[string]string
	for _, r := range requirements {
		op := r.Operator()
		if op != selection.Equals && op != selection.DoubleEquals {
			return nil, fmt.Errorf("-l %q: want key=value, have %q: KubeArmor's policies select by nothing else, and all parts must mean the same pods", selector, r.String())
		}
		if _, twice := out[r.Key()]; twice {
			return nil, fmt.Errorf("-l %q: label %s is given twice, and no pod has two values of it", selector, r.Key())
		}
		if out == nil {
			out = map[string]string{}
		}
		out[r.Key()], _ = r.Values().PopAny()
	}
	return out, nil
}

// withoutFlag are the flags but for one.
func withoutFlag(fs *pflag.FlagSet, name string) *pflag.FlagSet {
	rest := newFlagSet()
	fs.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != name {
			rest.AddFlag(flag)
		}
	})
	return rest
}

// documentFlags say how a verb writes.
type documentFlags struct {
	format, diff string
	verbose      bool
}

func documentFormats() []string { return []string{"table", "json"} }
func diffWords() []string       { return []string{"auto", "full", "none"} }

func (f *documentFlags) group() flagGroup {
	fs := newFlagSet()
	fs.StringVarP(&f.format, "output", "o", "table", "`FORMAT` to write: "+strings.Join(documentFormats(), ", "))
	fs.StringVar(&f.diff, "diff", "auto", "how much of the differences to show: `WHEN` is "+strings.Join(diffWords(), ", ")+"; auto leaves out the text of new objects")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "spell out what is otherwise counted")
	config.AddFlagsOf(fs, config.KeyColor, config.KeyAllowIncomplete, config.KeyPageSize)
	return flagGroup{"How it is written", fs}
}

func (f *documentFlags) validate() error {
	if err := oneOf("output", f.format, documentFormats()); err != nil {
		return err
	}
	return oneOf("diff", f.diff, diffWords())
}

func (f *documentFlags) json() bool { return f.format == "json" }

// noArguments refuses words that are no flags, and says what was probably meant.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("argument %q: flags say whom it is for, as in -n %s", args[0], args[0])
	}
	return nil
}

// asks is whether somebody can be asked.
func (a *app) asks() bool { return a.terminalInput != nil && a.terminalInput(a.stdin) }
