package kubetest

import (
	"encoding/json"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Action is what a Proxy does with one request. The handler next passes it on to
// the server and the server's answer back.
type Action func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Pass passes the request on.
func Pass() Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
	}
}

// Respond answers with the status, and with its code as the HTTP status, in the
// server's place. Statuses of the server's own making are to be had from the
// errors of k8s.io/apimachinery/pkg/api/errors:
//
//	kubetest.Respond(apierrors.NewForbidden(pods, "", reason).ErrStatus)
func Respond(status metav1.Status) Action {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	body, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
		}
		w.WriteHeader(int(status.Code))
		// A client that has gone is none of the proxy's business.
		_, _ = w.Write(body)
	}
}

// Forbidden answers 403 as the server does when RBAC refuses.
func Forbidden(message string) Action {
	return Respond(failure(http.StatusForbidden, metav1.StatusReasonForbidden, message))
}

// Unauthorized answers 401 as the server does to a token that has expired.
func Unauthorized() Action {
	return Respond(failure(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized"))
}

// Gone answers 410 as the server does when the place that a list or a watch
// wants to go on from is no longer kept. With a continue token the client may go
// on with the list from that token, though no longer consistently; with an empty
// one it must begin again.
func Gone(continueToken string) Action {
	status := failure(http.StatusGone, metav1.StatusReasonExpired, "The provided continue parameter is too old")
	status.ListMeta.Continue = continueToken
	return Respond(status)
}

// TooManyRequests answers 429 and asks the client to wait for so many seconds,
// or, with zero, does not say how long. client-go waits and tries again by itself
// when it is told how long.
func TooManyRequests(retryAfterSeconds int32) Action {
	status := failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests")
	status.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
	return Respond(status)
}

// InternalError answers 500.
func InternalError(message string) Action {
	return Respond(failure(http.StatusInternalServerError, metav1.StatusReasonInternalError, message))
}

// Rewind passes a watch on as one that goes on from the server's very first version.
// A server of which the history was compacted answers that it is gone.
func Rewind() Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		query := r.URL.Query()
		query.Set("resourceVersion", "1")
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
		next.ServeHTTP(w, r)
	}
}

// Hold keeps the request waiting until the channel is closed and then goes on as
// the action then says. Is the client gone before, or the connection cut, the
// request ends unanswered.
func Hold(until <-chan struct{}, then Action) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-until:
			then(w, r, next)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// Cut cuts the connection without an answer, with every other request that goes
// over it.
func Cut() Action {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		cut(r)
	}
}

// CutAfter passes the request on, and breaks the answer off when so many bytes of
// its body, as they are sent, have been passed back. Other requests on the
// connection are not touched. A body that ends before is passed whole.
func CutAfter(bytes int) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{ResponseWriter: w, left: bytes}, r)
	}
}

func failure(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

// cutWriter is a response that ends in the middle.
type cutWriter struct {
	http.ResponseWriter
	left int
}

// Write passes on what may still be passed, and then fails, upon which the
// reverse proxy aborts the answer.
func (w *cutWriter) Write(data []byte) (int, error) {
	if len(data) < w.left {
		w.left -= len(data)
		return w.ResponseWriter.Write(data)
	}
	written, err := w.ResponseWriter.Write(data[:w.left])
	w.left = 0
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if err == nil {
		err = http.ErrAbortHandler
	}
	return written, err
}

// Unwrap lets the reverse proxy flush.
func (w *cutWriter) Unwrap() http.ResponseWriter {
	return w.ResponseWriter
}
