package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// S3 is how a bucket is reached. Credentials are no configuration: they come from where
// Amazon's own tools look for them.
type S3 struct {
	// Endpoint is the URL of the service, empty for Amazon's.
	Endpoint string
	// Region is the bucket's, empty to ask.
	Region string
	// Addressing is "auto", "path" or "host": where a request names the bucket.
	Addressing string
	// CA is a file of certificates in PEM, empty for the system's.
	CA string
}

// bucketScheme begins the outputs that go to a bucket.
const bucketScheme = "s3://"

// InBucket tells whether the output is an object in a bucket.
func (o Output) InBucket() bool {
	return len(o.File) >= len(bucketScheme) && strings.EqualFold(o.File[:len(bucketScheme)], bucketScheme)
}

// Object is the bucket and the key of an output in one. The key may hold what ObjectKey
// replaces.
func (o Output) Object() (bucket, key string) {
	bucket, key, _ = strings.Cut(o.File[len(bucketScheme):], "/")
	return bucket, key
}

// ObjectKey replaces {cluster}, {date} and {time} in a key. The time is UTC, and of the
// name only what every service takes in a key is left.
func ObjectKey(key, cluster string, at time.Time) string {
	at = at.UTC()
	return strings.NewReplacer(
		"{cluster}", keyPart(cluster), "{date}", at.Format(time.DateOnly), "{time}", at.Format("150405Z"),
	).Replace(key)
}

// maxKeyPart bounds what a name adds to a key.
const maxKeyPart = 200

// keyPart is a name as one part of a key.
func keyPart(name string) string {
	part := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._", r):
			return r
		}
		return '-'
	}, name)
	if part = strings.Trim(part[:min(len(part), maxKeyPart)], "-."); part == "" {
		return "unnamed"
	}
	return part
}

// object checks an output that goes to a bucket.
func (v *validator) object(key, output string, o Output) {
	bucket, object := o.Object()
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`).MatchString(bucket) || strings.Contains(bucket, "..") {
		v.wrong(key, output, "FORMAT=s3://BUCKET/KEY with a BUCKET of 3 to 63 of a-z, 0-9, - and .", hint{})
		return
	}
	if want := wrongKey(object); want != "" {
		v.wrong(key, output, fmt.Sprintf("FORMAT=s3://%s/KEY with %s", bucket, want), hint{})
	}
}

// maxKey is how long a key may be at Amazon, in bytes.
const maxKey = 1024

// wrongKey is what a key of an object should be and is not, empty for a good one.
func wrongKey(key string) string {
	rest := key
	for _, known := range []string{"{cluster}", "{date}", "{time}"} {
		rest = strings.ReplaceAll(rest, known, "x")
	}
	switch {
	case key == "" || strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/"):
		return "a KEY that neither begins nor ends with /"
	case strings.ContainsAny(rest, "{}"):
		return "no braces in KEY but {cluster}, {date} and {time}"
	case !utf8.ValidString(key) || harmless(key) != key:
		return "visible characters in KEY"
	case len(key)+maxKeyPart > maxKey:
		return fmt.Sprintf("a KEY of at most %d bytes", maxKey-maxKeyPart)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return "no empty part, . or .. in KEY"
		}
	}
	return ""
}

// s3 checks how a bucket is reached.
func (v *validator) s3(s *S3) {
	v.word(KeyS3Addressing, s.Addressing, addressings())
	if s.CA != "" {
		v.path(KeyS3CA, s.CA)
	}
	if s.Region != "" && !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`).MatchString(s.Region) {
		v.wrong(KeyS3Region, s.Region, "the name of a region", hint{})
	}
	if s.Endpoint == "" {
		return
	}
	// What is wrong is not repeated: there may be a password in it.
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		v.all.addf("%s: want a URL of https or http with a host and no path (%s)", KeyS3Endpoint, v.origins.Of(KeyS3Endpoint))
	case u.User != nil:
		v.all.addf("%s: want a URL without a user: credentials come from the environment or from files (%s)", KeyS3Endpoint, v.origins.Of(KeyS3Endpoint))
	case u.Scheme == "http" && s.CA != "":
		v.all.addf("%s and an endpoint of http: there is no certificate to check (%s)", KeyS3CA, v.origins.Of(KeyS3CA))
	}
}

// clusterName checks a name that stands in paths of outputs and in the category of SARIF.
func (v *validator) clusterName(name string) {
	if name != "" && !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@-]{0,251}[A-Za-z0-9])?$`).MatchString(name) {
		v.wrong(KeyClusterName, name, "letters, digits and ._:/@- between them", hint{})
	}
}
