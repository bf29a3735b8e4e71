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

// NewCA makes a CA.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	ca := &CA{tb: tb}
	template := subject(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign)
	template.IsCA = true
	ca.Cert, ca.Key = ca.sign(template)
	return ca
}

func subject(usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubearmor", Organization: []string{"kubearmor"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: usage, BasicConstraintsValid: true,
	}
}

// sign makes a key and its certificate, the CA's own where there is none yet.
func (ca *CA) sign(template *x509.Certificate) (cert, key []byte) {
	ca.tb.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.tb.Fatal(err)
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, own
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
	if err != nil {
		ca.tb.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		ca.tb.Fatal(err)
	}
	if ca.cert == nil {
		if ca.cert, err = x509.ParseCertificate(raw); err != nil {
			ca.tb.Fatal(err)
		}
		ca.key = own
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})
}

// Client makes a client certificate and its key, in PEM.
func (ca *CA) Client() (cert, key []byte) {
	ca.tb.Helper()
	template := subject(x509.KeyUsageDigitalSignature)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return ca.sign(template)
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
	cert, key := ca.sign(template)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		ca.tb.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
}
