package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

func TestJSONLWritesOneEventALine(t *testing.T) {
	events := sampleEvents()
	out := write(t, format{"jsonl", NewJSONL}, events)
	if r, bad := harmful(string(out)); bad {
		t.Errorf("lets %U through", r)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	// How far reading has come is no result.
	events = slices.DeleteFunc(events, func(e scan.Event) bool { return e.Progress != nil })
	if len(lines) != len(events) {
		t.Fatalf("%d lines for %d events", len(lines), len(events))
	}
	for i, e := range events {
		kind, err := kindOf(e)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(lines[i], `{"`+kind+`":{`) {
			t.Errorf("line %d is not a %s: %s", i+1, kind, lines[i])
		}
	}
}

func TestJSONLKeepsTheData(t *testing.T) {
	f := &scan.Finding{Rule: "r", Workload: scan.Workload{Kind: "Pod", Name: evil}, Message: evil, Now: json.RawMessage("\"\u202e\u007f\"")}
	out := write(t, format{"jsonl", NewJSONL}, []scan.Event{{Finding: f}})
	var back struct {
		Finding struct {
			scan.Finding
			Fingerprint string
		}
	}
	if err := json.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	if back.Finding.Workload.Name != evil || back.Finding.Message != evil {
		t.Errorf("%q became %q", evil, back.Finding.Message)
	}
	if back.Finding.Fingerprint != f.Fingerprint() {
		t.Errorf("fingerprint %q", back.Finding.Fingerprint)
	}
	if !strings.Contains(string(out), "<script>") {
		t.Error("HTML is escaped: nobody asked for it")
	}
}

func TestJSONLRefusesWhatIsNoEvent(t *testing.T) {
	for _, e := range []scan.Event{{}, {Node: &scan.Node{}, End: &scan.End{}}} {
		if err := NewJSONL(&bytes.Buffer{}).Handle(e); err == nil {
			t.Errorf("%+v is written", e)
		}
	}
}

func TestJSONHasArraysNotNull(t *testing.T) {
	out := string(write(t, format{"json", NewJSON}, []scan.Event{{Start: &scan.Start{}}, {End: &scan.End{}}}))
	last := -1
	for _, want := range []string{"{\n  \"start\": {", `"nodes": []`, `"findings": []`, `"verdicts": []`, `"failures": []`, `"end": {`} {
		at := strings.Index(out, want)
		if at <= last {
			t.Errorf("%s is missing or out of order in:\n%s", want, out)
		}
		last = at
	}
}

// failing is a disk that is full.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestHandlersReportWhatTheyCouldNotWrite(t *testing.T) {
	full := errors.New("disk full")
	for _, f := range append(formats(), format{"progress", NewProgress}) {
		h := f.make(failing{full})
		var got error
		for _, e := range sampleEvents() {
			if err := h.Handle(e); err != nil {
				got = err
			}
		}
		if !errors.Is(got, full) {
			t.Errorf("%s: %v", f.name, got)
		}
	}
}

func TestTeeGivesAllHandlersAllEvents(t *testing.T) {
	var first, last bytes.Buffer
	full := errors.New("disk full")
	h := Tee(NewJSONL(&first), NewJSONL(failing{full}), NewJSONL(&last))
	for _, e := range sampleEvents() {
		if err := h.Handle(e); e.Progress == nil && !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	}
	want := write(t, format{"jsonl", NewJSONL}, sampleEvents())
	if !bytes.Equal(first.Bytes(), want) || !bytes.Equal(last.Bytes(), want) {
		t.Error("a handler beside one that failed missed events")
	}
	if err := Tee().Handle(scan.Event{End: &scan.End{}}); err != nil {
		t.Error(err)
	}
}

func TestProgressLeavesACleanLine(t *testing.T) {
	for name, events := range map[string][]scan.Event{
		"at the end": {
			{Progress: &scan.Progress{Pods: 100_000, Workloads: 2_000, Remaining: 1_000_000}},
			{Progress: &scan.Progress{Pods: 5}},
			{End: &scan.End{}},
		},
		"before output":  {{Progress: &scan.Progress{Documents: 12_345, Pods: 12_345, Workloads: 99_999}}, {Finding: &scan.Finding{}}},
		"at the picture": {{Progress: &scan.Progress{Pods: 500, Workloads: 40}}, {Picture: &scan.End{}}, {Alert: &scan.Alert{}}, {Resolved: &scan.Resolved{}}},
		"without any":    {{Start: &scan.Start{}}, {End: &scan.End{}}},
	} {
		t.Run(name, func(t *testing.T) {
			out := write(t, format{"progress", NewProgress}, events)
			cells, column := screenLine(t, string(out))
			if strings.TrimSpace(cells) != "" || column != 0 {
				t.Errorf("%q is left, the cursor is at %d", cells, column)
			}
			if len(cells) >= 40 {
				t.Errorf("%d cells: some terminals are narrower", len(cells))
			}
		})
	}
}

// screenLine plays output on a terminal of one line.
func screenLine(t *testing.T, out string) (cells string, column int) {
	t.Helper()
	var line []rune
	for _, r := range out {
		switch r {
		case '\r':
			column = 0
		case '\b':
			column--
		default:
			if r < ' ' {
				t.Fatalf("%U in %q", r, out)
			}
			for len(line) <= column {
				line = append(line, ' ')
			}
			line[column] = r
			column++
		}
	}
	return string(line), column
}
