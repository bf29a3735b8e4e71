package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink/webhook"
	"github.com/escape-scanner/escape-scanner/scan"
)

// server answers without a network, so that the clock of a test may stand still.
type server struct {
	t       *testing.T
	answer  func(attempt int) (code int, header http.Header, err error)
	at      []time.Time
	taken   []delivery
	attempt int
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	d := read(s.t, r)
	s.at = append(s.at, time.Now())
	code, header, err := s.answer(s.attempt)
	s.attempt++
	if err != nil {
		return nil, err
	}
	if code == http.StatusOK {
		s.taken = append(s.taken, d)
	}
	return &http.Response{StatusCode: code, Header: header, Body: http.NoBody, Request: r}, nil
}

// waits are the times between the attempts.
func (s *server) waits() (waits []time.Duration) {
	for i := range s.at[1:] {
		waits = append(waits, s.at[i+1].Sub(s.at[i]))
	}
	return waits
}

// silent has a sink speak to such a server, with the times that a program has.
func silent(t *testing.T, s *server, o webhook.Options) (*webhook.Sink, running) {
	t.Helper()
	s.t = t
	o.URL = "https://hooks.example.com/escape"
	w, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	webhook.Through(w, s)
	feed(t, w, scan.Event{Start: &scan.Start{}}, scan.Event{Picture: &scan.End{}})
	return w, run(t, w)
}

func failing(times, code int) func(int) (int, http.Header, error) {
	return func(attempt int) (int, http.Header, error) {
		if attempt < times {
			return code, nil, nil
		}
		return http.StatusOK, nil, nil
	}
}

// It waits twice as long each time, up to two minutes, half of it left to chance, for
// as long as it takes.
func TestBackoff(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(int) (int, http.Header, error){
		"the server is away": failing(40, http.StatusServiceUnavailable),
		"there is no connection": func(attempt int) (int, http.Header, error) {
			if attempt < 40 {
				return 0, nil, errors.New("connection refused")
			}
			return http.StatusOK, nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: answer}
				w, running := silent(t, s, webhook.Options{})
				feed(t, w, exposed("a"))
				<-time.After(2 * time.Hour)
				synctest.Wait()
				running.end(t)
				if len(s.taken) != 1 || len(s.at) != 41 {
					t.Fatalf("%d deliveries after %d attempts", len(s.taken), len(s.at))
				}
				for i, wait := range s.waits() {
					most := min(time.Second<<i, 2*time.Minute)
					if i > 20 {
						most = 2 * time.Minute
					}
					if wait < most/2 || wait > most {
						t.Errorf("wait %d is %s, want %s to %s", i, wait, most/2, most)
					}
				}
			})
		})
	}
}

// What is wrong is said once, though each connection is from another port.
func TestTheSameTroubleIsSaidOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n := &server{answer: func(attempt int) (int, http.Header, error) {
			if attempt == 10 {
				return http.StatusOK, nil, nil
			}
			from, to := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000 + attempt}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 443}
			return 0, nil, &net.OpError{Op: "read", Net: "tcp", Source: from, Addr: to, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
		}}, &notices{}
		w, running := silent(t, s, webhook.Options{Notify: n.take})
		feed(t, w, exposed("a"))
		<-time.After(2 * time.Hour)
		synctest.Wait()
		running.end(t)
		if all := n.told(); len(all) != 2 || all[1].Err != nil || !strings.Contains(fmt.Sprint(all[0].Err), "read tcp 10.0.0.2:443: read: connection reset") {
			t.Errorf("told %v, want the trouble and its end", all)
		}
	})
}

// Where a server fails over one delivery, the next gets its turn.
func TestPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n := &server{answer: failing(10, http.StatusInternalServerError)}, &notices{}
		w, running := silent(t, s, webhook.Options{Notify: n.take, Batch: 1})
		feed(t, w, exposed("a"), exposed("b"))
		<-time.After(2 * time.Hour)
		synctest.Wait()
		running.end(t)
		if len(s.taken) != 1 || s.taken[0].Dropped != 1 || s.taken[0].Events[0].Verdict.Workload.Name != "b" || n.dropped() != 1 {
			t.Errorf("arrived %+v, told %v", s.taken, n.told())
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"":                     0,
		"17":                   17 * time.Second,
		"-5":                   0,
		"soon":                 0,
		"99999999999999999999": 0,
		"1000000000":           10 * time.Minute,
		now().Add(40 * time.Second).Format(http.TimeFormat): 40 * time.Second,
		now().Add(-time.Hour).Format(http.TimeFormat):       0,
		now().Add(time.Hour).Format(http.TimeFormat):        10 * time.Minute,
	} {
		if got := webhook.RetryAfter(header, now()); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	// It is heeded where it is longer than it would have waited anyway.
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(attempt int) (int, http.Header, error) {
			seconds := []string{"90", "0"}
			if attempt < len(seconds) {
				return http.StatusTooManyRequests, http.Header{"Retry-After": {seconds[attempt]}}, nil
			}
			return http.StatusOK, nil, nil
		}}
		w, running := silent(t, s, webhook.Options{})
		feed(t, w, exposed("a"))
		<-time.After(time.Hour)
		synctest.Wait()
		running.end(t)
		if waits := s.waits(); len(waits) != 2 || waits[0] != 90*time.Second || waits[1] < time.Second || waits[1] > 2*time.Second {
			t.Errorf("waited %v", waits)
		}
	})
}

