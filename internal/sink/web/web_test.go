package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
	"github.com/escape-scanner/escape-scanner/internal/sink/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server until the test ends, and gives its address.
func serve(t *testing.T, o web.Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = l
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- web.New(o).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func ask(t *testing.T, method, url string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var now, last atomic.Int64
	at := func(v *atomic.Int64) time.Time { return start.Add(time.Duration(v.Load())) }
	address := serve(t, web.Options{
		Patience: 30 * time.Second, Now: func() time.Time { return at(&now) },
		Alive: func() time.Time {
			if last.Load() < 0 {
				return time.Time{}
			}
			return at(&last)
		},
	})
	expect := func(code int, text string) {
		t.Helper()
		got, _, body := ask(t, http.MethodGet, "http://"+address+"/healthz")
		if got != code || body != text {
			t.Errorf("answered %d %q, want %d %q", got, body, code, text)
		}
	}
	expect(200, "ok\n")
	now.Store(int64(30 * time.Second))
	expect(200, "ok\n")
	now.Store(int64(31 * time.Second))
	expect(503, "the watch has not got on since 2026-11-22T12:00:00Z (31s ago)\n")
	last.Store(int64(5 * time.Second))
	expect(200, "ok\n")
	// A loop that never began is as dead.
	last.Store(-1)
	expect(503, "the watch has not got on since 2026-11-22T12:00:00Z (31s ago)\n")
}

func TestReady(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	address := serve(t, web.Options{Ready: func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("pods are being read\x1b[2J")
	}})
	url := "http://" + address + "/readyz"
	if code, header, body := ask(t, http.MethodGet, url); code != 503 || body != `pods are being read\x1b[2J`+"\n" ||
		header.Get("Content-Type") != "text/plain; charset=utf-8" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("answered %d %q with %v", code, body, header)
	}
	_, header, body := ask(t, http.MethodGet, url+"?verbose")
	var is struct {
		OK     bool
		Reason string
	}
	if err := json.Unmarshal([]byte(body), &is); err != nil || is.OK || !strings.HasPrefix(is.Reason, "pods are") || header.Get("Content-Type") != "application/json" {
		t.Errorf("verbose: %q (%v)", body, err)
	}
	ready.Store(true)
	if code, _, body := ask(t, http.MethodGet, url); code != 200 || body != "ok\n" {
		t.Errorf("answered %d %q", code, body)
	}
	if code, _, body := ask(t, http.MethodHead, url); code != 200 || body != "" {
		t.Errorf("HEAD answered %d %q", code, body)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Options{Version: "v9"})
	plain := serve(t, web.Options{Metrics: m.Handler()})
	profiled := serve(t, web.Options{Profiling: true})
	for _, test := range []struct {
		method, address, path string
		code                  int
		text                  string
	}{
		{"GET", plain, "/metrics", 200, `escape_scanner_build_info{go_version="go`},
		{"HEAD", plain, "/metrics", 200, ""},
		{"POST", plain, "/metrics", 405, "Method Not Allowed"},
		{"DELETE", plain, "/healthz", 405, "Method Not Allowed"},
		{"OPTIONS", plain, "/readyz", 405, "Method Not Allowed"},
		{"GET", plain, "/", 404, "not found"},
		{"GET", plain, "/healthz/../secret", 404, "not found"},
		{"GET", plain, "/debug/pprof/", 404, "not found"},
		{"GET", plain, "/debug/pprof/heap", 404, "not found"},
		{"GET", profiled, "/debug/pprof/heap?debug=1", 200, "heap profile"},
		{"GET", profiled, "/metrics", 404, "not found"},
		{"GET", profiled, "/healthz", 200, "ok"},
		{"GET", profiled, "/readyz", 200, "ok"},
	} {
		code, _, body := ask(t, test.method, "http://"+test.address+test.path)
		if code != test.code || !strings.Contains(body, test.text) {
			t.Errorf("%s %s answered %d %.80q, want %d with %q", test.method, test.path, code, body, test.code, test.text)
		}
	}
}

// Who opens connections and says nothing, or says it slowly, is put out, and others are
// served meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	address := serve(t, web.Options{})
	var slow []net.Conn
	for range 50 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	if code, _, _ := ask(t, http.MethodGet, "http://"+address+"/healthz"); code != 200 {
		t.Errorf("answered %d beside slow clients", code)
	}
	for _, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// Either an answer that says so and then the end, or the end at once.
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a slow client is still served: %v", err)
		}
	}
}

func TestHeadersThatAreTooLarge(t *testing.T) {
	t.Parallel()
	address := serve(t, web.Options{})
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// It may be cut off before all is written.
	_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %s", response.Status)
	}
}

// An answer under way is finished when the context ends; no new one is begun.
func TestEnd(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, finish := make(chan struct{}), make(chan struct{})
	server := web.New(web.Options{Listener: l, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-finish
		_, _ = io.WriteString(w, "all of it")
	})})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	answer := make(chan string, 1)
	go func() {
		_, _, body := ask(t, http.MethodGet, "http://"+l.Addr().String()+"/metrics")
		answer <- body
	}()
	<-asked
	cancel()
	for {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(finish)
	if body := <-answer; body != "all of it" {
		t.Errorf("the answer is %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCannotListen(t *testing.T) {
	t.Parallel()
	taken := serve(t, web.Options{})
	if err := web.New(web.Options{Address: taken}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "web: listen on "+taken) {
		t.Errorf("got %v", err)
	}
	if err := web.New(web.Options{Address: "nowhere"}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "web: listen on nowhere") {
		t.Errorf("got %v", err)
	}
}

// What the standard library would print is told.
func TestNotices(t *testing.T) {
	t.Parallel()
	told := make(chan sink.Notice, 1)
	address := serve(t, web.Options{
		Notify:  func(n sink.Notice) { told <- n },
		Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a handler fails") }),
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if response, err := client.Get("http://" + address + "/metrics"); err == nil {
		t.Error("answered", response.Body.Close())
	}
	if n := <-told; n.Sink != "web" || n.Err == nil || !strings.Contains(n.Err.Error(), "a handler fails") {
		t.Errorf("told %+v", n)
	}
}
