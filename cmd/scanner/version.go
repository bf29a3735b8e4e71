package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/scan"
)

// What the linker sets for a build outside of a checkout, by
// -X main.version=v1.2.3; nothing else writes to them. What is not set is taken from
// the build info.
var (
	version string
	commit  string
	// date is when the commit was made, as RFC 3339 writes it.
	date string
)

// build is what the program was made from.
type build struct {
	version string
	// commit is empty when nobody knows, and so is date.
	commit, date string
	modified     bool
	// libraries are the versions of the modules that are linked, by path.
	libraries map[string]string
}

// decisive are the modules whose versions decide what a run says, in the order in which
// they are told.
func decisive() []string {
	return []string{
		"k8s.io/pod-security-admission", // The checks of the standards.
		"k8s.io/api",                    // The fields that a pod can have.
		"k8s.io/client-go",              // How a cluster is read.
		"k8s.io/apiserver",              // How admission evaluates CEL.
		"github.com/google/cel-go",
		"github.com/kubearmor/KubeArmor/protobuf",                // Alerts.
		"github.com/kubearmor/KubeArmor/pkg/KubeArmorController", // Policies.
		"github.com/kubearmor/kubearmor-client",                  // What an agent knows of its node.
		"github.com/cilium/ebpf",                                 // Whether a node can enforce.
		"github.com/owenrumney/go-sarif/v2",
		"github.com/openreports/reports-api",
	}
}

// linkedBuild is the build of this program.
func linkedBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return readBuild(info, build{version: version, commit: commit, date: date})
}

// readBuild completes what the linker was told by the build info.
func readBuild(info *debug.BuildInfo, told build) build {
	b := told
	b.libraries = make(map[string]string, len(info.Deps))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = &debug.Module{Path: m.Path, Version: m.Replace.Version + " (replaced)"}
		}
		b.libraries[m.Path] = m.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && told.commit == "":
			b.commit = s.Value
		case s.Key == "vcs.time" && told.date == "":
			b.date = s.Value
		case s.Key == "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	if b.version == "" {
		b.version = moduleVersion(info.Main.Version, b)
	}
	if strings.HasSuffix(b.version, "-dirty") || strings.HasSuffix(b.version, "+dirty") {
		b.modified = true
	}
	return b
}

// moduleVersion is the module's version, else the commit, else "devel".
func moduleVersion(module string, b build) string {
	switch {
	case module != "" && module != "(devel)":
		return module
	case len(b.commit) < 12:
		return "devel"
	case b.modified:
		return "devel-" + b.commit[:12] + "-dirty"
	default:
		return "devel-" + b.commit[:12]
	}
}

// made is when what was built was committed; ok is false when nobody knows.
func (b build) made() (at time.Time, ok bool) {
	at, err := time.Parse(time.RFC3339, b.date)
	return at.UTC(), err == nil
}

// versionDocument is the version as JSON. What is not known is left out.
type versionDocument struct {
	Version   string            `json:"version"`
	Commit    string            `json:"commit,omitempty"`
	Date      string            `json:"date,omitempty"`
	Modified  bool              `json:"modified"`
	Go        string            `json:"go"`
	Platform  string            `json:"platform"`
	RuleSet   string            `json:"ruleSet"`
	NewestPSS string            `json:"newestPSS"`
	Libraries []libraryDocument `json:"libraries"`
}

type libraryDocument struct {
	Module  string `json:"module"`
	Version string `json:"version"`
}

func (a *app) versionCommand() *cobra.Command {
	var format string
	var short bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of the program, of its rules and of what decides in it",
		Long: `Prints the version, the commit that it was built from and its date, the version of the
rule set, the newest version of the Pod Security Standards that is known, and the
versions of the libraries that decide what a run says.`,
		Example: `  escape-scanner version
  escape-scanner version --short
  escape-scanner version -o json`,
		Args: noWords,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("output", format, []string{"table", "json"}); err != nil {
				return err
			}
			switch {
			case short && format == "json":
				return fmt.Errorf("--short: prints a line, and -o json a document: use one of them")
			case short:
				_, err := fmt.Fprintln(a.stdout, a.version)
				return err
			case format == "json":
				return a.writeVersionJSON()
			}
			return a.writeVersion()
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	cmd.Flags().BoolVar(&short, "short", false, "print the version of the program only")
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) versionDocument() versionDocument {
	d := versionDocument{
		Version: a.version, Commit: a.commit, Date: a.date, Modified: a.modified,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		RuleSet: scan.RuleSetVersion, NewestPSS: scan.NewestPSS().String(), Libraries: []libraryDocument{},
	}
	for _, path := range decisive() {
		if v, ok := a.libraries[path]; ok {
			d.Libraries = append(d.Libraries, libraryDocument{path, v})
		}
	}
	return d
}

func (a *app) writeVersionJSON() error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(a.versionDocument())
}

func (a *app) writeVersion() error {
	d := a.versionDocument()
	modified := ""
	if d.Modified {
		modified = ", with changes that are not committed"
	}
	rows := [][2]string{
		{"escape-scanner", d.Version},
		{"commit", orUnknown(d.Commit) + modified},
		{"committed", orUnknown(d.Date)},
		{"built by", d.Go + " for " + d.Platform},
		{"rule set", d.RuleSet},
		{"Pod Security Standards", "up to " + d.NewestPSS},
	}
	for _, l := range d.Libraries {
		rows = append(rows, [2]string{l.Module, l.Version})
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	return w.Flush()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
