package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer is how much of an answer is read, so that the connection can be used
	// again. Nothing of it is shown.
	maxAnswer = 64 << 10
	// maxRetryAfter is how long a server may have us wait.
	maxRetryAfter = 10 * time.Minute
	// maxRefusals is how often a server may fail over one batch, before that is given up
	// for the sake of the next.
	maxRefusals  = 10
	maxRedirects = 3
)

// refusal is an answer that is no success.
type refusal struct {
	code  int
	after time.Duration
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("answered %d %s", r.code, http.StatusText(r.code))
	if r.code >= 300 && r.code < 400 {
		text += ": it leads elsewhere, and that is not followed"
	}
	return strings.TrimSpace(text)
}

// final tells whether trying again is of no use.
func (r *refusal) final() bool {
	return r.code < 500 && r.code != http.StatusRequestTimeout && r.code != http.StatusTooManyRequests
}

// away tells whether the server is merely not there, as against one that fails over
// what it is sent.
func (r *refusal) away() bool {
	switch r.code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// deliver sends one batch, as often as it takes. It gives it up where the server will
// not have it, and when sending ends; stop only hurries it.
func (s *Sink) deliver(stop, sending context.Context) {
	s.mu.Lock()
	e := envelope{Version: envelopeVersion, ID: rand.Text(), Cluster: s.cluster, Sent: s.o.Now().UTC(), Dropped: s.lost}
	for _, body := range s.queue.take(s.o.Batch, s.o.BatchBytes) {
		e.Events = append(e.Events, json.RawMessage(body))
	}
	s.mu.Unlock()
	if len(e.Events) == 0 {
		return
	}
	body, err := e.encode()
	if err == nil {
		err = s.insist(stop, sending, e.ID, body)
	}
	s.mu.Lock()
	if err == nil {
		s.lost -= e.Dropped
	} else {
		s.lost += len(e.Events)
	}
	s.mu.Unlock()
	s.tell.trouble(err)
	if err != nil {
		s.tell.dropped(len(e.Events))
	}
}

// insist posts a body until it is taken.
func (s *Sink) insist(stop, sending context.Context, id string, body []byte) error {
	refusals := 0
	for attempt := 0; ; attempt++ {
		err := s.post(sending, id, body)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("webhook %s://%s: %w", s.url.Scheme, s.url.Host, err)
		var after time.Duration
		if r := (*refusal)(nil); errors.As(err, &r) {
			if !r.away() {
				refusals++
			}
			if r.final() || refusals == maxRefusals {
				return err
			}
			after = r.after
		}
		if sending.Err() != nil {
			return err
		}
		s.tell.trouble(err)
		if !pause(stop, sending, max(s.backoff(attempt), after)) {
			return err
		}
	}
}

// backoff doubles from attempt to attempt. Half of it is left to chance, so that many
// senders do not come back at once.
func (s *Sink) backoff(attempt int) time.Duration {
	wait := s.o.MaxBackoff
	if attempt < 30 {
		wait = min(s.o.Backoff<<attempt, s.o.MaxBackoff)
	}
	if wait <= 0 {
		wait = s.o.MaxBackoff
	}
	return wait/2 + time.Duration(mathrand.Int64N(int64(wait/2)+1))
}

// pause waits. It is cut short once, when stop ends; after that it waits a second at
// most. It returns false when sending has ended.
func pause(stop, sending context.Context, wait time.Duration) bool {
	hurry := stop.Done()
	if stop.Err() != nil {
		hurry, wait = nil, min(wait, time.Second)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-sending.Done():
	}
	return sending.Err() == nil
}

// post is one attempt.
func (s *Sink) post(sending context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(sending, s.o.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the request cannot be made")
	}
	now := s.o.Now()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", strings.TrimSuffix("escape-scanner/"+s.o.Version, "/"))
	request.Header.Set(headerID, id)
	request.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	if len(s.o.Secret) > 0 {
		request.Header.Set(headerSignature, sign(s.o.Secret, id, now, body))
	}
	response, err := s.client.Do(request)
	switch {
	case err != nil && sending.Err() != nil:
		return errors.New("the end came before an answer")
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", s.o.Timeout)
	case err != nil:
		return s.harmless(err)
	}
	defer response.Body.Close()
	// The answer is not looked at: it only has to be out of the way.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return nil
	}
	return &refusal{response.StatusCode, retryAfter(response.Header.Get("Retry-After"), now)}
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(header); err == nil {
		wait = time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(header); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// harmless is an error of the client without what may be secret in the URL, the same for
// the same trouble.
func (s *Sink) harmless(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		err = of.Err
	}
	text := err.Error()
	if of := (*net.OpError)(nil); errors.As(err, &of) && of.Source != nil {
		// The port of this side is another each time, and the trouble is the same.
		plain := *of
		plain.Source = nil
		text = strings.ReplaceAll(text, of.Error(), plain.Error())
	}
	password, _ := s.url.User.Password()
	for _, secret := range []string{s.url.RequestURI(), s.url.RawQuery, s.url.EscapedPath(), s.url.Path, password, s.url.User.Username()} {
		if len(secret) > 1 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return errors.New(text)
}

// newClient has the system's certificates where roots is nil. How long it may take is
// for the context of a request to say.
func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  proxy,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			IdleConnTimeout:        time.Minute,
			MaxIdleConns:           1,
			MaxConnsPerHost:        1,
			MaxResponseHeaderBytes: maxAnswer,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: redirect,
	}
}

// proxy is that of the environment. Its errors repeat what stands there, with the
// password.
func proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("the proxy in the environment cannot be read")
	}
	return u, nil
}

// redirect is followed only where the same body goes to the same server: anybody else
// has no business with it.
func redirect(next *http.Request, before []*http.Request) error {
	first, code := before[0].URL, next.Response.StatusCode
	same := next.URL.Scheme == first.Scheme && next.URL.Host == first.Host
	keeps := code == http.StatusTemporaryRedirect || code == http.StatusPermanentRedirect
	if !same || !keeps || len(before) > maxRedirects {
		return http.ErrUseLastResponse
	}
	next.URL.User = first.User
	return nil
}
