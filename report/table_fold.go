package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// findingRow is one line of the table: a finding, and those that say the same of
// other containers of the same workload.
type findingRow struct {
	*scan.Finding
	others []*scan.Finding
}

// foldFindings joins findings that differ in the container only, so that ten
// containers without a setting are one line and not ten. Order is kept.
func foldFindings(findings []*scan.Finding, fold bool) []findingRow {
	rows := make([]findingRow, 0, len(findings))
	at := map[string]int{}
	for _, f := range findings {
		key := foldKey(f)
		if i, ok := at[key]; ok && fold {
			rows[i].others = append(rows[i].others, f)
			continue
		}
		at[key] = len(rows)
		rows = append(rows, findingRow{Finding: f})
	}
	return rows
}

// foldKey is everything that a line shows but the container and its index.
func foldKey(f *scan.Finding) string {
	parts := []string{
		string(f.Severity), f.Rule, f.Workload.String(), shortField(f), f.Item,
		compactJSON(f.Now), fmt.Sprint(f.Pods),
	}
	if f.Fix != nil {
		parts = append(parts, string(f.Fix.Op), compactJSON(f.Fix.Value))
	}
	if says(f) {
		parts = append(parts, f.Message)
	}
	for _, mark := range marks(f) {
		parts = append(parts, mark.text)
	}
	return strings.Join(parts, "\x00")
}

// containers names the containers of the row, and what kind those are that are
// not ordinary ones.
func (r findingRow) containers() string {
	names := appendNew(nil, containerName(r.Finding))
	for _, f := range r.others {
		names = appendNew(names, containerName(f))
	}
	return strings.Join(names, ", ")
}

func containerName(f *scan.Finding) string {
	name := Clean(f.Container)
	if kind := Clean(string(f.ContainerKind)); name != "" && kind != "" && f.ContainerKind != scan.KindContainer {
		name += " (" + strings.TrimSuffix(kind, " container") + ")"
	}
	return name
}

// field is the path to blame, whole or as shortField has it.
func (r findingRow) field(short bool) string {
	field := r.Field
	if short {
		field = shortField(r.Finding)
	}
	// The change shows most items, as the value that is there now.
	if r.Item != "" && !strings.Contains(field, r.Item) && !strings.Contains(value(r.Now), Clean(r.Item)) {
		field += " (" + r.Item + ")"
	}
	return Clean(field)
}

// shortField is the path from the container on, which a line names beside it.
func shortField(f *scan.Finding) string {
	list, rest, ok := strings.Cut(f.Field, "[")
	_, after, inside := strings.Cut(rest, "].")
	switch list {
	case "spec.containers", "spec.initContainers", "spec.ephemeralContainers":
		if ok && inside && f.Container != "" {
			return after
		}
	}
	return f.Field
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
