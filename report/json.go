package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// NewJSONL returns a handler that writes the stream as it is, one event a line:
// the native format, which Replay reads back. How far reading has come is no result and
// is left out.
func NewJSONL(w io.Writer) scan.Handler {
	return &jsonl{enc: newEncoder(w)}
}

type jsonl struct{ enc *encoder }

func (j *jsonl) Handle(e scan.Event) error {
	if _, err := kindOf(e); err != nil {
		return fmt.Errorf("jsonl: %w", err)
	}
	if e.Progress != nil {
		return nil
	}
	line := eventJSON{Event: e}
	if e.Finding != nil {
		line.Finding = newFindingJSON(e.Finding)
	}
	if err := j.enc.encode(line); err != nil {
		return fmt.Errorf("jsonl: %w", err)
	}
	return nil
}

// NewJSON returns a handler that writes the run as one object, at its end. The
// records of the stream stand in arrays between start and end.
func NewJSON(w io.Writer) scan.Handler {
	j := &jsonDocument{enc: newEncoder(w)}
	j.enc.indent()
	j.doc.Nodes = []*scan.Node{}
	j.doc.Policies = []*scan.Policy{}
	j.doc.Findings = []*findingJSON{}
	j.doc.Verdicts = []*scan.WorkloadVerdict{}
	j.doc.Failures = []*scan.Failure{}
	return j
}

type jsonDocument struct {
	enc  *encoder
	doc  documentJSON
	told alertLog
}

func (j *jsonDocument) Handle(e scan.Event) error {
	switch {
	case e.Start != nil:
		j.doc.Start = e.Start
	case e.Cluster != nil:
		j.doc.Clusters = append(j.doc.Clusters, e.Cluster)
	case e.Node != nil:
		j.doc.Nodes = append(j.doc.Nodes, e.Node)
	case e.Policy != nil:
		j.doc.Policies = append(j.doc.Policies, e.Policy)
	case e.Finding != nil:
		j.doc.Findings = append(j.doc.Findings, newFindingJSON(e.Finding))
	case e.Verdict != nil:
		j.doc.Verdicts = append(j.doc.Verdicts, e.Verdict)
	case e.Failure != nil:
		j.doc.Failures = append(j.doc.Failures, e.Failure)
	case e.Alert != nil, e.Lost != nil:
		j.told.keep(e)
	case e.End != nil:
		j.doc.End = e.End
		j.doc.Alerts, j.doc.Lost = j.told.arrays(j.doc.Start)
		if err := j.enc.encode(j.doc); err != nil {
			return fmt.Errorf("json: %w", err)
		}
	}
	return nil
}

// documentJSON is the object of the json format; its keys stand in this order. An
// empty list of alerts says that there were none, and none that nobody listened. Only a
// fleet has clusters; its records stand in the arrays cluster by cluster.
type documentJSON struct {
	Start    *scan.Start             `json:"start"`
	Clusters []*scan.ClusterRun      `json:"clusters,omitempty"`
	Nodes    []*scan.Node            `json:"nodes"`
	Policies []*scan.Policy          `json:"policies"`
	Findings []*findingJSON          `json:"findings"`
	Verdicts []*scan.WorkloadVerdict `json:"verdicts"`
	Failures []*scan.Failure         `json:"failures"`
	Alerts   []*scan.Alert           `json:"alerts,omitzero"`
	Lost     []*scan.Lost            `json:"lost,omitzero"`
	End      *scan.End               `json:"end"`
}

// eventJSON is an event as it is written: its Finding hides the one of the
// embedded event.
type eventJSON struct {
	scan.Event
	Finding *findingJSON `json:"finding,omitempty"`
}

// findingJSON adds to a finding what follows from it, for readers that cannot
// compute it.
type findingJSON struct {
	*scan.Finding
	Fingerprint string `json:"fingerprint"`
}

func newFindingJSON(f *scan.Finding) *findingJSON {
	return &findingJSON{Finding: f, Fingerprint: f.Fingerprint()}
}

// kindOf names the one field of e that is set.
func kindOf(e scan.Event) (string, error) {
	kind, set := "", 0
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"start", e.Start != nil},
		{"progress", e.Progress != nil},
		{"node", e.Node != nil},
		{"policy", e.Policy != nil},
		{"finding", e.Finding != nil},
		{"resolved", e.Resolved != nil},
		{"verdict", e.Verdict != nil},
		{"failure", e.Failure != nil},
		{"part", e.Part != nil},
		{"alert", e.Alert != nil},
		{"lost", e.Lost != nil},
		{"picture", e.Picture != nil},
		{"cluster", e.Cluster != nil},
		{"end", e.End != nil},
	} {
		if field.set {
			kind = field.name
			set++
		}
	}
	if set != 1 {
		return "", fmt.Errorf("event with %d fields set: want exactly one", set)
	}
	return kind, nil
}

// encoder writes JSON values that are harmless on a terminal, each with one call
// of Write.
type encoder struct {
	w   io.Writer
	buf bytes.Buffer
	enc *json.Encoder
}

func newEncoder(w io.Writer) *encoder {
	e := &encoder{w: w}
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}

func (e *encoder) indent() { e.enc.SetIndent("", "  ") }

func (e *encoder) encode(v any) error {
	e.buf.Reset()
	if err := e.enc.Encode(v); err != nil {
		return err
	}
	out := escapeJSON(e.buf.Bytes())
	n, err := e.w.Write(out)
	if err == nil && n < len(out) {
		return io.ErrShortWrite
	}
	return err
}
