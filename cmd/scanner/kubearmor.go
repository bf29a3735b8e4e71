package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/kube"
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
	namespace := usualNamespace
	if len(w.KubeArmor) == 0 {
		if relay, err := cluster.Relay(ctx); err == nil {
			namespace = relay.Namespace
		}
	}
	secured, err := a.kubeArmorTLS(ctx, cluster, w, namespace)
	if err != nil {
		return nil, err
	}
	if len(w.KubeArmor) == 0 {
		return []source.Target{{Address: relayAddress, Dial: dialRelay(cluster), TLS: secured}}, nil
	}
	targets := make([]source.Target, len(w.KubeArmor))
	for i, address := range w.KubeArmor {
		targets[i] = source.Target{Address: address, TLS: secured}
		if secured != nil && w.KubeArmorName == "" {
			own := secured.Clone()
			own.ServerName, _, _ = net.SplitHostPort(address) // Its form was checked.
			targets[i].TLS = own
		}
	}
	return targets, nil
}

// dialRelay finds the relay each time: it may come later, and move.
func dialRelay(cluster *kube.Cluster) func(context.Context, string) (net.Conn, error) {
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	return func(ctx context.Context, _ string) (net.Conn, error) {
		relay, err := cluster.Relay(ctx)
		switch {
		case err != nil:
			return nil, err
		case relay.Dial != nil:
			return relay.Dial(ctx, relay.Address)
		}
		return dialer.DialContext(ctx, "tcp", relay.Address)
	}
}

// kubeArmorTLS is how KubeArmor is spoken to, nil for plain text.
func (a *app) kubeArmorTLS(ctx context.Context, cluster *kube.Cluster, w *config.Watch, namespace string) (*tls.Config, error) {
	certs, err := a.certificateFiles(w)
	switch {
	case err != nil:
		return nil, err
	case w.KubeArmorTLS == "off":
		return nil, nil
	case len(certs.CA) > 0 || len(certs.Cert) > 0:
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
