package webhook

import (
	"net/http"
	"time"
)

// Held is how much waits.
func Held(s *Sink) (events, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.length, s.queue.bytes
}

// Through has a sink speak to something that is no network.
func Through(s *Sink, t http.RoundTripper) { s.client.Transport = t }

// RetryAfter reads the header.
func RetryAfter(header string, now time.Time) time.Duration { return retryAfter(header, now) }
