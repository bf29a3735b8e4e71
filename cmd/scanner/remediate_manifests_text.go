package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate/repair"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// tell says on stderr what became of a file: stdout is for the diff.
func (r *manifestsRun) tell(f *repair.File) {
	verb := "repaired"
	if !r.write {
		verb = "would repair"
	}
	for i := range f.Failures {
		r.failed++
		r.complain("unreadable", f.Name+": "+f.Failures[i].Message)
	}
	for _, d := range f.Documents {
		r.documents++
		place := fmt.Sprintf("%s:%d", f.Name, d.Line)
		if d.Skipped != "" {
			// What is left for the same reason is said once.
			r.left += len(d.Left)
			r.complain("left alone", place+": "+d.Skipped)
			continue
		}
		place += ": " + d.Workload.String()
		if len(d.Repaired) > 0 {
			r.repaired += len(d.Repaired)
			r.complain(verb, place+": "+strings.Join(rulesOf(d.Repaired), ", "))
			for _, note := range notesOf(d.Repaired) {
				r.complain("note", place+": "+note)
			}
		}
		for _, left := range d.Left {
			r.left++
			r.complain("not repaired", fmt.Sprintf("%s: %s at %s: %s", place, left.Finding.Rule, left.Finding.Field, left.Reason))
		}
	}
}

// rulesOf names the rules of findings, each once.
func rulesOf(findings []scan.Finding) []string {
	var rules []string
	for i := range findings {
		if !slices.Contains(rules, findings[i].Rule) {
			rules = append(rules, findings[i].Rule)
		}
	}
	return rules
}

// notesOf are what the workload may lose by the repairs, each with its fields.
func notesOf(findings []scan.Finding) []string {
	var notes []string
	fields := map[string][]string{}
	for i := range findings {
		f := &findings[i]
		if f.Fix == nil || f.Fix.Note == "" {
			continue
		}
		if fields[f.Fix.Note] == nil {
			notes = append(notes, f.Fix.Note)
		}
		if !slices.Contains(fields[f.Fix.Note], f.Field) {
			fields[f.Fix.Note] = append(fields[f.Fix.Note], f.Field)
		}
	}
	for i, note := range notes {
		notes[i] = strings.Join(fields[note], ", ") + ": " + note
	}
	return notes
}

// diff writes the change of a file as git does. For a terminal it has colours and
// nothing that could do harm there; else it is the text to the byte.
func (r *manifestsRun) diff(f *repair.File) error {
	_, terminal := r.terminalWidth(r.stdout)
	var b strings.Builder
	write := func(color, line string) {
		if terminal || r.color {
			line = report.Clean(strings.TrimRight(line, "\r\n")) + "\n"
		}
		if r.color && color != "" {
			line = "\x1b[" + color + "m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
		}
		b.WriteString(line)
	}
	write("1", "--- "+diffName("a/", f.Name)+"\n")
	write("1", "+++ "+diffName("b/", f.Name)+"\n")
	for _, line := range f.Diff() {
		write(map[byte]string{'-': "31", '+': "32", '@': "36"}[line.Op], string(line.Op)+line.Text)
	}
	_, err := r.stdout.Write([]byte(b.String()))
	return err
}

// diffName is a path in the head of a diff, quoted as git quotes it.
func diffName(prefix, name string) string {
	name = prefix + strings.TrimLeft(filepath.ToSlash(name), "/")
	plain := true
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			plain = false
			b.WriteString(`\` + string(c))
		case c < ' ' || c >= 0x7f:
			plain = false
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	switch {
	case !plain:
		return `"` + b.String() + `"`
	case strings.Contains(name, " "):
		// A tab ends a name that holds spaces.
		return name + "\t"
	}
	return name
}
