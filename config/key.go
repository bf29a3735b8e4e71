package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// key is one key that has a flag and a variable.
type key struct {
	name, short, usage string
	// fallback is the default; its type is the type of the key.
	fallback any
}

func keys() []key {
	return []key{
		{KeyLevel, "", "judge pods by this `LEVEL` of the Pod Security Standards: " + strings.Join(levels(), ", "), "baseline"},
		{KeyPSSVersion, "", "`VERSION` of the Pod Security Standards: server (that of the API server), latest, or v1.N", "server"},
		{KeyFailOn, "", "exit with 1 on findings of this `SEVERITY` and above: " + strings.Join(severities(), ", "), "high"},
		{KeyAllowIncomplete, "", "succeed even when something could not be read (otherwise exit with 3)", false},
		{KeyOutput, "o", "`FORMAT[=FILE]` to write: " + strings.Join(formats(), ", ") + "; may be repeated, one of them to standard output", []string{"table"}},
		{KeyBaseline, "", "report and gate only what is not in this `FILE`, the json or jsonl of an earlier run", ""},
		{KeyManifests, "", "`PATHS` of the manifests that declare the live workloads, so that findings name the line to edit", []string{}},
		{KeyColor, "", "colour the output: `WHEN` is " + strings.Join(colors(), ", "), "auto"},
		{KeyPageSize, "", "ask the API server for `N` objects at a time, 1 to 10000", 500},
		{KeySARIFCategory, "", "`CATEGORY` of the SARIF run, to tell several uploads for one commit apart", "escape-scanner"},
	}
}

func levels() []string     { return []string{"baseline", "restricted"} }
func severities() []string { return []string{"critical", "high", "medium", "low", "none"} }
func formats() []string    { return []string{"table", "json", "jsonl", "sarif"} }
func colors() []string     { return []string{"auto", "always", "never"} }

// Words lists the words that the key of this name takes, for completion; nil where
// it takes others.
func Words(name string) []string {
	switch name {
	case KeyLevel:
		return levels()
	case KeyPSSVersion:
		return []string{"server", "latest"}
	case KeyFailOn:
		return severities()
	case KeyOutput:
		return formats()
	case KeyColor:
		return colors()
	}
	return nil
}

// keyNames lists every key, in the order in which they are shown.
func keyNames() []string {
	var names []string
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return append(names, KeyExceptions)
}

// env is the name of the key's environment variable.
func (k key) env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.name, "-", "_"))
}

// ours marks the flags that AddFlags made: a command may have a flag of its own
// under the name of a key.
const ours = "escape-scanner/config"

// AddFlags registers a flag for every key that can have one, but not for those
// named in without. Lists take commas and repetition, as kubectl's do.
func AddFlags(fs *pflag.FlagSet, without ...string) {
	for _, k := range keys() {
		if slices.Contains(without, k.name) {
			continue
		}
		switch d := k.fallback.(type) {
		case string:
			fs.StringP(k.name, k.short, d, k.usage)
		case bool:
			fs.BoolP(k.name, k.short, d, k.usage)
		case int:
			fs.IntP(k.name, k.short, d, k.usage)
		case []string:
			fs.StringSliceP(k.name, k.short, d, k.usage)
		}
		fs.Lookup(k.name).Annotations = map[string][]string{ours: {k.name}}
	}
}

// flagOf finds the flag that AddFlags made for the key.
func flagOf(fs *pflag.FlagSet, name string) *pflag.Flag {
	if fs == nil {
		return nil
	}
	f := fs.Lookup(name)
	if f == nil || f.Annotations[ours] == nil {
		return nil
	}
	return f
}
