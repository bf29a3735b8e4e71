package armor_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
)

const relayName = "kubearmor.kubearmor.svc"

// With certificates of the right CA alerts come, given or signed as karmor signs one; in
// every other case it is said what is wrong, and nobody hangs.
func TestListenWithTLS(t *testing.T) {
	t.Parallel()
	ours, others := armortest.NewCA(t), armortest.NewCA(t)
	cert, key := ours.Client()
	wrongCert, wrongKey := others.Client()
	full := reader.Certificates{CA: ours.Cert, Cert: cert, Key: key, ServerName: relayName}
	with := func(change func(*reader.Certificates)) *reader.Certificates {
		c := full
		change(&c)
		return &c
	}
	for _, test := range []struct {
		name   string
		server *tls.Config
		client *reader.Certificates
		says   string
	}{
		{"both know each other", ours.Server(relayName), &full, ""},
		{"the relay's name is its address", ours.Server("127.0.0.1"), with(func(c *reader.Certificates) { c.ServerName = "" }), ""},
		{"signed with the CA's key", ours.Server(relayName), with(func(c *reader.Certificates) { c.Cert, c.Key, c.CAKey = nil, nil, ours.Key }), ""},
		{"two CAs, one of them right", ours.Server(relayName), with(func(c *reader.Certificates) { c.CA = append(append([]byte{}, others.Cert...), ours.Cert...) }), ""},
		{"a wrong CA", ours.Server(relayName), with(func(c *reader.Certificates) { c.CA = others.Cert }), "failed to verify certificate"},
		{"a certificate of another CA", ours.Server(relayName), with(func(c *reader.Certificates) { c.Cert, c.Key = wrongCert, wrongKey }), "does it take our certificate?"},
		{"no client certificate", ours.Server(relayName), with(func(c *reader.Certificates) { c.Cert, c.Key = nil, nil }), "does it take our certificate?"},
		{"another name", ours.Server("somebody.else"), &full, relayName},
		{"a client without TLS", ours.Server(relayName), nil, "does it want TLS, or not want it?"},
		{"a relay without TLS", nil, &full, "first record does not look like a TLS handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			relay := armortest.New(t, armortest.Options{TLS: test.server})
			to := reader.Target{Address: relay.Address()}
			if test.client != nil {
				var err error
				if to.TLS, err = reader.TLSConfig(*test.client); err != nil {
					t.Fatal(err)
				}
			}
			h := listen(t, to)
			if test.says == "" {
				relay.Await(1)
				relay.Send(alertNamed("secret"))
				h.until(t, "an alert", func() bool { return len(h.alerts) == 1 })
				h.stop(t)
				return
			}
			h.until(t, "it is told why not", func() bool { return len(h.states) > 0 && len(h.losts) > 0 })
			h.stop(t)
			if s := h.states[0]; s.connected || !strings.Contains(s.err.Error(), test.says) {
				t.Errorf("heard %s", h)
			}
		})
	}
}

// Certificates are asked for anew with each connection, and that they cannot be had is
// told as what it is.
func TestListenChangesCertificates(t *testing.T) {
	t.Parallel()
	ca := armortest.NewCA(t)
	cert, key := ca.Client()
	relay := armortest.New(t, armortest.Options{TLS: ca.Server(relayName)})
	var asked atomic.Int32
	broken := errors.New("the Secret is not there")
	h := listen(t, reader.Target{Address: relay.Address(), Secure: func(context.Context) (*tls.Config, error) {
		if asked.Add(1) == 1 {
			return nil, broken
		}
		return reader.TLSConfig(reader.Certificates{CA: ca.Cert, Cert: cert, Key: key, ServerName: relayName})
	}})
	h.connected(t, 1)
	h.stop(t)
	if !errors.Is(h.states[0].err, broken) || asked.Load() != 2 {
		t.Errorf("asked %d times: %s", asked.Load(), h)
	}
}

func TestTLSConfig(t *testing.T) {
	t.Parallel()
	ca := armortest.NewCA(t)
	cert, key := ca.Client()
	_, otherKey := ca.Client()
	for _, test := range []struct {
		name string
		c    reader.Certificates
		says string
	}{
		{"nothing", reader.Certificates{}, ""},
		{"all", reader.Certificates{CA: ca.Cert, Cert: cert, Key: key}, ""},
		{"no PEM", reader.Certificates{CA: []byte("secret words")}, "CA of KubeArmor: it holds no certificate"},
		{"a key for a CA", reader.Certificates{CA: ca.Key}, "CA of KubeArmor: it holds no certificate"},
		{"a certificate without a key", reader.Certificates{CA: ca.Cert, Cert: cert}, "client certificate for KubeArmor: "},
		{"a key without a certificate", reader.Certificates{CA: ca.Cert, Key: key}, "client certificate for KubeArmor: "},
		{"another's key", reader.Certificates{CA: ca.Cert, Cert: cert, Key: otherKey}, "does not match"},
		{"another CA's key", reader.Certificates{CA: ca.Cert, CAKey: key}, "key of the CA of KubeArmor: "},
		{"a broken key", reader.Certificates{CA: ca.Cert, Cert: cert, Key: []byte("secret words")}, "client certificate for KubeArmor: "},
	} {
		config, err := reader.TLSConfig(test.c)
		switch {
		case test.says == "":
			if err != nil || config == nil || config.MinVersion < tls.VersionTLS12 || config.InsecureSkipVerify {
				t.Errorf("%s: %+v, %v", test.name, config, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret words"):
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if said := fmt.Sprintf(verb, reader.Certificates{Key: []byte("words"), ServerName: "relay"}); said != "certificates for relay" {
			t.Errorf("%s prints %s", verb, said)
		}
	}
}

// KubeArmor's own keys are RSA in PKCS #1.
func TestTLSConfigSignsWithRSA(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := armortest.NewCAOf(t, key, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	config, err := reader.TLSConfig(reader.Certificates{CA: ca.Cert, CAKey: ca.Key, ServerName: relayName})
	if err != nil {
		t.Fatal(err)
	}
	relay := armortest.New(t, armortest.Options{TLS: ca.Server(relayName)})
	h := listen(t, reader.Target{Address: relay.Address(), TLS: config})
	h.connected(t, 1)
	h.stop(t)
}
