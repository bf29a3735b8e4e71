package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/s3"
	"github.com/escape-scanner/escape-scanner/internal/s3test"
)

const podToken = "token-of-the-pod"

// podAgent is what gives credentials to containers: EKS Pod Identity's agent or ECS.
type podAgent struct {
	*httptest.Server
	// answer is given the number of the request, from 1.
	answer func(w http.ResponseWriter, n int)

	mu     sync.Mutex
	tokens []string
}

func newPodAgent(t *testing.T, answer func(w http.ResponseWriter, n int)) *podAgent {
	t.Helper()
	a := &podAgent{answer: answer}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *podAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.tokens = append(a.tokens, r.Header.Get("Authorization"))
	n := len(a.tokens)
	a.mu.Unlock()
	a.answer(w, n)
}

// heard are the tokens of all requests so far.
func (a *podAgent) heard() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.tokens...)
}

// give answers with credentials that end then; with the zero time they tell no end.
func give(w http.ResponseWriter, session string, end time.Time) {
	until := ""
	if !end.IsZero() {
		until = fmt.Sprintf(`, "Expiration": %q`, end.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, `{"AccessKeyId": %q, "SecretAccessKey": %q, "Token": %q, "AccountId": "1"%s}`, s3test.AccessKey, s3test.SecretKey, session, until)
}

func tokenFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "eks-pod-identity-token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Credentials of the container are asked for with its token, and again when they end: the
// file of the token may have another one then.
func TestContainerCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  time.Time
		asks int
	}{"for a day": {time.Now().Add(24 * time.Hour), 1}, "with no end": {asks: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := s3test.New(t, "audits", true)
			server.Token = "for an hour"
			agent := newPodAgent(t, func(w http.ResponseWriter, _ int) { give(w, server.Token, test.end) })
			file := tokenFile(t, podToken+"\n")
			s := service(t, server, environment{
				"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file,
				"AWS_CONTAINER_AUTHORIZATION_TOKEN": "not this one", "HOME": t.TempDir(),
			})
			wantError(t, s.Check(t.Context(), "audits", "k"), "")
			if err := os.WriteFile(file, []byte("the next"), 0o600); err != nil {
				t.Fatal(err)
			}
			wantError(t, s.Put(t.Context(), "audits", "k", "text/plain", content(10)), "")
			heard := agent.heard()
			if len(server.Objects()) != 1 || len(heard) < test.asks || heard[0] != podToken || test.asks > 1 && heard[len(heard)-1] != "the next" {
				t.Errorf("%d objects, and the agent heard %q", len(server.Objects()), heard)
			}
			if test.asks == 1 && len(heard) != 1 {
				t.Errorf("asked %d times for what holds for a day", len(heard))
			}
		})
	}
}

