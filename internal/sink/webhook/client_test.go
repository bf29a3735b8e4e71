package webhook_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/webhook"
	"github.com/escape-scanner/escape-scanner/scan"
)

// A body goes where it was meant to go, and nowhere else.
func TestRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := newReceiver(t)
	for _, test := range []struct {
		name     string
		code     int
		to       func(own string) string
		followed bool
	}{
		{"307 to the same server", 307, func(string) string { return "/there" }, true},
		{"308 to the same server", 308, func(own string) string { return own + "/there" }, true},
		{"302 to the same server", 302, func(string) string { return "/there" }, false},
		{"301 to the same server", 301, func(string) string { return "/there" }, false},
		{"303 to the same server", 303, func(string) string { return "/there" }, false},
		{"307 to another port", 307, func(string) string { return elsewhere.URL }, false},
		{"307 to another name", 307, func(own string) string { return strings.Replace(own, "127.0.0.1", "localhost", 1) }, false},
		{"308 to another scheme", 308, func(own string) string { return strings.Replace(own, "http:", "https:", 1) }, false},
		{"307 to itself, for ever", 307, func(string) string { return "/begin" }, false},
		{"307 to nowhere", 307, func(string) string { return "" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			arrived, refused := make(chan delivery, 1), make(chan sink.Notice, 10)
			own := httptest.NewServer(nil)
			t.Cleanup(own.Close)
			own.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user, password, _ := r.BasicAuth()
				if user != "user" || password != "pass" {
					t.Errorf("%s: user %q, password %q", r.URL, user, password)
				}
				if r.URL.Path == "/there" {
					arrived <- read(t, r)
					return
				}
				if to := test.to(own.URL); to != "" {
					w.Header().Set("Location", to)
				}
				w.WriteHeader(test.code)
			})
			o := options(strings.Replace(own.URL, "http://", "http://user:pass@", 1) + "/begin")
			o.Notify = func(n sink.Notice) { refused <- n }
			s, running := start(t, o)
			feed(t, s, exposed("a"))
			if test.followed {
				if d := <-arrived; len(d.Events) != 1 || Verify(secret(), d.header, d.body, now()) != nil {
					t.Errorf("arrived %+v", d)
				}
			} else if n := <-refused; n.Err == nil || !strings.Contains(n.Err.Error(), fmt.Sprint("answered ", test.code)) {
				t.Errorf("told %v", n)
			}
			running.end(t)
		})
	}
	t.Cleanup(func() {
		if len(elsewhere.arrived) > 0 {
			t.Error("a body went to another server")
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	arrived := make(chan delivery, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- read(t, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	told := make(chan sink.Notice, 100)
	o := options(server.URL)
	o.Grace = 50 * time.Millisecond
	o.Notify = func(n sink.Notice) { told <- n }
	s, running := start(t, o)
	feed(t, s, exposed("a"))
	if n := <-told; n.Err == nil || !strings.Contains(n.Err.Error(), "certificate signed by unknown authority") {
		t.Errorf("told %v", n)
	}
	running.cancel()
	o.CA = authority
	trusting, trustingRun := start(t, o)
	feed(t, trusting, exposed("b"))
	if d := <-arrived; d.Events[0].Verdict.Workload.Name != "b" {
		t.Errorf("arrived %+v", d)
	}
	trustingRun.end(t)
	o.CA = []byte("no certificate")
	if _, err := webhook.New(o); err == nil || !strings.Contains(err.Error(), "no certificate in PEM") {
		t.Errorf("got %v", err)
	}
	if err := <-running.done; err != nil {
		t.Error(err)
	}
}

// Whatever goes wrong, nothing that may be secret is in what is told of it.
func TestSecretsAreNeverTold(t *testing.T) {
	t.Parallel()
	hidden := []string{"s3cretuser", "s3cretpass", "s3cretpath", "s3cretquery", "s3cretkey"}
	expect := func(t *testing.T, text string) {
		t.Helper()
		for _, secret := range hidden {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %q", secret, text)
			}
		}
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	private := func(to string) string {
		return strings.Replace(to, "://", "://s3cretuser:s3cretpass@", 1) + "/s3cretpath/s3cretpath?key=s3cretquery"
	}
	failing := map[string]string{
		"nobody listens":        closed.URL,
		"there is no such name": "http://no-such-host.invalid",
		"not http":              strings.Replace(closed.URL, "http:", "https:", 1),
	}
	for name, handler := range map[string]http.HandlerFunc{
		"500": answer(500),
		"404": answer(404),
		"it leads to where it leads": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://%zz/"+r.URL.String())
			w.WriteHeader(307)
		},
		"it says what it was asked": func(w http.ResponseWriter, r *http.Request) {
			c, b, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprintf(b, "%s %s\r\n\r\n", r.URL, r.URL.RawQuery)
			_ = b.Flush()
			_ = c.Close()
		},
		"it is silent": func(_ http.ResponseWriter, r *http.Request) {
			// Who has not read all does not see that the other has gone.
			read(t, r)
			<-r.Context().Done()
		},
	} {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		failing[name] = server.URL
	}
	for name, address := range failing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan sink.Notice, 100)
			o := options(private(address))
			o.Secret = []byte("s3cretkey")
			o.Timeout, o.Grace = 300*time.Millisecond, 50*time.Millisecond
			o.Notify = func(n sink.Notice) { told <- n }
			s, running := start(t, o)
			feed(t, s, exposed("a"))
			n := <-told
			if n.Err == nil {
				t.Fatalf("told %+v", n)
			}
			expect(t, n.Err.Error())
			running.cancel()
			if err := <-running.done; err != nil {
				t.Error(err)
			}
		})
	}
	for _, bad := range []string{
		"", "hooks.example.com/s3cretpath", "ftp://s3cretuser:s3cretpass@example.com", "https://", "https:///s3cretpath",
		"http://s3cretuser:s3cret%zzpass@example.com", "http://example.com:s3cretpass", "http://exa mple/s3cretpath?s3cretquery",
		"https://example.com/#s3cretpath", "\x00https://s3cretpass",
	} {
		_, err := webhook.New(webhook.Options{URL: bad})
		if err == nil || !strings.HasPrefix(err.Error(), "webhook: the URL") {
			t.Errorf("%q: got %v", bad, err)
			continue
		}
		expect(t, err.Error())
	}
	// The tests above are worth something: the client's own errors do tell.
	if _, err := http.Post(private(closed.URL), "", nil); !strings.Contains(fmt.Sprint(err), "s3cretquery") {
		t.Errorf("the client says %v", err)
	}
}

