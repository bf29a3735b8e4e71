package kube

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"
)

// addressOf is the server's address for people, without credentials that stand in it.
func addressOf(config *rest.Config) string {
	return config.Host[strings.LastIndex(config.Host, "@")+1:]
}

// httpClient is the client of config. A program that gives the credentials may take as
// long as it likes: client-go waits for it whatever the request's time is, and so the
// request is left to itself when its time is over.
func httpClient(config *rest.Config) (*http.Client, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", addressOf(config), err)
	}
	if config.ExecProvider != nil {
		client.Transport = prompt{client.Transport}
	}
	return client, nil
}

// prompt is a RoundTripper that returns when the request's context is done.
type prompt struct{ next http.RoundTripper }

// WrappedRoundTripper is what client-go asks for to close idle connections.
func (p prompt) WrappedRoundTripper() http.RoundTripper { return p.next }

// RoundTrip is that of the next, unless the context is done before.
func (p prompt) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		response *http.Response
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		response, err := p.next.RoundTrip(r)
		answers <- answer{response, err}
	}()
	select {
	case a := <-answers:
		return a.response, a.err
	case <-r.Context().Done():
		go func() {
			if a := <-answers; a.response != nil {
				// Nobody reads it any more.
				_ = a.response.Body.Close()
			}
		}()
		return nil, fmt.Errorf("credentials, or an answer, did not come in time: %w", context.Cause(r.Context()))
	}
}
