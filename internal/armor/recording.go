package armor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// maxAlert bounds one alert, on a line and in a message. Real ones stay under 4 KiB;
// the longest command line that the kernel takes is 128 KiB a word.
const maxAlert = 1 << 20

// BadLinesError says that lines of a recording are no alerts. All others were read.
type BadLinesError struct {
	// Lines counts them, First is the number of the first, and Err what is wrong there.
	Lines, First int
	Err          error
}

func (e *BadLinesError) Error() string {
	if e.Lines == 1 {
		return fmt.Sprintf("line %d is no alert: %v", e.First, e.Err)
	}
	return fmt.Sprintf("%d lines are no alerts, the first is line %d: %v", e.Lines, e.First, e.Err)
}

func (e *BadLinesError) Unwrap() error { return e.Err }

var errLineTooLong = fmt.Errorf("longer than %d KiB", maxAlert>>10)

// ReadRecording calls visit with every alert of a recording, one a line: as
// `karmor logs --json` writes it, or {"received": …, "msg": ALERT}. Logs of KubeArmor
// that are no alerts are passed over. Lines that are neither do not end the reading: a
// BadLinesError tells of them afterwards. Errors of visit are returned as they are.
func ReadRecording(ctx context.Context, r io.Reader, visit func(armor.Alert) error) error {
	return readRecording(ctx, r, func(a armor.Alert, _ time.Time) error { return visit(a) })
}

// readRecording is ReadRecording with the times when the alerts were received, zero
// where the recording does not say.
func readRecording(ctx context.Context, r io.Reader, visit func(armor.Alert, time.Time) error) error {
	lines := bufio.NewReaderSize(r, 64<<10)
	var bad *BadLinesError
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, errLineTooLong) {
			return fmt.Errorf("line %d: %w", number, err)
		}
		var alert armor.Alert
		var received time.Time
		var is bool
		if err == nil {
			alert, received, is, err = decodeLine(line)
		}
		if err != nil {
			if bad == nil {
				bad = &BadLinesError{First: number, Err: err}
			}
			bad.Lines++
			continue
		}
		if !is {
			continue
		}
		if err := visit(alert, received); err != nil {
			return err
		}
	}
	if bad != nil {
		return bad
	}
	return nil
}

// readLine reads a line without its end. One that is too long is read to its end and
// dropped. io.EOF comes alone, after the last line.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if !long && len(line)+len(part) > maxAlert {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(line) > 0 || long):
		case err != nil:
			return nil, err
		}
		if long {
			return nil, errLineTooLong
		}
		return bytes.TrimSpace(line), nil
	}
}

// decodeLine reads the alert of a line; ok is false where there is none to be expected.
func decodeLine(line []byte) (alert armor.Alert, received time.Time, ok bool, err error) {
	if len(line) == 0 {
		return alert, received, false, nil
	}
	var recorded struct {
		Received json.RawMessage `json:"received"`
		Msg      json.RawMessage `json:"msg"`
	}
	if err := json.Unmarshal(line, &recorded); err != nil {
		return alert, received, false, err
	}
	if len(recorded.Msg) > 0 {
		line = recorded.Msg
	}
	var message protobuf.Alert
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, &message); err != nil {
		return alert, received, false, err
	}
	if ok, err := isAlert(&message); !ok {
		return alert, received, false, err
	}
	// An alert without a time that can be read is an alert all the same.
	if json.Unmarshal(recorded.Received, &received) != nil {
		received = time.Time{}
	}
	return DecodeAlert(&message), received, true, nil
}
