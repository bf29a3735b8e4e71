// Package s3 puts outputs into buckets of Amazon S3 and of what speaks its protocol.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/escape-scanner/escape-scanner/internal/pause"
)

// amazon is the endpoint where none is given; requests go to the bucket's region.
const amazon = "https://s3.amazonaws.com"

// Options say which service is spoken to. Zero values are the defaults.
type Options struct {
	// Endpoint is the URL of the service (Amazon's). With http nothing is encrypted.
	Endpoint string
	// Region of the buckets; where it is not known the service is asked.
	Region string
	// Addressing is where a request names the bucket: "path", "host", or "auto", which is by
	// host at Amazon and by path elsewhere.
	Addressing string
	// CA are certificates in PEM that the service's is checked with (the system's).
	CA []byte
	// Env is the value of a variable of the environment, for credentials and the region.
	Env func(name string) string
	// Retry is the first pause after a failure that may pass; each further one is twice as
	// long, up to 30 times as much (1 s). Patience is how long one object may take in all
	// (5 min), and CheckPatience how long a check (30 s).
	Retry, Patience, CheckPatience time.Duration
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&o.Retry, time.Second)
	def(&o.Patience, 5*time.Minute)
	def(&o.CheckPatience, 30*time.Second)
	if o.Endpoint == "" {
		o.Endpoint = amazon
	}
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if o.Region == "" {
			o.Region = o.Env(name)
		}
	}
	return o
}

// Service is a service that keeps objects. It is safe for concurrent use.
type Service struct {
	opts   Options
	client *minio.Client
}

// New is a client of the service. It asks nothing yet; that there are no credentials at
// all is an error now.
func New(o Options) (*Service, error) {
	o = o.withDefaults()
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, errors.New("S3: the endpoint is no URL")
	}
	transport, err := newTransport(o.CA)
	if err != nil {
		return nil, err
	}
	creds, err := newCredentials(o, transport)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	switch o.Addressing {
	case "path":
		lookup = minio.BucketLookupPath
	case "host":
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: creds, Secure: endpoint.Scheme == "https", Transport: transport, Region: o.Region, BucketLookup: lookup, MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	return &Service{opts: o, client: client}, nil
}

func newTransport(ca []byte) (*http.Transport, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("S3: the file of certificates holds none in PEM")
		}
	}
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig: settings, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		// What is kept is what was sent, packed or not.
		DisableCompression: true, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: time.Minute, MaxIdleConns: 8,
	}, nil
}

// Check tells whether an object could be put into a bucket, as far as can be told without
// putting one. Who may put objects need not be allowed to look at the bucket: to be refused
// is no error here, and a service that is in trouble may be out of it when it counts.
func (s *Service) Check(ctx context.Context, bucket, key string) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.CheckPatience)
	defer cancel()
	// Only this request tells in its answer's body what is wrong.
	prefix, _, _ := strings.Cut(key, "{")
	var err error
	for object := range s.client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, MaxKeys: 1, Recursive: true}) {
		err = object.Err
		break
	}
	if err == nil || mayPut(err) {
		return nil
	}
	return explain(bucket, "", err)
}

// mayPut reports whether an error of a look at a bucket says nothing about putting.
func mayPut(err error) bool {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code {
	case "AccessDenied", "AllAccessDisabled", "NotImplemented", "MethodNotAllowed":
		return true
	}
	return passes(err)
}

// Content is what is put: it can be read again when a try fails.
type Content interface {
	io.ReaderAt
	Size() int64
}

// maxObject is the size of the largest object that one request may put.
const maxObject = 5 << 30

// Put puts an object, which is there as a whole or not at all. What may pass is tried
// again, until patience or the context ends.
func (s *Service) Put(ctx context.Context, bucket, key, contentType string, content Content) error {
	if content.Size() > maxObject {
		return fmt.Errorf("s3://%s/%s: has %d bytes, and an object of one request at most %d", bucket, key, content.Size(), int64(maxObject))
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Patience)
	defer cancel()
	wait := s.opts.Retry
	for tries := 1; ; tries++ {
		err := s.put(ctx, bucket, key, contentType, content)
		if err == nil {
			return nil
		}
		if !passes(err) || pause.For(ctx, wait/2+rand.N(wait/2+1)) != nil { //nolint:gosec // It spreads requests and keeps no secret.
			err = explain(bucket, key, err)
			if tries > 1 {
				err = fmt.Errorf("%w (after %d tries)", err, tries)
			}
			return err
		}
		wait = min(2*wait, 30*s.opts.Retry)
	}
}

func (s *Service) put(ctx context.Context, bucket, key, contentType string, content Content) error {
	// No more than a reader: the library would seek in it while a request that failed may
	// still read.
	body := struct{ io.Reader }{io.NewSectionReader(content, 0, content.Size())}
	_, err := s.client.PutObject(ctx, bucket, key, body, content.Size(), minio.PutObjectOptions{
		ContentType: contentType,
		// Parts would be left behind where a program ends between them.
		DisableMultipart: true,
	})
	return err
}