// Events wait a moment for others; an incident does not, and what waits goes with it.
func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: failing(0, 0)}
		w, running := silent(t, s, webhook.Options{})
		began := time.Now()
		feed(t, w, exposed("a"))
		<-time.After(600 * time.Millisecond)
		feed(t, w, exposed("b"))
		<-time.After(time.Second)
		synctest.Wait()
		if len(s.taken) != 1 || len(s.taken[0].Events) != 2 || s.at[0].Sub(began) != time.Second {
			t.Fatalf("arrived %+v, after %s", s.taken, s.at[0].Sub(began))
		}
		feed(t, w, exposed("c"), incident("i", 1))
		synctest.Wait()
		if len(s.taken) != 2 || len(s.taken[1].Events) != 2 || s.at[1].Sub(began) != 1600*time.Millisecond {
			t.Errorf("arrived %+v, after %s", s.taken, s.at[1].Sub(began))
		}
		running.end(t)
	})
}

// A dead server does not hold up the end, and what is lost by it is said.
func TestEndWithADeadServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(int) (int, http.Header, error){
		"refuses": failing(1<<30, http.StatusServiceUnavailable),
		"is silent": func(int) (int, http.Header, error) {
			<-time.After(time.Minute)
			return 0, nil, io.ErrUnexpectedEOF
		},
		"has us wait": func(int) (int, http.Header, error) {
			return http.StatusServiceUnavailable, http.Header{"Retry-After": {"600"}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, n := &server{answer: answer}, &notices{}
				w, running := silent(t, s, webhook.Options{Notify: n.take, Timeout: time.Second})
				for i := range 250 {
					feed(t, w, exposed(fmt.Sprint(i)))
				}
				<-time.After(10 * time.Minute)
				synctest.Wait()
				tries, began := len(s.at), time.Now()
				running.end(t)
				// The one that is silent does not even look at its context.
				if took := time.Since(began); took > time.Minute+5*time.Second {
					t.Errorf("it took %s to end", took)
				}
				if len(s.at) == tries && name != "is silent" {
					t.Error("it was not tried once more")
				}
				if n.dropped() != 250 || w.Waiting() != 0 {
					t.Errorf("%d said to be lost, %d wait: %v", n.dropped(), w.Waiting(), n.told())
				}
			})
		})
	}
}

// What is given up is said at most every ten seconds, and all of it.
func TestDroppedIsToldSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, n := &server{answer: failing(1<<30, http.StatusServiceUnavailable)}, &notices{}
		w, running := silent(t, s, webhook.Options{Notify: n.take, Queue: 10, Batch: 1})
		for i := range 600 {
			feed(t, w, exposed(strconv.Itoa(i)))
			<-time.After(100 * time.Millisecond)
		}
		running.end(t)
		if told := len(n.told()); told > 10 {
			t.Errorf("told %d times in a minute", told)
		}
		if n.dropped() != 600 {
			t.Errorf("%d said to be lost, want 600", n.dropped())
		}
	})
}

// A deed that goes on is told when it has doubled, and the latest of it that waits.
func TestRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: failing(0, 0)}
		w, running := silent(t, s, webhook.Options{})
		var told []string
		for i := 1; i <= 1000; i++ {
			feed(t, w, incident("a", i))
			if i == 600 {
				e := incident("a", i)
				e.Alert.Blocked = true
				feed(t, w, e)
			}
			synctest.Wait()
		}
		for _, d := range s.taken {
			for _, e := range d.Events {
				told = append(told, fmt.Sprintf("%d %t", e.Alert.Count, e.Alert.Blocked))
			}
		}
		want := "1 false,2 false,4 false,8 false,16 false,32 false,64 false,128 false,256 false,512 false,600 true,601 false"
		if got := strings.Join(told, ","); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		// While they wait they are one event, and the count is the last.
		for i := range 12 {
			e := incident("b", 1<<i)
			e.Alert.Incident = false
			feed(t, w, e, scan.Event{Lost: &scan.Lost{ID: "gap", Reason: scan.LostDeaf, From: time.Now(), Alerts: i}})
		}
		if waiting, _ := webhook.Held(w); waiting != 1 {
			t.Errorf("%d wait, want the gap alone", waiting)
		}
		running.end(t)
		last := s.taken[len(s.taken)-1].Events
		if len(last) != 1 || last[0].Lost == nil || last[0].Lost.Alerts != 11 {
			t.Errorf("the last are %+v", last)
		}
	})
}

// The context of a caller ends in the middle of an attempt: it is finished.
func TestEndDuringAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &server{t: t, answer: func(int) (int, http.Header, error) {
			cancel()
			<-time.After(3 * time.Second)
			return http.StatusOK, nil, nil
		}}
		w, err := webhook.New(webhook.Options{URL: "http://hooks.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		webhook.Through(w, s)
		feed(t, w, exposed("a"))
		if err := w.Run(ctx); err != nil || len(s.taken) != 1 {
			t.Errorf("%v, arrived %+v", err, s.taken)
		}
	})
}
