package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/escape-scanner/escape-scanner/internal/pause"
)

const (
	envRelativeURI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
	envFullURI     = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	envToken       = "AWS_CONTAINER_AUTHORIZATION_TOKEN" //nolint:gosec // The name of a variable.
	envTokenFile   = envToken + "_FILE"

	// ecsAgent is where ECS answers.
	ecsAgent = "http://169.254.170.2"
	// maxGiven is more than credentials ever take.
	maxGiven = 64 << 10
	// givenTries is how often credentials are asked for: the agent of a node that has just
	// come up may not run yet.
	givenTries = 4
)

// container asks for the credentials that are given to the container, by EKS Pod Identity
// or ECS. The library's own provider reads the program's environment itself, and where
// there is a file with a token it sends the token to any host, encrypted or not.
type container struct {
	credentials.Expiry

	uri string
	// token is sent along, the content of tokenFile where there is one, which is read anew
	// each time.
	token, tokenFile string
	client           *http.Client
	retry            time.Duration
}

// inContainer reports whether the environment says where to ask.
func inContainer(o Options) bool { return o.Env(envRelativeURI) != "" || o.Env(envFullURI) != "" }

func containerCredentials(o Options, transport *http.Transport) (*credentials.Credentials, error) {
	uri, err := containerURI(o)
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	return credentials.New(&container{
		uri: uri, token: o.Env(envToken), tokenFile: o.Env(envTokenFile), client: containerClient(uri, transport), retry: o.Retry,
	}), nil
}

func containerClient(uri string, transport *http.Transport) *http.Client {
	if strings.HasPrefix(uri, "http:") {
		// It is on this machine, and a proxy would read the token.
		transport = transport.Clone()
		transport.Proxy = nil
	}
	return &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		// The token is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// containerURI is the URL to ask. Without encryption that is this machine or its agents
// only, as in Amazon's own tools. A value that is wrong is not repeated: there may be a
// secret in it.
func containerURI(o Options) (string, error) {
	if path := o.Env(envRelativeURI); path != "" {
		if _, err := url.Parse(ecsAgent + path); err != nil || !strings.HasPrefix(path, "/") {
			return "", errors.New(envRelativeURI + ": want a path that begins with /")
		}
		return ecsAgent + path, nil
	}
	u, err := url.Parse(o.Env(envFullURI))
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil:
		return "", errors.New(envFullURI + ": want a URL of https or http with a host and no user")
	case u.Scheme == "http" && !nearby(u.Hostname()):
		return "", fmt.Errorf("%s: http to %s: without encryption credentials are asked of localhost, 169.254.170.2, 169.254.170.23 and [fd00:ec2::23] only", envFullURI, u.Hostname())
	}
	return u.String(), nil
}

// nearby reports whether a host is this machine, the agent of ECS or that of EKS. What
// other names stand for may change between a look and the request.
func nearby(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	switch addr = addr.Unmap(); addr.String() {
	case "169.254.170.2", "169.254.170.23", "fd00:ec2::23":
		return true
	}
	return addr.IsLoopback()
}

// containerError is that the credentials were not given.
type containerError struct {
	// status is that of the answer, 0 where there was none.
	status int
	text   string
	err    error
}

func (e *containerError) Error() string { return e.text }
func (e *containerError) Unwrap() error { return e.err }

// Retrieve is for callers without a context, of which there is none.
func (c *container) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext asks for credentials. The library takes its deadline off the
// context, so each request has one of its own, and there are few.
func (c *container) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if cc == nil || cc.Context == nil {
		return credentials.Value{}, fmt.Errorf("%w of the container: asked for without a context", errCredentials)
	}
	for tries, wait := 1, c.retry; ; tries, wait = tries+1, 2*wait {
		value, err := c.ask(cc.Context)
		if err == nil || tries == givenTries || !passes(err) || pause.For(cc.Context, wait) != nil {
			return value, err
		}
	}
}

func (c *container) ask(ctx context.Context) (credentials.Value, error) {
	token, err := c.authorization()
	if err != nil {
		return credentials.Value{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.uri, nil)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("%w: %s: no URL", errCredentials, envFullURI)
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	answer, err := c.client.Do(req)
	if err != nil {
		text := err.Error()
		if e, ok := errors.AsType[*url.Error](err); ok {
			text = e.Err.Error()
		}
		return credentials.Value{}, &containerError{text: req.URL.Host + ": " + text, err: err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxGiven))
	if err != nil {
		return credentials.Value{}, &containerError{text: req.URL.Host + ": " + err.Error(), err: err}
	}
	if answer.StatusCode != http.StatusOK {
		return credentials.Value{}, &containerError{status: answer.StatusCode, text: req.URL.Host + ": " + refusal(body, token, answer.StatusCode)}
	}
	return c.given(req.URL.Host, body)
}

// authorization is the token to send along, empty for none.
func (c *container) authorization() (string, error) {
	token := c.token
	if c.tokenFile != "" {
		text, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return "", fmt.Errorf("%s: %w", envTokenFile, err)
		}
		if token = strings.TrimSpace(string(text)); token == "" {
			return "", fmt.Errorf("%s: %s is empty", envTokenFile, c.tokenFile)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("the token for the container's credentials has more than one line, or bytes that no header has")
	}
	return token, nil
}

// refusal is what the agent says of why it gives nothing, without the token.
func refusal(body []byte, token string, status int) string {
	var told struct{ Code, Message string }
	if json.Unmarshal(body, &told) != nil || told.Code+told.Message == "" {
		told.Code, told.Message = "", string(body)
	}
	text := strings.Join(strings.Fields(told.Message), " ")
	if token != "" {
		text = strings.ReplaceAll(text, token, "…")
	}
	return words(told.Code, text, status)
}

// given reads the credentials in an answer.
func (c *container) given(host string, body []byte) (credentials.Value, error) {
	var told struct {
		AccessKeyID, SecretAccessKey, Token string
		Expiration                          time.Time
	}
	if err := json.Unmarshal(body, &told); err != nil || told.AccessKeyID == "" || told.SecretAccessKey == "" {
		// The error may hold a piece of a secret.
		return credentials.Value{}, fmt.Errorf("%w: the answer of %s holds none", errCredentials, host)
	}
	// Those that tell no end are asked for again each time.
	c.SetExpiration(told.Expiration, credentials.DefaultExpiryWindow)
	return credentials.Value{
		AccessKeyID: told.AccessKeyID, SecretAccessKey: told.SecretAccessKey, SessionToken: told.Token,
		Expiration: told.Expiration, SignerType: credentials.SignatureV4,
	}, nil
}
