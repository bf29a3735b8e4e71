package tui

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// filter chooses things that have all of its terms. The zero filter chooses everything.
type filter struct{ terms []filterTerm }

// filterTerm is one word of a filter: a value of a key, or with no key a text of the name.
type filterTerm struct {
	// word is the term as it was typed.
	word   string
	key    string
	values []string
	not    bool
}

// filterKey is a key that a view knows beside those of every view. With values only
// these (or the beginning of one) are taken.
type filterKey struct {
	name   string
	values []string
}

// filtered is what a filter is held against.
type filtered struct {
	workload scan.Workload
	verdict  scan.Verdict
	severity scan.Severity
	paths    []string
	// text is what plain words are looked for in, in lower case; empty for the name of
	// the workload.
	text string
	// more answers for the keys of the view, nil where it has none.
	more func(key string) string
}

// The keys of every view.
const (
	keyVerdict   = "verdict"
	keyNamespace = "ns"
	keyKind      = "kind"
	keySeverity  = "sev"
	keyPath      = "path"
	// keyCluster is the cluster of a fleet, which no other run has a use for.
	keyCluster = "cluster"
)

// parseFilter reads terms with blanks between them: key:value, where values may be
// several with commas between them, or a text; with ! before it a term must not match.
// more are the view's own keys. With an error, which is about the first term that cannot
// be read, the filter has those that can.
func parseFilter(text string, more ...filterKey) (filter, error) {
	var f filter
	var failed error
	for word := range strings.FieldsSeq(text) {
		term := filterTerm{word: word}
		rest, not := strings.CutPrefix(word, "!")
		term.not = not
		if rest == "" {
			failed = cmp.Or(failed, errors.New("! wants a term behind it"))
			continue
		}
		key, value, keyed := strings.Cut(rest, ":")
		if !keyed {
			term.values = []string{strings.ToLower(rest)}
			f.terms = append(f.terms, term)
			continue
		}
		term.key = strings.ToLower(key)
		if err := term.take(value, more); err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		f.terms = append(f.terms, term)
	}
	return f, failed
}

// take reads the values of a key.
func (t *filterTerm) take(value string, more []filterKey) error {
	known, ok := knownValues(t.key, more)
	if !ok {
		names := []string{keyVerdict, keyNamespace, keyKind, keySeverity, keyPath}
		for _, k := range more {
			names = append(names, k.name)
		}
		return fmt.Errorf("no key %q: there are %s", t.key, strings.Join(names, ", "))
	}
	for v := range strings.SplitSeq(strings.ToLower(value), ",") {
		switch {
		case v == "" && known == nil:
			return fmt.Errorf("%s: wants a value", t.key)
		case v == "" && t.key == keyPath:
			return errors.New("path: wants a rule, as escape-privileged")
		case v == "":
			return fmt.Errorf("%s: is one of %s", t.key, strings.Join(known, ", "))
		case known != nil && !slices.ContainsFunc(known, func(k string) bool { return t.means(v, k) }):
			if t.key == keyPath {
				return fmt.Errorf("path: no escape path is called %q", v)
			}
			return fmt.Errorf("%s: %q is none of %s", t.key, v, strings.Join(known, ", "))
		}
		t.values = append(t.values, v)
	}
	return nil
}

// knownValues are those that a key has, nil where any text is one.
func knownValues(key string, more []filterKey) (known []string, ok bool) {
	switch key {
	case keyVerdict:
		for _, v := range scan.Verdicts() {
			known = append(known, string(v))
		}
		return known, true
	case keySeverity:
		for _, s := range scan.Severities() {
			known = append(known, string(s))
		}
		return known, true
	case keyPath:
		for _, r := range scan.Rules() {
			if r.Category == scan.CategoryEscape {
				known = append(known, r.ID)
			}
		}
		return known, true
	case keyNamespace, keyKind, keyCluster:
		return nil, true
	}
	for _, k := range more {
		if k.name == key {
			return k.values, true
		}
	}
	return nil, false
}

// means tells whether a value stands for a word: a path may be named by a part, and what
// has known values by its beginning.
func (t *filterTerm) means(value, word string) bool {
	if t.key == keyPath {
		return strings.Contains(word, value)
	}
	return strings.HasPrefix(word, value)
}

// empty tells whether everything is chosen.
func (f filter) empty() bool { return len(f.terms) == 0 }

// matches tells whether something has all terms.
func (f filter) matches(s *filtered) bool {
	for i := range f.terms {
		t := &f.terms[i]
		if slices.ContainsFunc(t.values, func(v string) bool { return t.has(s, v) }) == t.not {
			return false
		}
	}
	return true
}

func (t *filterTerm) has(s *filtered, value string) bool {
	switch t.key {
	case "":
		if s.text != "" {
			return strings.Contains(s.text, value)
		}
		return strings.Contains(strings.ToLower(s.workload.String()), value)
	case keyVerdict:
		return t.means(value, string(s.verdict))
	case keyNamespace:
		return strings.EqualFold(s.workload.Namespace, value) || s.workload.Namespace == "" && value == "-"
	case keyKind:
		return strings.EqualFold(s.workload.Kind, value)
	case keyCluster:
		// Names of contexts are long: a part does.
		return strings.Contains(strings.ToLower(s.workload.Cluster), value)
	case keySeverity:
		// SeverityNone ranks above all: it is a gate, and no finding has it.
		return s.severity != "" && s.severity != scan.SeverityNone && s.severity.AtLeast(gateOf(value))
	case keyPath:
		return slices.ContainsFunc(s.paths, func(p string) bool { return t.means(value, p) })
	}
	return s.more != nil && strings.HasPrefix(strings.ToLower(s.more(t.key)), value)
}

// gateOf is the severity that begins so.
func gateOf(value string) scan.Severity {
	for _, s := range scan.Severities() {
		if strings.HasPrefix(string(s), value) {
			return s
		}
	}
	return scan.SeverityNone
}

// filterValue is the value of a key in the text of a filter, empty where it has none.
func filterValue(text, key string) string {
	for word := range strings.FieldsSeq(text) {
		if k, v, ok := strings.Cut(word, ":"); ok && strings.EqualFold(k, key) {
			return v
		}
	}
	return ""
}

// setFilterValue is the text of a filter with another value of a key, or with no such
// term where the value is empty.
func setFilterValue(text, key, value string) string {
	words := slices.DeleteFunc(strings.Fields(text), func(word string) bool {
		k, _, ok := strings.Cut(strings.TrimPrefix(word, "!"), ":")
		return ok && strings.EqualFold(k, key)
	})
	if value != "" {
		words = append(words, key+":"+value)
	}
	return strings.Join(words, " ")
}
