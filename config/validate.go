package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxParallel bounds how many clusters are scanned at a time: each takes memory and
// connections of its own.
const maxParallel = 100

// Validate returns an error that names every key whose value is not allowed, what
// is wanted instead, and where the value came from. It returns nil for a Config
// that Load or Default made.
func (c *Config) Validate(origins Origins) error {
	v := validator{origins: origins}
	v.word(KeyLevel, c.Level, levels())
	if !validVersion(c.PSSVersion) {
		v.wrong(KeyPSSVersion, c.PSSVersion, "server, latest or v1.N", nearestVersion(c.PSSVersion))
	}
	v.word(KeyFailOn, c.FailOn, severities())
	v.outputs(KeyOutput, c.Output, formats())
	if c.Baseline != "" {
		v.path(KeyBaseline, c.Baseline)
	}
	for _, path := range c.Manifests {
		v.path(KeyManifests, path)
	}
	v.word(KeyColor, c.Color, colors())
	if c.PageSize < 1 || c.PageSize > 10000 {
		v.wrong(KeyPageSize, strconv.Itoa(c.PageSize), "a number from 1 to 10000", hint{})
	}
	if c.Parallel < 1 || c.Parallel > maxParallel {
		v.wrong(KeyParallel, strconv.Itoa(c.Parallel), "a number from 1 to "+strconv.Itoa(maxParallel), hint{})
	}
	// GitHub puts a "/" behind the category to part it from the run.
	if s := c.SARIFCategory; s == "" || harmless(s) != s || strings.HasSuffix(s, "/") {
		v.wrong(KeySARIFCategory, s, "visible characters with no space or slash at the end", hint{})
	}
	v.clusterName(c.ClusterName)
	v.s3(&c.S3)
	v.watch(&c.Watch)
	for i := range c.Exceptions {
		v.exception(i, &c.Exceptions[i])
	}
	return v.all.err()
}

// CheckRules returns an error that names every exception for a rule whose ID is
// not among ids, with the nearest one.
func (c *Config) CheckRules(ids []string) error {
	var all problems
	for i, e := range c.Exceptions {
		if !slices.Contains(ids, e.Rule) {
			all.addf("%s: %s[%d].rule: no rule has the ID %s%s", e.Place(), KeyExceptions, i, quoted(e.Rule), hint{word: e.Rule, known: ids})
		}
	}
	return all.err()
}

type validator struct {
	origins Origins
	all     problems
}

// wrong notes a bad value; the nearest of the known words, if any, is added.
func (v *validator) wrong(key, have, want string, near hint) {
	v.all.addf("%s: want %s, have %s (%s)%s", key, want, quoted(have), v.origins.Of(key), near)
}

func (v *validator) word(key, have string, allowed []string) {
	if !slices.Contains(allowed, have) {
		v.wrong(key, have, "one of "+strings.Join(allowed, ", "), hint{word: have, known: allowed})
	}
}

func (v *validator) path(key, path string) {
	switch {
	case path == "":
		v.wrong(key, path, "a path", hint{})
	case !utf8.ValidString(path) || strings.ContainsRune(path, 0):
		v.wrong(key, path, "a path in UTF-8", hint{})
	}
}

// outputs checks formats, and that no two outputs write to the same place.
func (v *validator) outputs(key string, outputs, formats []string) {
	if len(outputs) == 0 {
		v.wrong(key, "", "at least one of "+strings.Join(formats, ", "), hint{})
	}
	writer := map[string]string{}
	for _, s := range outputs {
		format, file, toFile := strings.Cut(s, "=")
		if !slices.Contains(formats, format) {
			v.wrong(key, s, "FORMAT or FORMAT=FILE, with FORMAT one of "+strings.Join(formats, ", "), hint{word: format, known: formats})
			continue
		}
		if o := (Output{File: file}); o.InBucket() {
			v.object(key, s, o)
		} else if toFile {
			v.path(key, file)
		} else {
			file = "-"
		}
		if first, taken := writer[file]; taken {
			where := "standard output"
			if file != "-" {
				where = quoted(file)
			}
			v.all.addf("%s: %s and %s both go to %s (%s): give one of them a file of its own, as in %s=FILE",
				key, first, format, where, v.origins.Of(key), format)
		}
		writer[file] = format
	}
}

