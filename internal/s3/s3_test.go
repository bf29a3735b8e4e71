package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/s3"
	"github.com/escape-scanner/escape-scanner/internal/s3test"
)

// environment are variables by name.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func good() environment {
	return environment{"AWS_ACCESS_KEY_ID": s3test.AccessKey, "AWS_SECRET_ACCESS_KEY": s3test.SecretKey}
}

func service(t *testing.T, server *s3test.Server, env environment) *s3.Service {
	t.Helper()
	s, err := s3.New(s3.Options{
		Endpoint: server.URL, CA: server.CA, Env: env.get, Retry: time.Millisecond, Patience: 2 * time.Minute, CheckPatience: 2 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// content is a report of this size.
func content(size int) *bytes.Reader {
	return bytes.NewReader(bytes.Repeat([]byte("a line of a report\n"), 1+size/19)[:size])
}

// An object is what was put, of whatever size, with TLS and without.
func TestPut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		secure bool
		size   int
	}{{true, 0}, {true, 1}, {true, 20 << 20}, {false, 1}, {false, 20 << 20}} {
		t.Run(fmt.Sprintf("%t %d", test.secure, test.size), func(t *testing.T) {
			t.Parallel()
			server := s3test.New(t, "audits", test.secure)
			s := service(t, server, good())
			const key = "a b/prod+1/2026-11-22.html"
			if err := s.Check(t.Context(), "audits", key); err != nil {
				t.Fatal(err)
			}
			want := content(test.size)
			if err := s.Put(t.Context(), "audits", key, "text/html; charset=utf-8", want); err != nil {
				t.Fatal(err)
			}
			have, all := server.Objects()[key], make([]byte, test.size)
			if _, err := want.ReadAt(all, 0); err != nil && test.size > 0 {
				t.Fatal(err)
			}
			if !bytes.Equal(have.Body, all) || have.ContentType != "text/html; charset=utf-8" {
				t.Errorf("have %d bytes of %s", len(have.Body), have.ContentType)
			}
			for _, request := range server.Requests() {
				if strings.HasPrefix(request, "POST") {
					t.Errorf("parts were begun: %s", request)
				}
			}
		})
	}
}

// What is wrong is said at the first look, and never with a secret.
func TestCheck(t *testing.T) {
	t.Parallel()
	wrong := good()
	wrong["AWS_SECRET_ACCESS_KEY"] = "not-the-secret-of-this-user"
	unknown := good()
	unknown["AWS_ACCESS_KEY_ID"] = "AKIANOBODY"
	refused := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			s3test.Refuse(w, status, code)
			return true
		}
	}
	for _, test := range []struct {
		name   string
		bucket string
		env    environment
		fault  func(http.ResponseWriter, *http.Request) bool
		want   string
	}{
		{name: "all is well", bucket: "audits", env: good()},
		{name: "another bucket", bucket: "audit", env: good(), want: "s3://audit: NoSuchBucket"},
		{name: "another secret", bucket: "audits", env: wrong, want: "s3://audits: SignatureDoesNotMatch"},
		{name: "another user", bucket: "audits", env: unknown, want: "s3://audits: InvalidAccessKeyId"},
		{name: "may not look", bucket: "audits", env: good(), fault: refused(http.StatusForbidden, "AccessDenied")},
		{name: "knows no lists", bucket: "audits", env: good(), fault: refused(http.StatusNotImplemented, "NotImplemented")},
		{name: "in trouble", bucket: "audits", env: good(), fault: refused(http.StatusServiceUnavailable, "SlowDown")},
		{name: "the clock", bucket: "audits", env: good(), fault: refused(http.StatusForbidden, "RequestTimeTooSkewed"), want: "RequestTimeTooSkewed: for the test (HTTP 403)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := s3test.New(t, "audits", true)
			server.Fault = test.fault
			err := service(t, server, test.env).Check(t.Context(), test.bucket, "x/{date}.json")
			wantError(t, err, test.want)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("have %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("have %v, want %q", err, want)
	}
	for _, secret := range []string{s3test.SecretKey, "not-the-secret", "token-of-the-pod"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

// A service that is not there, or not the one that is trusted, is told before all else.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	server := s3test.New(t, "audits", true)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, test := range []struct {
		o    s3.Options
		want string
	}{
		{s3.Options{Endpoint: server.URL}, "certificate"},
		{s3.Options{Endpoint: gone.URL}, "refused"},
	} {
		test.o.Env = good().get
		s, err := s3.New(test.o)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, s.Check(t.Context(), "audits", "x"), test.want)
	}
	_, err := s3.New(s3.Options{Endpoint: server.URL, CA: []byte("no certificate"), Env: good().get})
	wantError(t, err, "holds none in PEM")
}

