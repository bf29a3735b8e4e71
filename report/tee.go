package report

import (
	"errors"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Tee returns a handler that gives every event to each of the handlers, in
// order. A handler that fails keeps no other from the event: the errors come
// back joined. It has a method Flush, which flushes those of them that have one.
func Tee(handlers ...scan.Handler) scan.Handler { return tee(handlers) }

type tee []scan.Handler

func (t tee) Handle(e scan.Event) error {
	var errs []error
	for _, h := range t {
		if err := h.Handle(e); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Flush ends a batch.
func (t tee) Flush() error {
	var errs []error
	for _, h := range t {
		if f, ok := h.(interface{ Flush() error }); ok {
			errs = append(errs, f.Flush())
		}
	}
	return errors.Join(errs...)
}
