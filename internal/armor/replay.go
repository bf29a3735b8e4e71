package armor

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/escape-scanner/escape-scanner/internal/pause"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Pace is how fast a recording is played.
type Pace struct {
	// Speed is how many seconds of the recording pass in one; 0 is all at once.
	Speed float64
	// MaxGap is the longest that is waited for an alert, whatever passed in the
	// recording; 0 is as long as it takes.
	MaxGap time.Duration
}

// Replay calls visit with every alert of a recording as ReadRecording does, but when its
// time has come, and with the time when it was received, zero where the recording does
// not say. It ends with its context, also while it waits.
func Replay(ctx context.Context, r io.Reader, pace Pace, visit func(a armor.Alert, received time.Time) error) error {
	var last time.Time
	due := time.Now()
	return readRecording(ctx, r, func(a armor.Alert, received time.Time) error {
		// Several sources tell in no order: who looks older than the one before comes at once.
		if gap := received.Sub(last); pace.Speed > 0 && gap > 0 && !last.IsZero() {
			wait := time.Duration(min(float64(gap)/pace.Speed, float64(maxWait)))
			if pace.MaxGap > 0 {
				wait = min(wait, pace.MaxGap)
			}
			due = due.Add(wait)
			if err := pause.For(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		if received.After(last) {
			last = received
		}
		return visit(a, received)
	})
}

// maxWait keeps what is waited for within what a duration can hold.
const maxWait = 365 * 24 * time.Hour

// recorder writes alerts as lines of a recording.
type recorder struct{ line, alert bytes.Buffer }

// record gives the line, without its end; it is good until the next one.
func (r *recorder) record(a *protobuf.Alert, received time.Time) ([]byte, error) {
	message, err := protojson.MarshalOptions{EmitUnpopulated: true}.MarshalAppend(r.alert.AvailableBuffer(), a)
	if err != nil {
		return nil, err
	}
	r.line.Reset()
	r.line.WriteString(`{"received":"`)
	r.line.Write(received.UTC().AppendFormat(r.line.AvailableBuffer(), time.RFC3339Nano))
	r.line.WriteString(`","msg":`)
	// protojson puts spaces where it likes.
	if err := json.Compact(&r.line, message); err != nil {
		return nil, err
	}
	r.line.WriteByte('}')
	return r.line.Bytes(), nil
}
