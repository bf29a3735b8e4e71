package s3

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// errCredentials is that credentials could not be had.
var errCredentials = errors.New("credentials")

// newCredentials looks where Amazon's own tools do: in the environment, for a token of the
// pod's service account that a role is given for, in files, and where the container is told
// to ask. It does not ask the machine for its own credentials, as they do at last: what a
// pod takes from its node in that way is not given to it.
func newCredentials(o Options, transport *http.Transport) (*credentials.Credentials, error) {
	id, secret := o.Env("AWS_ACCESS_KEY_ID"), o.Env("AWS_SECRET_ACCESS_KEY")
	switch {
	case id != "" && secret != "":
		return credentials.NewStaticV4(id, secret, o.Env("AWS_SESSION_TOKEN")), nil
	case id != "" || secret != "":
		return nil, errors.New("S3: of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")
	}
	if role, file := o.Env("AWS_ROLE_ARN"), o.Env("AWS_WEB_IDENTITY_TOKEN_FILE"); role != "" || file != "" {
		if role == "" || file == "" {
			return nil, errors.New("S3: of AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE only one is set")
		}
		return webIdentity(o, role, file, transport)
	}
	file := o.Env("AWS_SHARED_CREDENTIALS_FILE")
	if home := o.Env("HOME"); file == "" && home != "" {
		file = filepath.Join(home, ".aws", "credentials")
	}
	switch _, err := os.Stat(file); {
	case file != "" && err == nil:
		return fileCredentials(o, file, transport)
	case o.Env("AWS_SHARED_CREDENTIALS_FILE") != "":
		return nil, fmt.Errorf("S3: AWS_SHARED_CREDENTIALS_FILE: %w", err)
	case inContainer(o):
		return containerCredentials(o, transport)
	case file != "" && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("S3: credentials: %w", err)
	}
	return nil, errNoCredentials
}

func fileCredentials(o Options, file string, transport *http.Transport) (*credentials.Credentials, error) {
	creds := credentials.NewFileAWSCredentials(file, cmp.Or(o.Env("AWS_PROFILE"), "default"))
	value, err := creds.GetWithContext(&credentials.CredContext{Client: &http.Client{Transport: transport}})
	switch {
	case err != nil:
		return nil, fmt.Errorf("S3: credentials in %s: %w", file, err)
	case value.AccessKeyID == "" || value.SecretAccessKey == "":
		return nil, fmt.Errorf("S3: no credentials in %s for profile %s", file, cmp.Or(o.Env("AWS_PROFILE"), "default"))
	}
	return creds, nil
}

var errNoCredentials = errors.New("S3: there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, " +
	"or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_SHARED_CREDENTIALS_FILE, " +
	"or associate a role with the pod's ServiceAccount by EKS Pod Identity")

// webIdentity has a role given for a token, which is read anew each time.
func webIdentity(o Options, role, file string, transport *http.Transport) (*credentials.Credentials, error) {
	endpoint := o.Env("AWS_ENDPOINT_URL_STS")
	if endpoint == "" {
		endpoint = "https://sts.amazonaws.com"
		if o.Region != "" {
			endpoint = "https://sts." + o.Region + ".amazonaws.com"
		}
		if strings.HasPrefix(o.Region, "cn-") {
			endpoint += ".cn"
		}
	}
	creds, err := credentials.NewSTSWebIdentity(endpoint, func() (*credentials.WebIdentityToken, error) {
		token, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: AWS_WEB_IDENTITY_TOKEN_FILE: %w", errCredentials, err)
		}
		return &credentials.WebIdentityToken{Token: strings.TrimSpace(string(token))}, nil
	}, func(i *credentials.STSWebIdentity) {
		i.RoleARN, i.Client = role, &http.Client{Transport: transport}
	})
	if err != nil {
		return nil, fmt.Errorf("S3: credentials for role %s: %w", role, err)
	}
	return creds, nil
}

// wrongPlace reports whether an error on the way to a service will be the same next time.
func wrongPlace(err error) bool {
	var name *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &name) && name.IsNotFound || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.Is(err, context.Canceled)
}
