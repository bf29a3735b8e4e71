// Package s3test is a service for tests that keeps objects as Amazon S3 does: it checks the
// signature of every request, and keeps an object when all of it has come.
package s3test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The credentials that the service takes.
const (
	AccessKey = "AKIATESTTESTTESTTEST"
	SecretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// Object is what is kept.
type Object struct {
	ContentType string
	Body        []byte
}

// Server is one service. Its fields are set before it is asked anything.
type Server struct {
	URL string
	// CA is the certificate to trust, in PEM; empty without TLS.
	CA []byte
	// Bucket is the one bucket that there is.
	Bucket string
	// Token is the session token that requests must carry, empty for none.
	Token string
	// Fault may answer a request in place of the service; it says whether it did.
	Fault func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	objects  map[string]Object
	requests []string
}

// New starts a service with one bucket, with TLS or without.
func New(t testing.TB, bucket string, secure bool) *Server {
	t.Helper()
	s := &Server{Bucket: bucket, objects: map[string]Object{}}
	var server *httptest.Server
	if secure {
		server = httptest.NewTLSServer(s)
		s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	} else {
		server = httptest.NewServer(s)
	}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.URL = server.URL
	return s
}

// Objects are those that are kept, by their keys.
func (s *Server) Objects() map[string]Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects)
}

// Requests are the methods and paths of all requests so far.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.Fault != nil && s.Fault(w, r) {
		return
	}
	if code := s.refuse(r); code != "" {
		Refuse(w, http.StatusForbidden, code)
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case bucket != s.Bucket:
		Refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet && r.URL.Query().Has("location"):
		fmt.Fprint(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-test-1</LocationConstraint>`)
	case r.Method == http.MethodGet && key == "":
		fmt.Fprintf(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><IsTruncated>false</IsTruncated></ListBucketResult>`, bucket)
	case r.Method == http.MethodPut && key != "":
		s.put(w, r, key)
	default:
		Refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string) {
	var body []byte
	var err error
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		body, err = chunks(r.Body)
	} else {
		body, err = io.ReadAll(r.Body)
	}
	if err != nil {
		Refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	s.mu.Lock()
	s.objects[key] = Object{ContentType: r.Header.Get("Content-Type"), Body: body}
	s.mu.Unlock()
	w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
}

// chunks reads a body that comes in signed chunks, up to the empty one.
func chunks(r io.Reader) ([]byte, error) {
	in := bufio.NewReader(r)
	var body bytes.Buffer
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return body.Bytes(), nil
		}
		if _, err := io.CopyN(&body, in, n); err != nil {
			return nil, err
		}
		if _, err := in.Discard(len("\r\n")); err != nil {
			return nil, err
		}
	}
}

// Refuse answers with an error of the protocol.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>for the test</Message></Error>`, code)
}

// refuse checks the signature of a request by Amazon's description of version 4, and gives
// the code of an error, empty for none.
func (s *Server) refuse(r *http.Request) string {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "AccessDenied"
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	scope := strings.SplitN(parts["Credential"], "/", 2)
	if len(scope) != 2 || scope[0] != AccessKey {
		return "InvalidAccessKeyId"
	}
	if r.Header.Get("X-Amz-Security-Token") != s.Token {
		return "InvalidToken"
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(parts["SignedHeaders"], ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	request := strings.Join([]string{
		r.Method, escape(r.URL.Path), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"),
		headers.String(), parts["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	sum := sha256.Sum256([]byte(request))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope[1], hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + SecretKey)
	for part := range strings.SplitSeq(scope[1], "/") {
		key = sign(key, part)
	}
	if want := hex.EncodeToString(sign(key, toSign)); want != parts["Signature"] {
		return "SignatureDoesNotMatch"
	}
	return ""
}

// escape is a path as it is signed: all but what is plain everywhere is escaped.
func escape(path string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
	var b strings.Builder
	for _, c := range []byte(path) {
		if strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
