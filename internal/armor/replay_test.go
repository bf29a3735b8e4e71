package armor_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// A recording that is played at once is the one that is read.
func TestReplay(t *testing.T) {
	t.Parallel()
	for _, file := range recordings(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text := readFile(t, file)
			want, err := collect(t, bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			var got []armor.Alert
			err = reader.Replay(t.Context(), bytes.NewReader(text), reader.Pace{}, func(a armor.Alert, received time.Time) error {
				if received.IsZero() {
					t.Error("an alert without a time")
				}
				got = append(got, a)
				return nil
			})
			if err != nil || !slices.EqualFunc(got, want, sameAlert) {
				t.Errorf("%d alerts of %d: %v", len(got), len(want), err)
			}
		})
	}
}

// recorded makes a recording of alerts received so many seconds after another moment;
// what is no number stands as it is.
func recorded(lines ...any) string {
	at := time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)
	var text strings.Builder
	for _, line := range lines {
		switch line := line.(type) {
		case float64:
			text.WriteString(`{"received":"` + at.Add(time.Duration(line*float64(time.Second))).Format(time.RFC3339Nano) + `","msg":{"Type":"MatchedPolicy"}}`)
		case string:
			text.WriteString(line)
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// Time is made up here.
func TestReplayPace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		pace reader.Pace
		text string
		want []time.Duration
	}{
		{"as it was", reader.Pace{Speed: 1}, recorded(0., .5, 3., 63.), []time.Duration{0, 500, 3000, 63000}},
		{"at once", reader.Pace{}, recorded(0., .5, 3., 63.), []time.Duration{0, 0, 0, 0}},
		{"ten times as fast", reader.Pace{Speed: 10}, recorded(0., .5, 3., 63.), []time.Duration{0, 50, 300, 6300}},
		{"half as fast", reader.Pace{Speed: .5}, recorded(0., .5), []time.Duration{0, 1000}},
		{"no gap over two seconds", reader.Pace{Speed: 1, MaxGap: 2 * time.Second}, recorded(0., .5, 3., 63.), []time.Duration{0, 500, 2500, 4500}},
		{"two sources", reader.Pace{Speed: 1}, recorded(0., 5., 3., 6.), []time.Duration{0, 5000, 5000, 6000}},
		{"a line without a time", reader.Pace{Speed: 1}, recorded(0., `{"Type":"MatchedPolicy"}`, 2.), []time.Duration{0, 0, 2000}},
		{"a time that is none", reader.Pace{Speed: 1}, recorded(0., `{"received":"noon","msg":{"Type":"MatchedPolicy"}}`, 2.), []time.Duration{0, 0, 2000}},
		{"so slow that it never comes", reader.Pace{Speed: 1e-300, MaxGap: time.Second}, recorded(0., 1.), []time.Duration{0, 1000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var got []time.Duration
				err := reader.Replay(t.Context(), strings.NewReader(test.text), test.pace, func(armor.Alert, time.Time) error {
					got = append(got, time.Since(began)/time.Millisecond)
					return nil
				})
				if err != nil || !slices.Equal(got, test.want) {
					t.Errorf("at %v ms, want %v: %v", got, test.want, err)
				}
			})
		})
	}
}

// A visitor that takes its time does not slow the recording down.
func TestReplayKeepsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := reader.Replay(t.Context(), strings.NewReader(recorded(0., 2., 4., 6.)), reader.Pace{Speed: 1}, func(armor.Alert, time.Time) error {
			<-time.After(time.Second)
			return nil
		})
		if took := time.Since(began); err != nil || took != 7*time.Second {
			t.Errorf("took %s: %v", took, err)
		}
	})
}

func TestReplayEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the user is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(gone) })
		seen := 0
		err := reader.Replay(ctx, strings.NewReader(recorded(0., 3600.)), reader.Pace{Speed: 1}, func(armor.Alert, time.Time) error { seen++; return nil })
		if !errors.Is(err, gone) || seen != 1 {
			t.Errorf("%d alerts: %v", seen, err)
		}
	})
	enough := errors.New("enough")
	if err := reader.Replay(t.Context(), strings.NewReader(recorded(0., 1.)), reader.Pace{}, func(armor.Alert, time.Time) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	seen := 0
	err := reader.Replay(t.Context(), strings.NewReader(recorded(0., "no alert", 1.)), reader.Pace{}, func(armor.Alert, time.Time) error { seen++; return nil })
	var bad *reader.BadLinesError
	if !errors.As(err, &bad) || bad.Lines != 1 || bad.First != 2 || seen != 2 {
		t.Errorf("%d alerts: %v", seen, err)
	}
}
