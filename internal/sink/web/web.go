// Package web answers over HTTP how a watch is: /metrics, /healthz and /readyz.
//
// It answers whoever asks, so it tells no names: figures, and why it is not well.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/report"
)

const (
	// headerTimeout is how long who asks may take to say what, requestTimeout to say
	// all of it, and answerTimeout to take the answer.
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = time.Minute
	// maxConnections are open at once; the next wait until one is closed.
	maxConnections = 1024
	maxHeader      = 16 << 10
	// endTimeout is how long answers under way may take once the context has ended.
	endTimeout = 3 * time.Second
	// defaultPatience is how long the loop may take for one round.
	defaultPatience = time.Minute
)

// Options say what is served, and where.
type Options struct {
	// Address is where to listen ("127.0.0.1:9090", ":9090"). Listener, where it is
	// set, is taken instead and closed in the end.
	Address  string
	Listener net.Listener
	// Metrics answers /metrics; nil for none.
	Metrics http.Handler
	// Alive is when the loop was last seen to get on: /healthz fails when that is
	// longer ago than Patience (a minute where it is 0).
	Alive    func() time.Time
	Patience time.Duration
	// Ready is why the first picture is not complete, nil when it is. It is called from
	// many goroutines, as Alive is.
	Ready func() error
	// Profiling serves /debug/pprof, which shows what is in memory.
	Profiling bool
	// Notify is told what the server has to say of itself; nil for nobody.
	Notify func(sink.Notice)
	// Now is the clock, time.Now where it is nil.
	Now func() time.Time
}

// Server serves until its context ends.
type Server struct {
	o      Options
	server *http.Server
	began  time.Time
}

// New returns a server that Run starts.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	s := &Server{o: o, began: o.Now()}
	s.server = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(notices{o.Notify}, "", 0),
	}
	return s
}

// Run serves until the context ends, lets answers under way be finished and returns.
// It fails where it cannot listen.
func (s *Server) Run(ctx context.Context) error {
	l := s.o.Listener
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.o.Address); err != nil {
			return fmt.Errorf("web: listen on %s: %w", s.o.Address, err)
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(netutil.LimitListener(l, maxConnections)) }()
	select {
	case err := <-served:
		return fmt.Errorf("web: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := s.server.Shutdown(end); err != nil {
		// Who still reads then is cut off.
		if err := s.server.Close(); err != nil {
			return fmt.Errorf("web: close %s: %w", l.Addr(), err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("web: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// routes are GET and HEAD only: the patterns answer everything else with 405.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.answer(s.health))
	mux.HandleFunc("GET /readyz", s.answer(s.ready))
	if s.o.Metrics != nil {
		mux.Handle("GET /metrics", s.o.Metrics)
	}
	if s.o.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// health is why the loop does not get on.
func (s *Server) health() error {
	if s.o.Alive == nil {
		return nil
	}
	last := s.o.Alive()
	if last.IsZero() {
		last = s.began
	}
	if since := s.o.Now().Sub(last); since > s.o.Patience {
		return fmt.Errorf("the watch has not got on since %s (%s ago)", last.UTC().Format(time.RFC3339), since.Round(time.Second))
	}
	return nil
}

func (s *Server) ready() error {
	if s.o.Ready == nil {
		return nil
	}
	return s.o.Ready()
}

// status is an answer in JSON.
type status struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// answer says "ok" or why not, as text, and with ?verbose as JSON.
func (s *Server) answer(question func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code, is := http.StatusOK, status{OK: true}
		if err := question(); err != nil {
			code, is = http.StatusServiceUnavailable, status{Reason: report.Clean(err.Error())}
		}
		text, kind := []byte("ok\n"), "text/plain; charset=utf-8"
		switch {
		case r.URL.Query().Has("verbose"):
			kind = "application/json"
			// Two plain fields always marshal.
			text, _ = json.Marshal(is)
			text = append(text, '\n')
		case !is.OK:
			text = []byte(is.Reason + "\n")
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		// Who does not take the answer does not want it.
		_, _ = w.Write(text)
	}
}

// notices are what the server of the standard library would have logged.
type notices struct{ notify func(sink.Notice) }

func (n notices) Write(line []byte) (int, error) {
	if n.notify != nil {
		n.notify(sink.Notice{Sink: "web", Err: errors.New("web: " + strings.TrimSpace(string(line)))})
	}
	return len(line), nil
}
