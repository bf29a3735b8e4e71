package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/escape-scanner/escape-scanner/config"
	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// relayAddress names the relay where its place is found anew for each connection.
	relayAddress = "kubearmor-relay:32767"
	// usualNamespace is where KubeArmor is, unless its relay is found elsewhere.
	usualNamespace = "kubearmor"
)

// kubeArmorTargets are the places where alerts are heard: the addresses that were given,
// else the cluster's relay, which need not be there yet.
func (a *app) kubeArmorTargets(ctx context.Context, cluster *kube.Cluster, w *config.Watch) ([]source.Target, error) {
	certs, err := a.certificateFiles(w)
	if err != nil {
		return nil, err
	}
	var told sync.Once
	unread := func(names []string) {
		told.Do(func() {
			a.complain("warning", "secrets "+strings.Join(names, ", ")+" may not be read: where KubeArmor wants no TLS, it is spoken to in plain text")
		})
	}
	secure := func(ctx context.Context, host string) (*tls.Config, error) {
		return kubeArmorTLS(ctx, cluster, w, certs, host, unread)
	}
	// What is wrong with certificates that were asked for is said now; they may be others
	// later.
	if _, err := secure(ctx, ""); err != nil && (w.KubeArmorTLS == "on" || len(certs.CA) > 0 || len(certs.Cert) > 0) {
		return nil, err
	}
	if len(w.KubeArmor) == 0 {
		return []source.Target{{
			Address: relayAddress, Dial: cluster.RelayDialer(),
			Secure: func(ctx context.Context) (*tls.Config, error) { return secure(ctx, "") },
		}}, nil
	}
	targets := make([]source.Target, len(w.KubeArmor))
	for i, address := range w.KubeArmor {
		host, _, _ := net.SplitHostPort(address) // Its form was checked.
		targets[i] = source.Target{Address: address, Secure: func(ctx context.Context) (*tls.Config, error) { return secure(ctx, host) }}
	}
	return targets, nil
}

// kubeArmorTLS is how KubeArmor is spoken to, nil for plain text. host is who is dialled,
// empty for the relay that is found in the cluster; unread is told of secrets that might
// have said more.
func kubeArmorTLS(ctx context.Context, cluster *kube.Cluster, w *config.Watch, certs source.Certificates, host string, unread func([]string)) (*tls.Config, error) {
	if certs.ServerName == "" {
		certs.ServerName = host
	}
	namespace, err := cluster.RelayNamespace(ctx)
	if err != nil {
		namespace = usualNamespace
	}
	switch {
	case w.KubeArmorTLS == "off":
		return nil, nil
	case len(certs.CA) > 0 || len(certs.Cert) > 0:
		if certs.ServerName == "" {
			certs.ServerName = kube.RelayServerName(namespace)
		}
		return source.TLSConfig(certs)
	}
	secrets, err := cluster.RelayTLS(ctx, namespace)
	if err != nil {
		return nil, fmt.Errorf("TLS to KubeArmor: %w", err)
	}
	switch {
	case len(secrets.Found) > 0:
		certs.CA, certs.Cert, certs.Key, certs.CAKey = secrets.CA, secrets.Cert, secrets.Key, secrets.CAKey
		if certs.ServerName == "" {
			certs.ServerName = secrets.ServerName
		}
		return source.TLSConfig(certs)
	case w.KubeArmorTLS == "on" && len(secrets.Forbidden) > 0:
		return nil, fmt.Errorf("TLS to KubeArmor: secrets %s in namespace %s may not be read: give --%s, --%s and --%s",
			strings.Join(secrets.Forbidden, ", "), namespace, config.KeyKubeArmorCA, config.KeyKubeArmorCert, config.KeyKubeArmorKey)
	case w.KubeArmorTLS == "on":
		return nil, fmt.Errorf("TLS to KubeArmor: there are no secrets of it in namespace %s: give --%s", namespace, config.KeyKubeArmorCA)
	case len(secrets.Forbidden) > 0:
		unread(secrets.Forbidden)
	}
	return nil, nil
}

// certificateFiles reads the files that were given.
func (a *app) certificateFiles(w *config.Watch) (source.Certificates, error) {
	certs := source.Certificates{ServerName: w.KubeArmorName}
	var errs []error
	for _, f := range []struct {
		path string
		into *[]byte
	}{{w.KubeArmorCA, &certs.CA}, {w.KubeArmorCert, &certs.Cert}, {w.KubeArmorKey, &certs.Key}} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(a.path(f.path))
		if err != nil {
			errs = append(errs, fmt.Errorf("TLS to KubeArmor: %w", err))
		}
		*f.into = text
	}
	return certs, errors.Join(errs...)
}

// concerns tells whether an alert is about what was chosen by namespaces, none meaning
// all. Those of nodes concern everybody.
func concerns(namespaces []string, alert *armor.Alert) bool {
	return len(namespaces) == 0 || alert.Namespace == "" || slices.Contains(namespaces, alert.Namespace)
}