// Where the credentials come from is decided as by Amazon's own tools: the container's are
// the last.
func TestContainerIsLast(t *testing.T) {
	t.Parallel()
	server := s3test.New(t, "audits", true)
	agent := newPodAgent(t, func(w http.ResponseWriter, _ int) { give(w, "", time.Time{}) })
	named := environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL}
	// The token of a variable, and none at all.
	for _, token := range []string{"", podToken} {
		named["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = token
		wantError(t, service(t, server, named).Check(t.Context(), "audits", "k"), "")
		if heard := agent.heard(); heard[len(heard)-1] != token {
			t.Errorf("the agent heard %q, want %q", heard, token)
		}
	}
	asked := len(agent.heard())

	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s3test.AccessKey, s3test.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, first := range []environment{good(), {"AWS_SHARED_CREDENTIALS_FILE": file}} {
		first["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.URL
		wantError(t, service(t, server, first).Check(t.Context(), "audits", "k"), "")
	}
	role := environment{"AWS_ROLE_ARN": "arn:aws:iam::1:role/audit", "AWS_WEB_IDENTITY_TOKEN_FILE": file + "-none", "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL}
	wantError(t, service(t, server, role).Check(t.Context(), "audits", "k"), "AWS_WEB_IDENTITY_TOKEN_FILE")
	if n := len(agent.heard()); n != asked {
		t.Errorf("the agent was asked %d times more", n-asked)
	}
	for value, want := range map[string]string{
		"http://192.0.2.1/": "S3: AWS_CONTAINER_CREDENTIALS_FULL_URI: http to 192.0.2.1", "nowhere": "want a URL of https or http",
	} {
		_, err := s3.New(s3.Options{Endpoint: server.URL, Env: environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": value}.get})
		wantError(t, err, want)
	}
}

// What the agent says of why it gives nothing is told, without the token; what may pass is
// tried again.
func TestContainerRefused(t *testing.T) {
	t.Parallel()
	say := func(status int, text string) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, _ int) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	busy := func(status, tries int) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, n int) {
			if n <= tries {
				w.WriteHeader(status)
				return
			}
			give(w, "", time.Time{})
		}
	}
	elsewhere := newPodAgent(t, func(w http.ResponseWriter, _ int) { give(w, "", time.Time{}) })
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, int)
		asks   int
		want   string
	}{
		{"in words", say(http.StatusNotFound, "ResourceNotFoundException: no association\n for "+podToken+"\n"), 1, "ResourceNotFoundException: no association for … (HTTP 404)"},
		{"in JSON", say(http.StatusForbidden, `{"code": "AccessDenied", "message": "not for `+podToken+`"}`), 1, "AccessDenied: not for … (HTTP 403)"},
		{"without a word", say(http.StatusBadRequest, ""), 1, "no reason given (HTTP 400)"},
		{"no credentials", say(http.StatusOK, `{"Code": "Success"}`), 1, "holds none"},
		{"no secret", say(http.StatusOK, `{"AccessKeyId": "`+s3test.SecretKey+`"}`), 1, "holds none"},
		{"no JSON", say(http.StatusOK, s3test.SecretKey), 1, "holds none"},
		{"somewhere else", func(w http.ResponseWriter, _ int) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 1, "(HTTP 307)"},
		{"always busy", busy(http.StatusServiceUnavailable, 100), 4, "(HTTP 503)"},
		{"busy for a while", busy(http.StatusInternalServerError, 3), 0, ""},
		{"too many", busy(http.StatusTooManyRequests, 1), 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := s3test.New(t, "audits", true)
			agent := newPodAgent(t, test.answer)
			s := service(t, server, environment{
				"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": tokenFile(t, podToken),
			})
			err := s.Check(t.Context(), "audits", "k")
			wantError(t, err, test.want)
			if n := len(agent.heard()); test.asks > 0 && n != test.asks {
				t.Errorf("asked %d times, want %d", n, test.asks)
			}
			if len(elsewhere.heard()) > 0 {
				t.Error("the token went somewhere else")
			}
		})
	}
}

// Without an agent, or without a token to show to it, it is said which.
func TestContainerWithout(t *testing.T) {
	t.Parallel()
	server := s3test.New(t, "audits", true)
	agent := newPodAgent(t, func(w http.ResponseWriter, _ int) { give(w, "", time.Time{}) })
	cut := newPodAgent(t, func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) })
	for _, test := range []struct{ uri, file, want string }{
		{cut.URL, tokenFile(t, podToken), "s3://audits: credentials: " + cut.Listener.Addr().String() + ": "},
		{agent.URL, filepath.Join(t.TempDir(), "none"), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: open "},
		{agent.URL, tokenFile(t, "\n"), "is empty"},
		{agent.URL, tokenFile(t, "two\nlines-of-"+podToken), "more than one line"},
	} {
		s := service(t, server, environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": test.uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": test.file})
		wantError(t, s.Check(t.Context(), "audits", "k"), test.want)
	}
	if heard := agent.heard(); len(heard) > 0 {
		t.Errorf("the agent heard %q", heard)
	}
	if n := len(cut.heard()); n < 2 {
		t.Errorf("a connection that was cut was tried %d times", n)
	}
}
