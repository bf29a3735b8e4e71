package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/escape-scanner/escape-scanner/internal/pause"
)

// retryPolicy says how often one request is tried, with what pauses, and after
// which errors.
type retryPolicy struct {
	backoff wait.Backoff
	again   func(error) bool
}

func defaultRetry() retryPolicy {
	return retryPolicy{wait.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Jitter: 0.2, Steps: 4}, transient}
}

// firstContact is the policy for a server that has not answered yet: a wrong address
// is told at once.
func (p retryPolicy) firstContact() retryPolicy { return retryPolicy{p.backoff, busy} }

// do calls f until it succeeds, fails for good, or was tried often enough. A
// request that took its whole time is not tried again: the next would too.
func (p retryPolicy) do(ctx context.Context, f func() error) error {
	backoff := p.backoff
	for {
		err := f()
		if err == nil || ctx.Err() != nil || !p.again(err) || backoff.Steps <= 1 {
			return err
		}
		if pause.For(ctx, backoff.Step()) != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// transient reports whether the same request may go through later.
func transient(err error) bool { return busy(err) || broken(err) }

// busy reports whether the server asks to be asked again.
func busy(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err)
}

// broken reports whether the connection broke, or could not be made.
func broken(err error) bool {
	if utilnet.IsTimeout(err) {
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || utilnet.IsProbableEOF(err) ||
		utilnet.IsConnectionReset(err) || utilnet.IsConnectionRefused(err) {
		return true
	}
	// An answer that broke off has no type of its own in client-go. A url.Error is no
	// sign: a wrong certificate is one too.
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "read" || op.Op == "write") ||
		strings.Contains(err.Error(), "when reading response body") || brokenHTTP2(err)
}

// brokenHTTP2 reports whether a request was on an HTTP/2 connection that went away under
// it, because of another request's error or because the server said goodbye. net/http
// gives these no type.
func brokenHTTP2(err error) bool {
	text := err.Error()
	return strings.Contains(text, "http2: client conn") || strings.Contains(text, "http2: ") && strings.Contains(text, "GOAWAY")
}

// maxExpired is how often in a row a list may expire before it brings anything
// new.
const maxExpired = 4

// listFunc asks for one page.
type listFunc[T any] func(context.Context, metav1.ListOptions) ([]T, metav1.ListMeta, error)

// pages lists page by page and calls visit with each, while the next is already
// being fetched. When the snapshot that the pages are taken of expires (410), it
// goes on where it was in a newer one. key is an item's place in the server's
// order, which is that of "namespace/name".
func pages[T any](ctx context.Context, retry retryPolicy, options metav1.ListOptions, list listFunc[T], key func(*T) string, visit func([]T, metav1.ListMeta) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type fetched struct {
		items []T
		meta  metav1.ListMeta
		err   error
	}
	next := make(chan fetched)
	fetch := func() {
		defer close(next)
		reached, skipping, expired := "", false, 0
		for {
			var f fetched
			f.err = retry.do(ctx, func() (err error) {
				f.items, f.meta, err = list(ctx, options)
				return err
			})
			if apierrors.IsResourceExpired(f.err) && options.Continue != "" && expired < maxExpired {
				expired++
				token := continueToken(f.err)
				// Without a token, the list starts over and what was seen is skipped.
				skipping = token == ""
				options.Continue = token
				continue
			}
			if skipping {
				f.items = slices.DeleteFunc(f.items, func(item T) bool { return key(&item) <= reached })
			}
			if len(f.items) > 0 {
				reached, expired = key(&f.items[len(f.items)-1]), 0
			}
			select {
			case <-ctx.Done():
				return
			case next <- f:
			}
			if f.err != nil || f.meta.Continue == "" {
				return
			}
			options.Continue = f.meta.Continue
		}
	}
	go fetch()
	for f := range next {
		if f.err != nil {
			return f.err
		}
		if err := visit(f.items, f.meta); err != nil {
			cancel()
			for range next {
				// The fetcher ends before we do.
			}
			return err
		}
	}
	return ctx.Err()
}

// continueToken is the token that a server offers with a 410 to go on in a newer
// snapshot.
func continueToken(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// objectKey is an object's place in the server's order.
func objectKey(m *metav1.ObjectMeta) string { return m.Namespace + "/" + m.Name }

func subject(what, namespace string, err error) error {
	if err == nil {
		return nil
	}
	if namespace != "" {
		what += " in namespace " + namespace
	}
	return fmt.Errorf("%s: %w", what, err)
}
