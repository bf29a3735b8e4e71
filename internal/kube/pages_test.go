package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// store is a server in memory: keys in the order of an API server, and what to
// answer instead of a page.
type store struct {
	keys []string
	// instead is asked before each request, by its number from 1.
	instead func(request int, o metav1.ListOptions) error
	// requests are the tokens that were asked with.
	requests []string
}

func newStore(keys ...string) *store {
	return &store{keys: slices.Sorted(slices.Values(keys))}
}

func (s *store) list(ctx context.Context, o metav1.ListOptions) ([]string, metav1.ListMeta, error) {
	s.requests = append(s.requests, o.Continue)
	if err := ctx.Err(); err != nil {
		return nil, metav1.ListMeta{}, err
	}
	if s.instead != nil {
		if err := s.instead(len(s.requests), o); err != nil {
			return nil, metav1.ListMeta{}, err
		}
	}
	first, _ := slices.BinarySearch(s.keys, o.Continue)
	last := min(first+int(o.Limit), len(s.keys))
	page := slices.Clone(s.keys[first:last])
	m := metav1.ListMeta{}
	if last < len(s.keys) {
		// The token is the key that comes next.
		m.Continue, m.RemainingItemCount = s.keys[last], new(int64(len(s.keys)-last))
	}
	return page, m, nil
}

// read reads the store and returns what was visited.
func (s *store) read(ctx context.Context, limit int64) ([]string, error) {
	var seen []string
	err := pages(ctx, defaultRetry(), metav1.ListOptions{Limit: limit}, s.list, func(k *string) string { return *k },
		func(items []string, _ metav1.ListMeta) error {
			seen = append(seen, items...)
			return nil
		})
	return seen, err
}

func gone(token string) error {
	err := apierrors.NewResourceExpired("the provided continue parameter is too old")
	err.ErrStatus.Continue = token
	return err
}

func someKeys(n int) []string {
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("ns-%d/pod-%04d", i%3, i))
	}
	return keys
}

func TestPagesVisitEverythingOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10} {
		for _, limit := range []int64{1, 2, 3, 10, 500} {
			s := newStore(someKeys(n)...)
			seen, err := s.read(t.Context(), limit)
			if err != nil || !slices.Equal(seen, s.keys) {
				t.Errorf("%d items by %d: %q, %v", n, limit, seen, err)
			}
			if want := max(1, (n+int(limit)-1)/int(limit)); len(s.requests) != want {
				t.Errorf("%d items by %d: %d requests, want %d", n, limit, len(s.requests), want)
			}
		}
	}
}

func TestPagesFetchOneAheadAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(someKeys(10)...)
		visits := 0
		err := pages(t.Context(), defaultRetry(), metav1.ListOptions{Limit: 2}, s.list, func(k *string) string { return *k },
			func([]string, metav1.ListMeta) error {
				visits++
				synctest.Wait() // The fetcher has gone as far as it may.
				if want := min(visits+1, 5); len(s.requests) != want {
					t.Errorf("during visit %d: %d requests, want %d", visits, len(s.requests), want)
				}
				return nil
			})
		if err != nil || visits != 5 {
			t.Errorf("%d visits, %v", visits, err)
		}
	})
}

func TestPagesGoOnFromTheTokenOfA410(t *testing.T) {
	s := newStore(someKeys(9)...)
	want := slices.Clone(s.keys)
	s.instead = func(request int, o metav1.ListOptions) error {
		if request == 2 {
			return gone(o.Continue)
		}
		return nil
	}
	seen, err := s.read(t.Context(), 2)
	if err != nil || !slices.Equal(seen, want) {
		t.Errorf("%q, %v", seen, err)
	}
	if slices.Contains(s.requests[1:], "") {
		t.Errorf("began again: %q", s.requests)
	}
}

// Without a token the list begins again. What was visited is not visited twice,
// what has gone or come meanwhile disturbs nothing, and the order is the server's:
// "-" and "." come before "/", so "a-b/x" before "a/x".
func TestPagesBeginAgainAfterA410(t *testing.T) {
	before := []string{"a-b/x", "a.b/x", "a/x", "a/y", "ab/x", "b/x", "b/y", "c/x"}
	for at := 2; at <= 4; at++ {
		s := newStore(before...)
		s.instead = func(request int, _ metav1.ListOptions) error {
			if request != at {
				return nil
			}
			s.keys = slices.DeleteFunc(s.keys, func(k string) bool { return k == "a.b/x" })
			s.keys = append(s.keys, "a-a/early", "z/late")
			slices.Sort(s.keys)
			return gone("")
		}
		seen, err := s.read(t.Context(), 2)
		if want := append(slices.Clone(before), "z/late"); err != nil || !slices.Equal(seen, want) {
			t.Errorf("410 at request %d: %q, %v; want %q", at, seen, err, want)
		}
		if s.requests[at] != "" {
			t.Errorf("410 at request %d: went on with %q", at, s.requests[at])
		}
	}
}

