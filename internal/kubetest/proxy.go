package kubetest

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// Hook decides what becomes of a request that reaches a Proxy. It may be called
// by several goroutines at once. client-go repeats a GET that meets a cut
// connection, and any request that is answered with 429 or 5xx and a
// Retry-After, so a hook that counts may count more than the test asked for.
type Hook func(*http.Request) Action

// Proxy stands between a client and a server, and does to each request what its
// Hook says. It speaks TLS and HTTP/2 as the API server does, and passes requests
// on with credentials of its own: its clients need none.
type Proxy struct {
	server *httptest.Server
	config *rest.Config

	mu     sync.Mutex
	hook   Hook
	conns  map[net.Conn]struct{}
	closed bool
}

// roundTrip is a function that is a RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// connKey is where a request's context keeps the connection that it came by.
type connKey struct{}

// NewProxy starts a proxy that passes requests on to the server of target, as the
// user of target. A nil hook passes every request. The proxy is closed when the
// test ends.
func NewProxy(tb testing.TB, target *rest.Config, hook Hook) *Proxy {
	tb.Helper()
	address, err := url.Parse(target.Host)
	if err != nil {
		tb.Fatalf("proxy: address of the server: %v", err)
	}
	transport, err := rest.TransportFor(target)
	if err != nil {
		tb.Fatalf("proxy: connection to the server: %v", err)
	}
	// A connection of HTTP/2 cannot be made one of another protocol.
	single := rest.CopyConfig(target)
	single.NextProtos = []string{"http/1.1"}
	upgrading, err := rest.TransportFor(single)
	if err != nil {
		tb.Fatalf("proxy: connection to the server: %v", err)
	}

	// What goes wrong here is what the test wants to see in the client.
	silent := log.New(io.Discard, "", 0)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) },
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Upgrade") != "" {
				return upgrading.RoundTrip(r)
			}
			return transport.RoundTrip(r)
		}),
		FlushInterval: -1,
		ErrorLog:      silent,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, _ error) {
			// A client that gave up one request may have others under way.
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler)
			}
			cut(r)
		},
	}

	p := &Proxy{conns: map[net.Conn]struct{}{}}
	p.SetHook(hook)
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		hook := p.hook
		p.mu.Unlock()
		hook(r)(w, r, forward)
	}))
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = silent
	p.server.Config.ConnContext = p.opened
	p.server.Config.ConnState = p.changed
	p.server.StartTLS()
	tb.Cleanup(p.Close)

	p.config = &rest.Config{
		Host:  p.server.URL,
		QPS:   target.QPS,
		Burst: target.Burst,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}),
		},
	}
	return p
}

// Config returns a copy of the configuration of a client that goes through the
// proxy.
func (p *Proxy) Config() *rest.Config {
	return rest.CopyConfig(p.config)
}

// SetHook replaces the hook for the requests that come from now on. A nil hook
// passes every request.
func (p *Proxy) SetHook(hook Hook) {
	if hook == nil {
		hook = func(*http.Request) Action { return Pass() }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// CutConnections cuts every open connection with all requests and watches on it.
// New connections are taken as before.
func (p *Proxy) CutConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		closeRaw(conn)
	}
}

// Close is the server going away for good: open connections are cut and new ones
// refused. Closing twice is allowed.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	// In this order nothing that is still being answered is waited for. The
	// listener is closed a second time by the server, which expects that.
	_ = p.server.Listener.Close()
	p.CutConnections()
	p.server.Close()
}

func (p *Proxy) opened(ctx context.Context, conn net.Conn) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		closeRaw(conn)
	}
	p.conns[conn] = struct{}{}
	return context.WithValue(ctx, connKey{}, conn)
}

func (p *Proxy) changed(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// cut closes the connection that a request came by, with all else that goes over
// it, and ends the request.
func cut(r *http.Request) {
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		closeRaw(conn)
	}
	panic(http.ErrAbortHandler)
}

// closeRaw closes a connection below its TLS layer, which would say goodbye
// first. Whether it was closed already is of no interest.
func closeRaw(conn net.Conn) {
	if layered, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = layered.NetConn()
	}
	_ = conn.Close()
}
