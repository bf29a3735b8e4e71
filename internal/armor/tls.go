package armor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// clientTime is how long a client certificate lives that is made for one connection.
const clientTime = time.Hour

// Certificates are what a connection to KubeArmor is secured with, all in PEM.
//
// KubeArmor's own client (karmor, v1.4.7) has the same two ways. By itself it takes the
// certificate and the key of KubeArmor's CA from the first Secret labelled
// kubearmor-app=kubearmor-ca, and signs a client certificate with them; or it reads
// ca.crt, client.crt and client.key from a folder. Relay and agents ask for a client
// certificate of that CA. Their names are those of the relay's Service, or the IP of
// the node.
type Certificates struct {
	// CA are the certificates of who has signed the other side's; empty for those that
	// this machine trusts.
	CA []byte
	// Cert and Key are the client certificate and its key; empty for none.
	Cert, Key []byte
	// CAKey, where there is no client certificate, is the key of the first CA: a client
	// certificate is signed with it for each connection.
	CAKey []byte
	// ServerName is the name in the other side's certificate, where it is not that of the
	// address.
	ServerName string
}

// String implements fmt.Stringer: keys are not for printing.
func (c Certificates) String() string { return "certificates for " + c.ServerName }

// GoString implements fmt.GoStringer, as String does.
func (c Certificates) GoString() string { return c.String() }

// TLSConfig is the configuration that the certificates make. Errors hold nothing of them.
func TLSConfig(c Certificates) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if len(c.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("CA of KubeArmor: it holds no certificate in PEM")
		}
	}
	switch {
	case len(c.Cert) > 0 || len(c.Key) > 0:
		pair, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate for KubeArmor: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	case len(c.CAKey) > 0:
		ca, err := tls.X509KeyPair(c.CA, c.CAKey)
		if err != nil {
			return nil, fmt.Errorf("key of the CA of KubeArmor: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return signed(&ca) }
	}
	return config, nil
}

// signed is a client certificate such as karmor makes.
func signed(ca *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("client certificate for KubeArmor: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("client certificate for KubeArmor: %w", err)
	}
	now := time.Now()
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "kubearmor", Organization: []string{"kubearmor"}},
		// Clocks differ.
		NotBefore: now.Add(-clientTime), NotAfter: now.Add(clientTime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("client certificate for KubeArmor: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}
