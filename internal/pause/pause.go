// Package pause waits for no longer than somebody wants.
package pause

import (
	"context"
	"time"
)

// For waits for d. When the context ends before, or has ended already, it returns at once
// with the context's cause.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
