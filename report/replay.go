package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// maxLine bounds a line of a saved stream. None that a scan writes comes near
// it; without a bound one line could ask for all the memory there is.
const maxLine = 64 << 20

// Replay reads a stream that NewJSONL wrote, or the object that NewJSON wrote,
// and gives its events to h, which then writes what it would have written in the
// run itself.
//
// A stream that is not whole is an error: nothing in it, no start, a line that
// is broken, too long or of an unknown kind, a schema newer than this package
// knows, no end, or something after the end. Errors name the line. An error of h
// is returned as it is.
func Replay(r io.Reader, h scan.Handler) error {
	p := &replayer{h: h, maxLine: maxLine}
	return p.run(bufio.NewReaderSize(r, 64<<10))
}

// ReadFindings returns the findings of a saved run, in either form that Replay
// reads. The run must be whole, as for Replay.
func ReadFindings(r io.Reader) ([]scan.Finding, error) {
	var findings []scan.Finding
	err := Replay(r, scan.HandlerFunc(func(e scan.Event) error {
		if e.Finding != nil {
			findings = append(findings, *e.Finding)
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return findings, nil
}

// replayer is one reading of one stream.
type replayer struct {
	h       scan.Handler
	maxLine int
	line    int
	started bool
	ended   bool
}

// handlerError keeps an error of the handler apart from those of the stream.
type handlerError struct{ err error }

func (e handlerError) Error() string { return e.err.Error() }

func (p *replayer) run(r *bufio.Reader) error {
	err := p.read(r)
	if he := (handlerError{}); errors.As(err, &he) {
		return he.err
	}
	if err != nil && p.line > 0 {
		return fmt.Errorf("line %d: %w", p.line, err)
	}
	return err
}

// read tells the two forms apart by the first line: one event is a whole object
// with one key, anything else can only be the beginning of the one object.
func (p *replayer) read(r *bufio.Reader) error {
	var buf []byte
	for {
		line, err := p.next(r, buf)
		if errors.Is(err, io.EOF) {
			return p.finish()
		}
		if err != nil {
			return err
		}
		buf = line
		if p.line == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if !p.started && !isEvent(line) {
			return p.document(io.MultiReader(bytes.NewReader(line), r))
		}
		event, err := decodeEvent(line)
		if err != nil {
			return err
		}
		if err := p.give(event); err != nil {
			return err
		}
	}
}

// next reads one line into buf and counts it.
func (p *replayer) next(r *bufio.Reader, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		part, err := r.ReadSlice('\n')
		if len(buf) == 0 && len(part) > 0 {
			p.line++
		}
		if len(buf)+len(part) > p.maxLine {
			return nil, fmt.Errorf("longer than %d MiB: no event is", p.maxLine>>20)
		}
		buf = append(buf, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(buf) > 0:
			return buf, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// finish is called where the stream stops.
func (p *replayer) finish() error {
	switch {
	case !p.started:
		return errors.New("empty: want a saved run, as written by -o jsonl or -o json")
	case !p.ended:
		return errors.New("no end event after this: the file is truncated")
	}
	return nil
}

// give checks the order of events and passes one on.
func (p *replayer) give(e scan.Event) error {
	switch {
	case p.ended:
		return errors.New("something after the end event: want one run a file")
	case p.started && e.Start != nil:
		return errors.New("a second start event: want one run a file")
	case !p.started && e.Start == nil:
		return errors.New("no start event: want a saved run, as written by -o jsonl or -o json")
	}
	if err := checkEvent(e); err != nil {
		return err
	}
	p.started = true
	p.ended = e.End != nil
	if err := p.h.Handle(e); err != nil {
		return handlerError{err}
	}
	return nil
}

// isEvent reports whether line is one object with one key, that is, a line of
// the jsonl form.
func isEvent(line []byte) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal(line, &object) == nil && len(object) == 1
}

// decodeEvent reads one line.
func decodeEvent(line []byte) (scan.Event, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return scan.Event{}, fmt.Errorf("not an event: %w", orNotObject(err))
	}
	key, err := dec.Token()
	if err != nil {
		return scan.Event{}, broken(err)
	}
	kind, ok := key.(string)
	if !ok {
		return scan.Event{}, errors.New("an event with nothing in it")
	}
	event, err := decodeKind(dec, kind)
	if err != nil {
		return scan.Event{}, err
	}
	if dec.More() {
		return scan.Event{}, errors.New("more than one event in a line")
	}
	if _, err := dec.Token(); err != nil {
		return scan.Event{}, broken(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return scan.Event{}, errors.New("something after the event")
	}
	return event, nil
}

// decodeKind reads the record of an event of the given kind.
func decodeKind(dec *json.Decoder, kind string) (e scan.Event, err error) {
	switch kind {
	case "start":
		e.Start, err = decode[scan.Start](dec)
	case "progress":
		e.Progress, err = decode[scan.Progress](dec)
	case "node":
		e.Node, err = decode[scan.Node](dec)
	case "policy":
		e.Policy, err = decode[scan.Policy](dec)
	case "finding":
		e.Finding, err = decode[scan.Finding](dec)
	case "verdict":
		e.Verdict, err = decode[scan.WorkloadVerdict](dec)
	case "failure":
		e.Failure, err = decode[scan.Failure](dec)
	case "end":
		e.End, err = decode[scan.End](dec)
	default:
		return e, fmt.Errorf("unknown kind of event %q: written by a newer version?", Clean(kind))
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w", kind, err)
	}
	return e, nil
}

func decode[T any](dec *json.Decoder) (*T, error) {
	var record *T
	if err := dec.Decode(&record); err != nil {
		return nil, broken(err)
	}
	if record == nil {
		return nil, errors.New("null: want an object")
	}
	return record, nil
}

// broken says of an error of the decoder what it means for the file.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("broken off: the file is truncated")
	}
	return fmt.Errorf("broken: %w", err)
}

func orNotObject(err error) error {
	if err != nil {
		return broken(err)
	}
	return errors.New("want an object")
}
