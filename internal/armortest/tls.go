package armortest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// CA is a CA as KubeArmor makes one: what it signs bears its own name and serial number.
type CA struct {
	// Cert and Key are in PEM.
	Cert, Key []byte

	tb   testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a CA, whose key is not RSA as KubeArmor's are: those take long to make.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	key, text := newKey(tb)
	return NewCAOf(tb, key, text)
}

// NewCAOf makes a CA of a key, which is given in PEM, too.
func NewCAOf(tb testing.TB, key crypto.Signer, text []byte) *CA {
	tb.Helper()
	template := subject(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign)
	template.IsCA = true
	ca := &CA{tb: tb, cert: template, key: key, Key: text}
	ca.Cert = ca.sign(template, key)
	block, _ := pem.Decode(ca.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	ca.cert = cert
	return ca
}

func newKey(tb testing.TB) (key crypto.Signer, text []byte) {
	tb.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		tb.Fatal(err)
	}
	return own, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func subject(usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubearmor", Organization: []string{"kubearmor"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: usage, BasicConstraintsValid: true,
	}
}

// sign makes the certificate of a key.
func (ca *CA) sign(template *x509.Certificate, key crypto.Signer) []byte {
	ca.tb.Helper()
	raw, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// Client makes a client certificate and its key, in PEM.
func (ca *CA) Client() (cert, key []byte) {
	ca.tb.Helper()
	template := subject(x509.KeyUsageDigitalSignature)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	own, key := newKey(ca.tb)
	return ca.sign(template, own), key
}

// Server is how a relay with the names (or IPs) secures its connections: as KubeArmor
// does, it wants a client certificate of the same CA.
func (ca *CA) Server(names ...string) *tls.Config {
	ca.tb.Helper()
	template := subject(x509.KeyUsageDigitalSignature)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	own, key := newKey(ca.tb)
	pair, err := tls.X509KeyPair(ca.sign(template, own), key)
	if err != nil {
		ca.tb.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
}
