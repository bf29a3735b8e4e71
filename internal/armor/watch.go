package armor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Watch calls visit with every alert as it comes, until the context ends, the
// connection breaks, or visit fails. It never returns nil: the error is the context's,
// ErrStreamEnded, that of the connection, or visit's as it is. Nothing of it is left
// when it returns. visit has to be quick: the relay holds one alert for each client and
// drops, without a word, what comes meanwhile.
func Watch(ctx context.Context, target Target, visit func(armor.Alert) error) error {
	var d decoder
	_, err := runSession(ctx, target, hooks{
		take: func(message []byte) error {
			alert, ok, err := d.decode(message)
			if err != nil || !ok {
				return err
			}
			if err := visit(alert); err != nil {
				return visitError{err}
			}
			return nil
		},
		connected: func(time.Time) {
			if target.Connected != nil {
				target.Connected()
			}
		},
	})
	var stopped visitError
	switch {
	case errors.As(err, &stopped):
		return stopped.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("KubeArmor at %s: %w", target.Address, err)
}

// visitError is an error of the visitor, whatever its kind.
type visitError struct{ err error }

func (e visitError) Error() string { return e.err.Error() }