// An answer without an end is not read to its end.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		read(t, r)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	s, running := start(t, options(server.URL))
	feed(t, s, exposed("a"))
	<-gone
	running.end(t)
}

func TestFilter(t *testing.T) {
	t.Parallel()
	verdict := func(is, was scan.Verdict, severity scan.Severity, recount bool) scan.Event {
		return scan.Event{Verdict: &scan.WorkloadVerdict{Verdict: is, Was: was, Severity: severity, Recount: recount}}
	}
	recounted, excepted := finding("a", scan.SeverityCritical), finding("b", scan.SeverityCritical)
	recounted.Finding.Recount = true
	excepted.Finding.Excepted = &scan.Excepted{Reason: "agreed"}
	gone := finding("c", scan.SeverityMedium).Finding.Ref()
	note := incident("n", 1)
	note.Alert.Incident, note.Alert.Severity = false, scan.SeverityLow
	all := webhook.Kinds()
	high := scan.SeverityHigh
	for _, test := range []struct {
		name  string
		kinds []webhook.Kind
		min   scan.Severity
		event scan.Event
		want  bool
	}{
		{"a finding", nil, "", finding("d", scan.SeverityLow), true},
		{"a finding below the gate", nil, high, finding("d", scan.SeverityMedium), false},
		{"a finding at the gate", nil, high, finding("d", high), true},
		{"a recounted finding", all, "", recounted, false},
		{"an excepted finding", all, "", excepted, false},
		{"findings switched off", []webhook.Kind{webhook.KindVerdict}, "", finding("d", high), false},
		{"worse", nil, high, verdict(scan.VerdictExposed, scan.VerdictClosed, high, false), true},
		{"worse, below the gate", nil, high, verdict(scan.VerdictExposed, scan.VerdictClosed, scan.SeverityLow, false), false},
		{"better", nil, high, verdict(scan.VerdictClosed, scan.VerdictExposed, "", false), true},
		{"known again", nil, high, verdict(scan.VerdictSealed, scan.VerdictUnknown, "", false), true},
		{"closed to sealed, with a gate", nil, high, verdict(scan.VerdictSealed, scan.VerdictClosed, "", false), false},
		{"closed to sealed", nil, "", verdict(scan.VerdictSealed, scan.VerdictClosed, "", false), true},
		{"a new workload", nil, high, verdict(scan.VerdictExposed, "", high, false), true},
		{"the same verdict for another reason", nil, "", verdict(scan.VerdictExposed, scan.VerdictExposed, high, false), false},
		{"a recounted verdict", all, "", verdict(scan.VerdictExposed, scan.VerdictClosed, high, true), false},
		{"an incident", nil, high, incident("i", 1), true},
		{"an alert", nil, "", note, false},
		{"an alert, asked for", all, "", note, true},
		{"an alert below the gate", all, high, note, false},
		{"a finding gone", nil, "", scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &scan.Workload{}, Finding: &gone}}, true},
		{"a finding gone, below the gate", nil, high, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &scan.Workload{}, Finding: &gone}}, false},
		{"a workload gone", nil, high, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &scan.Workload{}, Was: scan.VerdictExposed}}, true},
		{"a sealed workload gone, with a gate", nil, high, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &scan.Workload{}, Was: scan.VerdictSealed}}, false},
		{"a node gone", nil, "", scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: "n"}}, false},
		{"a node gone, asked for", all, "", scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: "n"}}, true},
		{"read again", nil, high, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &scan.FailureRef{}}}, true},
		{"lost", nil, high, scan.Event{Lost: &scan.Lost{ID: "l"}}, true},
		{"a failure", nil, high, scan.Event{Failure: &scan.Failure{Subject: "pods"}}, true},
		{"a policy", nil, "", scan.Event{Policy: &scan.Policy{}}, false},
		{"a policy, asked for", all, "", scan.Event{Policy: &scan.Policy{}}, true},
		{"a recounted policy", all, "", scan.Event{Policy: &scan.Policy{Recount: true}}, false},
		{"a node", all, "", scan.Event{Node: &scan.Node{}}, true},
		{"progress", all, "", scan.Event{Progress: &scan.Progress{}}, false},
		{"the end", all, "", scan.Event{End: &scan.End{}}, false},
	} {
		s, err := webhook.New(webhook.Options{URL: "https://hooks.example.com", Kinds: test.kinds, MinSeverity: test.min, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		feed(t, s, test.event)
		if got := s.Waiting() == 1; got != test.want {
			t.Errorf("%s: sent is %t, want %t", test.name, got, test.want)
		}
	}
	for want, o := range map[string]webhook.Options{
		`kind "everything"`: {Kinds: []webhook.Kind{"everything"}},
		`severity "none"`:   {MinSeverity: scan.SeverityNone},
	} {
		o.URL = "https://hooks.example.com"
		if _, err := webhook.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