func TestPagesSurviveManyExpiriesThatLeaveProgress(t *testing.T) {
	for _, token := range []bool{true, false} {
		s := newStore(someKeys(40)...)
		// Every page is gone when it is asked for the first time.
		expired := map[string]bool{"": true}
		s.instead = func(_ int, o metav1.ListOptions) error {
			if expired[o.Continue] {
				return nil
			}
			expired[o.Continue] = true
			if token {
				return gone(o.Continue)
			}
			return gone("")
		}
		seen, err := s.read(t.Context(), 2)
		if err != nil || !slices.Equal(seen, s.keys) {
			t.Errorf("token %v: %q, %v", token, seen, err)
		}
	}
}

func TestPagesGiveUpWhenEveryPageIsGone(t *testing.T) {
	for _, token := range []string{"", "ns-1/pod-0001"} {
		s := newStore(someKeys(9)...)
		s.instead = func(_ int, o metav1.ListOptions) error {
			if o.Continue == "" {
				return nil
			}
			return gone(token)
		}
		seen, err := s.read(t.Context(), 2)
		if !apierrors.IsResourceExpired(err) {
			t.Errorf("token %q: %v, want that the place is gone", token, err)
		}
		if !slices.Equal(seen, s.keys[:2]) || len(s.requests) > 30 {
			t.Errorf("token %q: visited %q in %d requests", token, seen, len(s.requests))
		}
	}
}

func TestPagesPassOnA410ToTheFirstPage(t *testing.T) {
	s := newStore(someKeys(3)...)
	s.instead = func(int, metav1.ListOptions) error { return gone("") }
	if _, err := s.read(t.Context(), 2); !apierrors.IsResourceExpired(err) || len(s.requests) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests))
	}
}

// timeoutError is what a request ends with that took all its time.
type timeoutError struct{}

func (timeoutError) Error() string   { return "time is up" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestPagesTryAgainWhatMayGoThrough(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, test := range []struct {
		name  string
		err   error
		again bool
	}{
		{"429", apierrors.NewTooManyRequests("busy", 0), true},
		{"500", apierrors.NewInternalError(errors.New("etcd")), true},
		{"503", apierrors.NewServiceUnavailable("starting"), true},
		{"504 of the server", apierrors.NewServerTimeout(pods, "list", 0), true},
		{"502 of a proxy", apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", pods, "", "bad gateway", 0, true), true},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{"refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		{"cut body", fmt.Errorf("body: %w", io.ErrUnexpectedEOF), true},
		{"cut HTTP/2", errors.New("http2: client connection lost"), true},
		{"HTTP/2 closed by another request", &url.Error{Op: "Get", Err: errors.New("http2: client connection force closed via ClientConn.Close")}, true},
		{"HTTP/2 closed before", &url.Error{Op: "Get", Err: errors.New("http2: client conn is closed")}, true},
		{"goodbye", &url.Error{Op: "Get", Err: errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=\"\"")}, true},
		{"other HTTP/2", &url.Error{Op: "Get", Err: errors.New("http2: request body is too large")}, false},
		{"cut HTTP/2 stream", errors.New("stream error when reading response body, may be caused by closed connection. Please retry. Original error: stream error: stream ID 5; INTERNAL_ERROR; received from peer"), true},
		{"unreachable", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, true},
		{"wrong certificate", &url.Error{Op: "Get", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}, false},
		{"no TLS", &url.Error{Op: "Get", Err: errors.New("http: server gave HTTP response to HTTPS client")}, false},
		{"refused by TLS", &url.Error{Op: "Get", Err: &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}}, false},
		{"403", apierrors.NewForbidden(pods, "", errors.New("no")), false},
		{"401", apierrors.NewUnauthorized("no"), false},
		{"404", apierrors.NewNotFound(pods, ""), false},
		{"400", apierrors.NewBadRequest("no"), false},
		{"timeout", fmt.Errorf("get: %w", timeoutError{}), false},
		{"504 of the request", apierrors.NewTimeoutError("request did not complete", 0), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Once, in the middle: as if nothing had been, if it may be tried again.
				s := newStore(someKeys(5)...)
				s.instead = func(request int, _ metav1.ListOptions) error {
					if request == 2 {
						return test.err
					}
					return nil
				}
				seen, err := s.read(t.Context(), 2)
				if test.again && (err != nil || !slices.Equal(seen, s.keys)) {
					t.Errorf("once: %q, %v", seen, err)
				}
				if !test.again && (!errors.Is(err, test.err) || !slices.Equal(seen, s.keys[:2])) {
					t.Errorf("once: %q, %v", seen, err)
				}

				// Always: an end is found, and the error is the server's.
				s = newStore(someKeys(5)...)
				s.instead = func(int, metav1.ListOptions) error { return test.err }
				began := time.Now()
				_, err = s.read(t.Context(), 2)
				if !errors.Is(err, test.err) {
					t.Errorf("always: %v", err)
				}
				want := 1
				if test.again {
					want = defaultRetry().backoff.Steps
				}
				if len(s.requests) != want || time.Since(began) > 10*time.Second {
					t.Errorf("always: %d requests in %v, want %d", len(s.requests), time.Since(began), want)
				}
			})
		})
	}
}

