package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

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
//
// A watch that was killed had no time for its end, and its last line may be broken
// off: it is read as far as it goes, and ends with a failure and an interrupted End.
// One that was started again may go on in the same file, with a start of its own.
// Formats that know no changes are fed through Picture.
func Replay(r io.Reader, h scan.Handler) error {
	p := &replayer{h: h, maxLine: maxLine}
	return p.run(bufio.NewReaderSize(r, 64<<10))
}

// replayer is one reading of one stream.
type replayer struct {
	h       scan.Handler
	maxLine int
	line    int
	started bool
	ended   bool
	// watch is true in the stream of a watch, pictured once its first picture is
	// complete; last is the time of its latest event.
	watch    bool
	pictured bool
	last     time.Time
	// fleet is nil in the stream of one cluster.
	fleet *replayedFleet
	// shard is nil where results are wanted.
	shard *replayedShard
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
		if err != nil && p.watch && !p.ended && !bytes.HasSuffix(line, []byte("\n")) {
			// The last line, in the middle of which the watch was killed.
			return p.cut()
		}
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

// isEvent reports whether line is one object with one key beside the time, that is, a
// line of the jsonl form.
func isEvent(line []byte) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(line, &object) != nil {
		return false
	}
	delete(object, timeKey)
	return len(object) == 1
}

// decodeEvent reads one line.
func decodeEvent(line []byte) (scan.Event, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return scan.Event{}, fmt.Errorf("not an event: %w", orNotObject(err))
	}
	at, kind, err := eventKey(dec)
	if err != nil {
		return scan.Event{}, err
	}
	event, err := decodeKind(dec, kind)
	if err != nil {
		return scan.Event{}, err
	}
	event.Time = at
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

// timeKey is the one key that an event has beside its kind, and before it.
const timeKey = "time"

// eventKey reads the time, where there is one, and the kind of an event.
func eventKey(dec *json.Decoder) (at time.Time, kind string, err error) {
	for {
		key, err := dec.Token()
		if err != nil {
			return at, "", broken(err)
		}
		kind, ok := key.(string)
		switch {
		case !ok:
			return at, "", errors.New("an event with nothing in it")
		case kind != timeKey:
			return at, kind, nil
		case !at.IsZero():
			return at, "", errors.New("time: a second time")
		}
		if err := dec.Decode(&at); err != nil {
			return at, "", fmt.Errorf("time: %w", broken(err))
		}
		if at.IsZero() {
			return at, "", errors.New("time: want one")
		}
	}
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
	case "resolved":
		e.Resolved, err = decode[scan.Resolved](dec)
	case "verdict":
		e.Verdict, err = decode[scan.WorkloadVerdict](dec)
	case "failure":
		e.Failure, err = decode[scan.Failure](dec)
	case "part":
		e.Part, err = decode[scan.Part](dec)
	case "alert":
		e.Alert, err = decode[scan.Alert](dec)
	case "lost":
		e.Lost, err = decode[scan.Lost](dec)
	case "picture":
		e.Picture, err = decode[scan.End](dec)
	case "cluster":
		e.Cluster, err = decode[scan.ClusterRun](dec)
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
