package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Secrets that KubeArmor makes beside its relay where it uses TLS.
const (
	relayClientSecret = "kubearmor-client-certs"
	relayCASecret     = "kubearmor-ca"
	// relayCAKey is where the first holds the certificate of the CA.
	relayCAKey = "ca.crt"
)

// RelayTLS is what a cluster keeps for who speaks with KubeArmor's relay, in PEM. It is
// not for printing.
type RelayTLS struct {
	// CA is the certificate of KubeArmor's CA, Cert and Key are those of a client. CAKey
	// is the key of the CA, read only where there are no others.
	CA, Cert, Key, CAKey []byte
	// ServerName is the name in the relay's certificate, however it is reached.
	ServerName string
	// Found are the Secrets that are there, Forbidden those that may not be read; without
	// either, the relay speaks plain text.
	Found, Forbidden []string
}

// String implements fmt.Stringer: keys are not for printing.
func (t RelayTLS) String() string {
	return fmt.Sprintf("secrets found %v, forbidden %v", t.Found, t.Forbidden)
}

// GoString implements fmt.GoStringer, as String does.
func (t RelayTLS) GoString() string { return t.String() }

// RelayTLS reads the Secrets of the relay in a namespace, by name: that of the clients,
// and that of the CA where the first does not hold all. That one is not there, or may not
// be read, is no error.
func (c *Cluster) RelayTLS(ctx context.Context, namespace string) (*RelayTLS, error) {
	t := &RelayTLS{ServerName: RelayServerName(namespace)}
	client, err := c.relaySecret(ctx, namespace, relayClientSecret, t)
	if err != nil {
		return nil, err
	}
	t.CA, t.Cert, t.Key = client[relayCAKey], client[corev1.TLSCertKey], client[corev1.TLSPrivateKeyKey]
	paired := len(t.Cert) > 0 && len(t.Key) > 0
	if paired && len(t.CA) > 0 {
		return t, nil
	}
	ca, err := c.relaySecret(ctx, namespace, relayCASecret, t)
	if err != nil {
		return nil, err
	}
	if len(t.CA) == 0 || !paired {
		t.CA = ca[corev1.TLSCertKey]
	}
	if !paired {
		t.Cert, t.Key, t.CAKey = nil, nil, ca[corev1.TLSPrivateKeyKey]
	}
	return t, nil
}

// relaySecret reads one Secret, and notes whether it was there.
func (c *Cluster) relaySecret(ctx context.Context, namespace, name string, t *RelayTLS) (map[string][]byte, error) {
	var secret *corev1.Secret
	err := c.retry.do(ctx, func() (err error) {
		secret, err = c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsForbidden(err):
		t.Forbidden = append(t.Forbidden, name)
		return nil, nil
	case err != nil:
		return nil, subject("read secret "+name, namespace, err)
	}
	t.Found = append(t.Found, name)
	return secret.Data, nil
}

// RelayServerName is the name that KubeArmor gives the relay's certificate, beside others.
func RelayServerName(namespace string) string { return "kubearmor." + namespace + ".svc" }