// Who mistyped an address should not wait to hear it.
func TestFirstContactTriesAgainOnlyWhoAnswered(t *testing.T) {
	for err, want := range map[error]int{
		apierrors.NewServiceUnavailable("starting"):         4,
		&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}: 1,
		io.ErrUnexpectedEOF:                                 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			got := defaultRetry().firstContact().do(t.Context(), func() error {
				tries++
				return err
			})
			if tries != want || got != err { //nolint:errorlint // The very error.
				t.Errorf("%v: %d tries, want %d; ended with %v", err, tries, want, got)
			}
		})
	}
}

func TestPagesEndWithTheContext(t *testing.T) {
	for _, where := range []string{"before", "while asking", "while waiting to ask again", "while visiting"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := newStore(someKeys(9)...)
				list := s.list
				visit := func([]string, metav1.ListMeta) error { return nil }
				switch where {
				case "before":
					cancel()
				case "while asking":
					list = func(ctx context.Context, o metav1.ListOptions) ([]string, metav1.ListMeta, error) {
						if o.Continue == "" {
							return s.list(ctx, o)
						}
						cancel()
						<-ctx.Done()
						return nil, metav1.ListMeta{}, ctx.Err()
					}
				case "while waiting to ask again":
					s.instead = func(request int, _ metav1.ListOptions) error {
						if request > 1 {
							time.AfterFunc(time.Millisecond, cancel)
							return apierrors.NewTooManyRequests("busy", 0)
						}
						return nil
					}
				case "while visiting":
					visit = func([]string, metav1.ListMeta) error {
						cancel()
						return nil
					}
				}
				began := time.Now()
				// A goroutine that is left blocked fails the test.
				err := pages(ctx, defaultRetry(), metav1.ListOptions{Limit: 2}, list, func(k *string) string { return *k }, visit)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v, want that it was cancelled", err)
				}
				if waited := time.Since(began); waited > time.Millisecond {
					t.Errorf("took %v", waited)
				}
			})
		})
	}
}

func TestPagesStopWhenTheVisitorFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(someKeys(20)...)
		full := errors.New("disk full")
		visits := 0
		err := pages(t.Context(), defaultRetry(), metav1.ListOptions{Limit: 2}, s.list, func(k *string) string { return *k },
			func([]string, metav1.ListMeta) error {
				if visits++; visits == 2 {
					return full
				}
				return nil
			})
		if err != full { //nolint:errorlint // Exactly what the visitor returned.
			t.Errorf("%v, want the visitor's error", err)
		}
		asked := len(s.requests)
		synctest.Wait()
		if visits != 2 || asked > 3 || len(s.requests) != asked {
			t.Errorf("%d visits, %d requests, %d in the end", visits, asked, len(s.requests))
		}
	})
}

func TestContinueTokenIsThatOfTheStatus(t *testing.T) {
	for i, test := range []struct {
		err  error
		want string
	}{
		{gone("next"), "next"},
		{fmt.Errorf("list: %w", gone("next")), "next"},
		{gone(""), ""},
		{errors.New("no status"), ""},
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if got := continueToken(test.err); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestSubjectOfAnErrorKeepsItsKind(t *testing.T) {
	err := subject("list pods", "shop", apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no")))
	if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), "list pods in namespace shop: ") {
		t.Error(err)
	}
	if err := subject("list pods", "", nil); err != nil {
		t.Error(err)
	}
}