func validVersion(s string) bool {
	return s == "server" || s == "latest" || regexp.MustCompile(`^v1\.(0|[1-9][0-9]{0,2})$`).MatchString(s)
}

// nearestVersion helps those who write "1.30" or "v1.30.2".
func nearestVersion(s string) hint {
	if m := regexp.MustCompile(`^v?1\.(0|[1-9][0-9]{0,2})(\.[0-9]+)?$`).FindStringSubmatch(s); m != nil {
		s = "v1." + m[1]
		return hint{word: s, known: []string{s}}
	}
	return hint{word: s, known: []string{"server", "latest"}}
}

// exception checks that e is precise, and that what it names can exist: an
// exception that can never match is an error and not a surprise later.
func (v *validator) exception(i int, e *Exception) {
	wrong := func(field, format string, args ...any) {
		v.all.addf("%s: %s[%d]"+field+": "+format, append([]any{e.Place(), KeyExceptions, i}, args...)...)
	}
	switch {
	case e.Rule == "":
		wrong(".rule", "is missing: name the rule that is accepted")
	case strings.Contains(e.Rule, "*"):
		wrong(".rule", "want the ID of one rule without *, have %s", quoted(e.Rule))
	case !utf8.ValidString(e.Rule) || strings.ContainsAny(e.Rule, " \t\r\n") || harmless(e.Rule) != e.Rule:
		wrong(".rule", "want the ID of a rule, have %s", quoted(e.Rule))
	}
	if strings.TrimSpace(e.Reason) == "" || !utf8.ValidString(e.Reason) {
		wrong(".reason", "is missing: say why this is accepted")
	}
	if e.Namespace == "" && e.Workload == "" && e.Image == "" {
		wrong("", "is too wide: give at least one of namespace, workload, image")
	}
	for _, p := range e.patterns() {
		switch {
		case p.value == "":
		case !strings.ContainsFunc(p.value, isNameRune):
			wrong("."+p.name, "%s means any: leave the key out, or be precise", quoted(p.value))
		case !p.possible(p.value):
			wrong("."+p.name, "want %s, have %s", p.want, quoted(p.value))
		}
	}
}

// isNameRune reports whether r is more than a wildcard or punctuation.
func isNameRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// pattern is a field of an exception that may hold wildcards.
type pattern struct {
	name, value, want string
	// possible reports whether the value could match anything.
	possible func(string) bool
}

func (e *Exception) patterns() []pattern {
	const lower, upper = "abcdefghijklmnopqrstuvwxyz0123456789*", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	label := func(s string) bool { return madeOf(s, lower+"-") }
	workload := func(s string) bool {
		kind, name, found := strings.Cut(s, "/")
		if !found {
			return madeOf(s, lower+"-.")
		}
		return madeOf(kind, lower+upper) && madeOf(name, lower+"-.")
	}
	image := func(s string) bool { return madeOf(s, lower+upper+"._:/@-") }
	// A context may have any name.
	cluster := func(s string) bool { return harmless(s) == s }
	return []pattern{
		{"cluster", e.Cluster, "the name of a context in visible characters, * for any characters", cluster},
		{"namespace", e.Namespace, "the name of a namespace (a-z, 0-9, -), * for any characters", label},
		{"workload", e.Workload, "NAME or KIND/NAME as in Deployment/web, * for any characters, the namespace under its own key", workload},
		{"container", e.Container, "the name of a container (a-z, 0-9, -), * for any characters", label},
		{"image", e.Image, "an image as the pod names it, * for any characters", image},
	}
}

// madeOf reports whether s has characters, and all of them are in set.
func madeOf(s, set string) bool {
	return s != "" && strings.Trim(s, set) == ""
}