// Trouble that passes costs tries and no object; what does not pass is told at once.
func TestPutInTrouble(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter, r *http.Request) {
		// Half of it has come.
		_, _ = r.Body.Read(make([]byte, 1<<20))
		panic(http.ErrAbortHandler)
	}
	slow := func(w http.ResponseWriter, _ *http.Request) {
		s3test.Refuse(w, http.StatusServiceUnavailable, "SlowDown")
	}
	broken := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	denied := func(w http.ResponseWriter, _ *http.Request) { s3test.Refuse(w, http.StatusForbidden, "AccessDenied") }
	for _, test := range []struct {
		name   string
		faults []func(http.ResponseWriter, *http.Request)
		want   string
	}{
		{"503", []func(http.ResponseWriter, *http.Request){slow, slow, slow}, ""},
		{"500 without a word", []func(http.ResponseWriter, *http.Request){broken, broken}, ""},
		{"cut connections", []func(http.ResponseWriter, *http.Request){cut, cut}, ""},
		{"denied", []func(http.ResponseWriter, *http.Request){denied}, "AccessDenied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := s3test.New(t, "audits", true)
			var puts atomic.Int64
			server.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				n := int(puts.Add(1)) - 1
				if n >= len(test.faults) {
					return false
				}
				test.faults[n](w, r)
				return true
			}
			want := content(8 << 20)
			err := service(t, server, good()).Put(t.Context(), "audits", "k", "text/plain", want)
			wantError(t, err, test.want)
			objects := server.Objects()
			if test.want == "" && len(objects["k"].Body) != int(want.Size()) {
				t.Errorf("have %d bytes of %d", len(objects["k"].Body), want.Size())
			}
			if test.want != "" && (len(objects) > 0 || puts.Load() != 1) {
				t.Errorf("%d tries and %d objects", puts.Load(), len(objects))
			}
		})
	}
}

// Who is stopped in the middle leaves nothing.
func TestPutCalledOff(t *testing.T) {
	t.Parallel()
	server := s3test.New(t, "audits", true)
	ctx, cancel := context.WithCancel(t.Context())
	server.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			_, _ = r.Body.Read(make([]byte, 1))
			cancel()
			// Till the client has hung up.
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return r.Method == http.MethodPut
	}
	err := service(t, server, good()).Put(ctx, "audits", "k", "text/plain", content(8<<20))
	if !errors.Is(err, context.Canceled) || len(server.Objects()) > 0 {
		t.Errorf("have %v and %d objects", err, len(server.Objects()))
	}
}

// A role is given for the token of a pod, which is read anew.
func TestWebIdentity(t *testing.T) {
	t.Parallel()
	server := s3test.New(t, "audits", true)
	server.Token = "for an hour"
	var refuse atomic.Bool
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() || r.FormValue("WebIdentityToken") != "token-of-the-pod" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/audit" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
			<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			s3test.AccessKey, s3test.SecretKey, server.Token, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token-of-the-pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment{"AWS_ROLE_ARN": "arn:aws:iam::1:role/audit", "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ENDPOINT_URL_STS": sts.URL}
	s := service(t, server, env)
	wantError(t, s.Check(t.Context(), "audits", "k"), "")
	wantError(t, s.Put(t.Context(), "audits", "k", "text/plain", content(10)), "")
	if len(server.Objects()) != 1 {
		t.Error("there is no object")
	}

	refuse.Store(true)
	wantError(t, service(t, server, env).Check(t.Context(), "audits", "k"), "credentials: AccessDenied")
	sts.Close()
	wantError(t, service(t, server, env).Check(t.Context(), "audits", "k"), "refused")
	env["AWS_WEB_IDENTITY_TOKEN_FILE"] = filepath.Join(t.TempDir(), "none")
	wantError(t, service(t, server, env).Check(t.Context(), "audits", "k"), "AWS_WEB_IDENTITY_TOKEN_FILE")
}

// Credentials come from files too, and that there are none is told at once.
func TestCredentials(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	file := filepath.Join(home, ".aws", "credentials")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[default]\naws_access_key_id = AKIANOBODY\naws_secret_access_key = x\n[audit]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s3test.AccessKey, s3test.SecretKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := s3test.New(t, "audits", true)
	for _, env := range []environment{
		{"HOME": home, "AWS_PROFILE": "audit"},
		{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "audit"},
	} {
		wantError(t, service(t, server, env).Check(t.Context(), "audits", "k"), "")
	}
	wantError(t, service(t, server, environment{"HOME": home}).Check(t.Context(), "audits", "k"), "InvalidAccessKeyId")
	for _, test := range []struct {
		env  environment
		want string
	}{
		{environment{}, "there are no credentials"},
		{environment{"HOME": t.TempDir()}, "there are no credentials"},
		{environment{"HOME": home, "AWS_PROFILE": "nobody"}, "nobody"},
		{environment{"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "none")}, "AWS_SHARED_CREDENTIALS_FILE"},
		{environment{"AWS_ACCESS_KEY_ID": "x"}, "only one is set"},
		{environment{"AWS_ROLE_ARN": "x"}, "only one is set"},
	} {
		_, err := s3.New(s3.Options{Endpoint: server.URL, Env: test.env.get})
		wantError(t, err, test.want)
	}
}

// What is written waits in memory, then in a file that has no name; where there is no room
// for one it says so.
func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, test := range []struct {
		dir  string
		size int
	}{{dir, 0}, {dir, 1 << 20}, {dir, 9 << 20}, {filepath.Join(dir, "none"), 9 << 20}} {
		s := s3.NewSpool(test.dir)
		want := content(test.size)
		if _, err := want.WriteTo(s); err != nil {
			t.Fatal(err)
		}
		have, all := make([]byte, test.size), make([]byte, test.size)
		if _, err := want.ReadAt(all, 0); err != nil && test.size > 0 {
			t.Fatal(err)
		}
		if _, err := s.ReadAt(have, 0); err != nil && test.size > 0 {
			t.Fatal(err)
		}
		if s.Size() != int64(test.size) || !bytes.Equal(have, all) {
			t.Errorf("%s %d: another text of %d", test.dir, test.size, s.Size())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}

	s := s3.NewSpool(filepath.Join(dir, "none"))
	piece := make([]byte, 1<<20)
	var err error
	for range 65 {
		if _, err = s.Write(piece); err != nil {
			break
		}
	}
	wantError(t, err, "TMPDIR")
}
