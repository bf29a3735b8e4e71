package config

import "strings"

// The names of the keys: the same in the file, as flags (with "--") and, in
// capitals and with underscores, behind EnvPrefix.
const (
	KeyLevel           = "level"
	KeyPSSVersion      = "pss-version"
	KeyFailOn          = "fail-on"
	KeyAllowIncomplete = "allow-incomplete"
	KeyOutput          = "output"
	KeyBaseline        = "baseline"
	KeyManifests       = "manifests"
	KeyColor           = "color"
	KeyPageSize        = "page-size"
	KeySARIFCategory   = "sarif-category"
	// KeyExceptions has no flag and no variable: an exception needs a reason, and
	// a place that reviewers see.
	KeyExceptions = "exceptions"
)

// Config is what is in force.
type Config struct {
	// Level of the Pod Security Standards: "baseline" or "restricted".
	Level string
	// PSSVersion is "server", "latest" or "v1.N".
	PSSVersion string
	// FailOn is the severity from which on findings fail the run: "critical",
	// "high", "medium", "low", or "none".
	FailOn string
	// AllowIncomplete lets a run succeed that could not read everything.
	AllowIncomplete bool
	// Output holds FORMAT or FORMAT=FILE; Outputs takes it apart.
	Output []string
	// Baseline is the file of an earlier run, empty for none.
	Baseline string
	// Manifests are the paths where the workloads are declared. Paths are relative
	// to the working directory, wherever the configuration file is.
	Manifests []string
	// Color is "auto", "always" or "never".
	Color string
	// PageSize is how many objects are asked of the API server at a time.
	PageSize int
	// SARIFCategory tells several SARIF uploads for one commit apart.
	SARIFCategory string
	// Exceptions are the findings that are accepted.
	Exceptions []Exception
}

// Output is one output that was asked for.
type Output struct {
	// Format is one of "table", "json", "jsonl", "sarif".
	Format string
	// File is where it goes, empty for standard output.
	File string
}

// Default returns the configuration of a user who said nothing.
func Default() *Config {
	return newStore().config()
}

// Outputs takes Output apart. It is meant for a valid Config: what the formats
// and files may be is checked by Validate.
func (c *Config) Outputs() []Output {
	outs := make([]Output, 0, len(c.Output))
	for _, s := range c.Output {
		format, file, _ := strings.Cut(s, "=")
		if file == "-" {
			file = ""
		}
		outs = append(outs, Output{Format: format, File: file})
	}
	return outs
}

// normalise writes words from closed lists in lower case: "HIGH" is no mystery.
func (c *Config) normalise() {
	for _, word := range []*string{&c.Level, &c.PSSVersion, &c.FailOn, &c.Color} {
		*word = strings.ToLower(*word)
	}
	for i, s := range c.Output {
		format, file, found := strings.Cut(s, "=")
		if format = strings.ToLower(format); found {
			format += "=" + file
		}
		c.Output[i] = format
	}
}
