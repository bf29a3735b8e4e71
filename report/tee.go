package report

import (
	"errors"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Tee returns a handler that gives every event to each of the handlers, in
// order. A handler that fails keeps no other from the event: the errors come
// back joined.
func Tee(handlers ...scan.Handler) scan.Handler {
	return scan.HandlerFunc(func(e scan.Event) error {
		var errs []error
		for _, h := range handlers {
			if err := h.Handle(e); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}
