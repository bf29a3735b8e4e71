package repair

import (
	"bytes"
	"fmt"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// contextLines are how many lines are shown around a change.
const contextLines = 3

// Line is a line of a unified diff.
type Line struct {
	// Op is ' ', '-', '+', '@' for the head of a hunk, or '\\' for the remark that the
	// line before has no end.
	Op byte
	// Text is the line without Op, with the end that it has in the file.
	Text string
}

// hunk says that lines of the file give way to others.
type hunk struct {
	// first is the index of the first line that goes, count how many go.
	first, count int
	lines        []string
}

// Diff are the hunks of a unified diff of the file, made of its edits: no line is in
// it that no edit is on.
func (f *File) Diff() []Line {
	before := lines(f.Before)
	hunks := hunksOf(f.Before, before, f.edits)
	var out []Line
	shift := 0
	for len(hunks) > 0 {
		n := 1
		for n < len(hunks) && hunks[n].first-(hunks[n-1].first+hunks[n-1].count) <= 2*contextLines {
			n++
		}
		var body []Line
		body, shift = group(before, hunks[:n], shift)
		out = append(out, body...)
		hunks = hunks[n:]
	}
	return out
}

// lines cuts a text behind each end of a line.
func lines(text []byte) []string {
	var all []string
	for l := range bytes.Lines(text) {
		all = append(all, string(l))
	}
	return all
}

// hunksOf are the lines that edits touch, and what becomes of them.
func hunksOf(text []byte, before []string, edits []manifest.Edit) []hunk {
	var hunks []hunk
	line, at := 0, 0 // a line and the offset at which it begins
	for len(edits) > 0 {
		for line < len(before)-1 && at+len(before[line]) <= edits[0].Start {
			at += len(before[line])
			line++
		}
		h := hunk{first: line}
		from, end := at, at
		var now []byte
		for first := true; len(edits) > 0 && (first || edits[0].Start < end); first = false {
			e := edits[0]
			now = append(append(now, text[from:e.Start]...), e.Text...)
			from, edits = e.End, edits[1:]
			for end < from || end < len(text) && !wholeLines(now, from, end) {
				end += len(before[h.first+h.count])
				h.count++
			}
		}
		h.lines = lines(append(now, text[from:end]...))
		hunks = append(hunks, h.trim(before))
	}
	return hunks
}

// wholeLines tells whether what is new, with what follows of the file up to the end of
// a line, is made of whole lines.
func wholeLines(now []byte, from, end int) bool {
	return from < end || len(now) == 0 || now[len(now)-1] == '\n'
}

// trim leaves out what stays the same at the beginning and the end.
func (h hunk) trim(before []string) hunk {
	for h.count > 0 && len(h.lines) > 0 && h.lines[0] == before[h.first] {
		h.first, h.count, h.lines = h.first+1, h.count-1, h.lines[1:]
	}
	for h.count > 0 && len(h.lines) > 0 && h.lines[len(h.lines)-1] == before[h.first+h.count-1] {
		h.count, h.lines = h.count-1, h.lines[:len(h.lines)-1]
	}
	return h
}

// group writes hunks that share their context. Shift is how many lines more the file
// has by then.
func group(before []string, hunks []hunk, shift int) ([]Line, int) {
	last := hunks[len(hunks)-1]
	start, stop := max(hunks[0].first-contextLines, 0), min(last.first+last.count+contextLines, len(before))
	var body []Line
	add := func(op byte, text string) {
		body = append(body, Line{op, text})
		if text[len(text)-1] != '\n' {
			body[len(body)-1].Text += "\n"
			body = append(body, Line{'\\', " No newline at end of file\n"})
		}
	}
	at, more := start, 0
	for _, h := range hunks {
		for ; at < h.first; at++ {
			add(' ', before[at])
		}
		for ; at < h.first+h.count; at++ {
			add('-', before[at])
		}
		for _, l := range h.lines {
			add('+', l)
		}
		more += len(h.lines) - h.count
	}
	for ; at < stop; at++ {
		add(' ', before[at])
	}
	head := fmt.Sprintf(" -%s +%s @@\n", span(start, stop-start), span(start+shift, stop-start+more))
	return append([]Line{{'@', "@" + head}}, body...), shift + more
}

// span names lines as the head of a hunk does.
func span(start, count int) string {
	if count == 0 {
		return fmt.Sprintf("%d,0", start)
	}
	return fmt.Sprintf("%d,%d", start+1, count)
}
