package tui

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// fixYAML is the fix of a finding as YAML, from the root of the workload, with list
// elements named as kubectl patch merges them. A key that a fix takes away is null, which
// takes away that key alone; an element of a list that it takes away cannot be said in
// YAML and is a comment. It is empty where there is no fix.
func fixYAML(f *scan.Finding) string {
	if f.Fix == nil {
		return ""
	}
	steps, ok := fieldSteps(templateField(f.Workload.Kind, f.Field))
	if !ok {
		return ""
	}
	var b strings.Builder
	comment := func(indent, text string) { b.WriteString(indent + "# " + report.Clean(text) + "\n") }
	comment("", f.Workload.String()+": "+f.Rule)
	if f.Fix.Note != "" {
		comment("", f.Fix.Note)
	}
	indent, prefix := "", ""
	for i, s := range steps {
		last := i == len(steps)-1
		if i == len(steps)-2 && f.Fix.Op == scan.FixRemove && steps[i+1].index >= 0 {
			what := cmp.Or(f.Item, "element "+strconv.Itoa(steps[i+1].index)) + " from " + s.key
			return emptied(b.String(), prefix, i > 0 && steps[i-1].index < 0) + indent + "# remove " + report.Clean(what) + "\n"
		}
		if s.index >= 0 {
			prefix, indent = element(&b, f, steps[i-1].key, s.index, indent, prefix, last)
			continue
		}
		line := yamlText(s.key) + ":"
		switch {
		case last && f.Fix.Op == scan.FixRemove:
			line += " null # removed"
		case last:
			line += " " + yamlValue(f.Fix.Value)
		}
		if prefix == "" {
			prefix = indent
		}
		b.WriteString(prefix + line + "\n")
		prefix, indent = "", indent+"  "
	}
	return b.String()
}

// emptied is the text with nothing in what was begun last: a key, or an element where the
// prefix waits for one. A key with nothing behind it would be null, and take away what is
// to stay.
func emptied(text, prefix string, key bool) string {
	switch {
	case prefix != "":
		return text + prefix + "{}\n"
	case key:
		return strings.TrimSuffix(text, "\n") + " {}\n"
	}
	return text
}

// element begins an element of a list, and returns what its first line and the others
// begin with.
func element(b *strings.Builder, f *scan.Finding, list string, index int, indent, prefix string, last bool) (first, others string) {
	if prefix == "" {
		prefix = indent
	}
	if last {
		b.WriteString(prefix + "- " + yamlValue(f.Fix.Value) + "\n")
		return "", indent
	}
	name := ""
	switch list {
	case "containers", "initContainers", "ephemeralContainers":
		name = f.Container
	case "volumes":
		name = f.Item
	}
	if name != "" {
		b.WriteString(prefix + "- name: " + yamlText(name) + "\n")
		return "", indent + "  "
	}
	what := "element " + strconv.Itoa(index)
	if f.Item != "" {
		what += ", " + f.Item
	}
	b.WriteString(prefix + "# " + report.Clean(what) + "\n")
	return prefix + "- ", indent + "  "
}

// fieldStep is a key of a path, or an index of a list.
type fieldStep struct {
	key   string
	index int
}

// fieldSteps takes a path apart: "spec.containers[0].ports", "metadata.annotations[key]".
func fieldSteps(path string) ([]fieldStep, bool) {
	var steps []fieldStep
	for path != "" {
		if rest, ok := strings.CutPrefix(path, "["); ok {
			inside, after, closed := strings.Cut(rest, "]")
			if !closed || inside == "" || after != "" && after[0] != '.' && after[0] != '[' {
				return nil, false
			}
			if n, err := strconv.Atoi(inside); err == nil && n >= 0 {
				if len(steps) == 0 {
					return nil, false
				}
				steps = append(steps, fieldStep{index: n})
			} else {
				steps = append(steps, fieldStep{key: strings.Trim(inside, `"`), index: -1})
			}
			path = strings.TrimPrefix(after, ".")
			continue
		}
		end := strings.IndexAny(path, ".[")
		if end == 0 {
			return nil, false
		}
		if end < 0 {
			end = len(path)
		}
		steps = append(steps, fieldStep{key: path[:end], index: -1})
		path = strings.TrimPrefix(path[end:], ".")
	}
	return steps, len(steps) > 0
}

// templateField is the path of a field of the pod in a workload of a kind. What is not
// known of is taken to have its template where most have.
func templateField(kind, field string) string {
	switch kind {
	case "Pod":
		return field
	case "PodTemplate":
		return "template." + field
	case "CronJob", "ScheduledJob":
		return "spec.jobTemplate.spec.template." + field
	}
	return "spec.template." + field
}

var plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)

// yamlText is text as a key or value. JSON is YAML, too.
func yamlText(s string) string {
	if plainYAML.MatchString(s) && !strings.Contains(" true false null yes no on off y n ", " "+strings.ToLower(s)+" ") {
		return s
	}
	text, _ := json.Marshal(s) // A string can always be written.
	return report.Clean(string(text))
}

// yamlValue is a JSON value in one line.
func yamlValue(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return "null"
	}
	return report.Clean(b.String())
}

// rowFixes are the fixes of all findings of a row that count, each once, as YAML
// documents.
func rowFixes(r *Row) []string {
	var all []string
	said := map[string]bool{}
	for _, f := range r.Findings {
		if f.Excepted != nil {
			continue
		}
		if text := fixYAML(f); text != "" {
			if _, body, _ := strings.Cut(text, "\n"); !said[body] {
				said[body] = true
				all = append(all, text)
			}
		}
	}
	return all
}

// copiedFixes is what Y copies of a row.
func copiedFixes(r *Row) (what, text string) {
	all := rowFixes(r)
	if len(all) == 0 {
		return "", ""
	}
	what = "the fix"
	if len(all) > 1 {
		what = strconv.Itoa(len(all)) + " fixes"
	}
	return what, strings.Join(all, "---\n")
}
