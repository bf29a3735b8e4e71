package pause_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/pause"
)

func TestFor(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	for name, test := range map[string]struct {
		// ends is when the context ends, 0 for before the pause, negative for never.
		ends, pause, want time.Duration
		err               error
	}{
		"the whole time":        {ends: -1, pause: time.Hour, want: time.Hour},
		"no time":               {ends: -1},
		"time that is over":     {ends: -1, pause: -time.Hour},
		"stopped":               {ends: time.Minute, pause: time.Hour, want: time.Minute, err: stopped},
		"stopped before":        {pause: time.Hour, err: stopped},
		"no time, when stopped": {err: stopped},
		"stopped later":         {ends: 2 * time.Hour, pause: time.Hour, want: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				switch {
				case test.ends == 0:
					stop(stopped)
				case test.ends > 0:
					time.AfterFunc(test.ends, func() { stop(stopped) })
				}
				began := time.Now()
				err := pause.For(ctx, test.pause)
				if took := time.Since(began); took != test.want || !errors.Is(err, test.err) {
					t.Errorf("took %v and returned %v, want %v and %v", took, err, test.want, test.err)
				}
			})
		})
	}
}
