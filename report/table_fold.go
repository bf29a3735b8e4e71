package report

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// findingRow is one line of the table: a finding, the worst of those that it
// stands for.
type findingRow struct {
	*scan.Finding
	others []*scan.Finding
	// elements is how many elements of a list it stands for.
	elements int
}

// foldFindings joins findings for a screen, where the reader looks for what to
// change: what one change mends under several rules, what is the same in several
// containers, and what a rule says of several elements of a list are one line
// each. Order is kept.
func foldFindings(findings []*scan.Finding, fold bool) []findingRow {
	rows := make([]findingRow, 0, len(findings))
	for _, f := range findings {
		rows = append(rows, findingRow{Finding: f, elements: 1})
	}
	if !fold {
		return rows
	}
	rows = joinRows(rows, changeKey, false)
	rows = joinRows(rows, findingRow.containerKey, false)
	return joinRows(rows, findingRow.elementKey, true)
}

// joinRows joins the rows that have a key in common. A row without one stays
// alone.
func joinRows(rows []findingRow, key func(findingRow) string, elements bool) []findingRow {
	joined := rows[:0]
	at := map[string]int{}
	for _, r := range rows {
		k := key(r)
		i, ok := at[k]
		if !ok || k == "" {
			at[k] = len(joined)
			joined = append(joined, r)
			continue
		}
		joined[i].others = append(append(joined[i].others, r.Finding), r.others...)
		if elements {
			joined[i].elements += r.elements
		}
	}
	return joined
}

// changeKey is the change that a finding asks for.
func changeKey(r findingRow) string {
	if r.Fix == nil {
		return ""
	}
	container := ""
	if inContainer(r.Field) {
		container = r.Container
	}
	return key(r.weight(), container, r.Field, compactJSON(r.Now), r.fix())
}

// containerKey is everything that a line shows but the container and its index.
func (r findingRow) containerKey() string {
	return key(string(r.Severity), r.weight(), r.rules(), r.messages(), r.field(true), r.Item, compactJSON(r.Now), r.fix())
}

// elementKey is everything that a line shows but the element of the list.
func (r findingRow) elementKey() string {
	path := r.path(true)
	if r.Fix == nil || !strings.Contains(path, "[") {
		return ""
	}
	return key(string(r.Severity), r.weight(), r.rules(), r.messages(), r.containers(), withoutIndexes(path), r.fix())
}

func key(parts ...string) string { return strings.Join(parts, "\x00") }

// weight is for which pods a row counts, and what takes from it.
func (r findingRow) weight() string {
	parts := []string{r.Workload.String(), fmt.Sprint(r.Pods), r.Claims}
	for _, mark := range marks(r.Finding) {
		parts = append(parts, mark.text)
	}
	return strings.Join(parts, "\x00")
}

// fix is what to do to the field.
func (r findingRow) fix() string {
	if r.Fix == nil {
		return ""
	}
	return string(r.Fix.Op) + compactJSON(r.Fix.Value)
}

// all calls visit for each finding of the row.
func (r findingRow) all(visit func(*scan.Finding)) {
	visit(r.Finding)
	for _, f := range r.others {
		visit(f)
	}
}

// rules names the rules that the row stands for, its own first.
func (r findingRow) rules() string {
	var rules []string
	r.all(func(f *scan.Finding) { rules = appendNew(rules, Clean(f.Rule)) })
	return strings.Join(rules, ", ")
}

// further names the rules beyond the row's own.
func (r findingRow) further() string {
	_, further, _ := strings.Cut(r.rules(), ", ")
	return labelled("also", further)
}

// messages are what there is to say, one a line.
func (r findingRow) messages() string {
	var texts []string
	r.all(func(f *scan.Finding) {
		if says(f) {
			texts = appendNew(texts, Clean(f.Message))
		}
	})
	return strings.Join(texts, "\n")
}

// splitIndex splits a path around its first index: "spec.containers", "0",
// ".image".
func splitIndex(path string) (before, index, after string) {
	before, rest, ok := strings.Cut(path, "[")
	if !ok {
		return path, "", ""
	}
	index, after, _ = strings.Cut(rest, "]")
	return before, index, after
}

// withoutIndexes is a path with an asterisk for every index.
func withoutIndexes(path string) string {
	before, index, after := splitIndex(path)
	if index == "" {
		return path
	}
	return before + "[*]" + withoutIndexes(after)
}

// containers names the containers of the row, and what kind those are that are
// not ordinary ones.
func (r findingRow) containers() string {
	var names []string
	r.all(func(f *scan.Finding) { names = appendNew(names, containerName(f)) })
	return strings.Join(names, ", ")
}

func containerName(f *scan.Finding) string {
	name := Clean(f.Container)
	if kind := Clean(string(f.ContainerKind)); name != "" && kind != "" && f.ContainerKind != scan.KindContainer {
		name += " (" + strings.TrimSuffix(kind, " container") + ")"
	}
	return name
}

// path is the path to blame. The short form begins at the container, which the
// line names beside it.
func (r findingRow) path(short bool) string {
	if _, _, after := splitIndex(r.Field); short && r.Container != "" && strings.HasPrefix(after, ".") && inContainer(r.Field) {
		return after[1:]
	}
	return r.Field
}

// field is the path with what tells its element from others.
func (r findingRow) field(short bool) string {
	field := r.path(short)
	if r.elements > 1 {
		return Clean(withoutIndexes(field))
	}
	// The change shows most items, as the value that is there now.
	if r.Item != "" && !strings.Contains(field, r.Item) && !strings.Contains(value(r.Now), Clean(r.Item)) {
		field += " (" + r.Item + ")"
	}
	return Clean(field)
}

func inContainer(field string) bool {
	for _, list := range []string{"spec.containers[", "spec.initContainers[", "spec.ephemeralContainers["} {
		if strings.HasPrefix(field, list) {
			return true
		}
	}
	return false
}

// values are what is there now, of each element.
func (r findingRow) values() string {
	var values []string
	r.all(func(f *scan.Finding) { values = appendNew(values, shortValue(f.Now)) })
	return strings.Join(values, ", ")
}

// shortValue is a field's value with no more of an object than tells it from
// others: the path of a hostPath, the name and value of a sysctl.
func shortValue(raw []byte) string {
	var object struct {
		Path, Name, Value *string
	}
	if json.Unmarshal(raw, &object) == nil {
		switch {
		case object.Path != nil:
			return Clean(*object.Path)
		case object.Name != nil && object.Value != nil:
			return Clean(*object.Name + "=" + *object.Value)
		}
	}
	return value(raw)
}

// places are the lines to edit, the file named once.
func (r findingRow) places() string {
	text := place(r.Location)
	if r.Location == nil {
		return text
	}
	seen := []string{text}
	file := r.Location.File
	for _, f := range r.others {
		p := place(f.Location)
		if p == "" || len(appendNew(seen, p)) == len(seen) {
			continue
		}
		seen = append(seen, p)
		if f.Location.File == file && f.Location.Line > 0 {
			text += fmt.Sprintf(",%d", f.Location.Line)
		} else {
			text += " " + p
		}
		file = f.Location.File
	}
	return text
}
