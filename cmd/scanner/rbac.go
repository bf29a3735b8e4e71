package main

import (
	"bytes"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
)

// scanWork is what the flags have a scan do. Where KubeArmor is, no cluster is asked.
func scanWork(f *scanFlags, cfg *config.Config) kube.ScanWork {
	w := kube.ScanWork{Namespaces: f.namespaces(), Looks: f.probes.looks(), Reports: f.reports != reportsOff, KubeArmor: usualNamespace}
	w.Looks.AgentNamespace, w.ReportsGroup = usualNamespace, reportsGroup(f.reports)
	if f.alerts > 0 {
		w.Relay, w.TLS = len(cfg.Watch.KubeArmor) == 0, readsRelaySecrets(cfg)
	}
	return w
}

// reportsGroup is the API group of reports of a kind, empty where the cluster decides.
func reportsGroup(kind string) string {
	if api := reports.API(kind); api == reports.APIOpenReports || api == reports.APIPolicyReport {
		return api.Group()
	}
	return ""
}

// readsRelaySecrets reports whether what TLS to KubeArmor's relay needs is in its Secrets.
func readsRelaySecrets(cfg *config.Config) bool {
	return cfg.Watch.KubeArmorTLS != "off" && cfg.Watch.KubeArmorCA == "" && cfg.Watch.KubeArmorCert == ""
}

// validateRBAC refuses what asks of a run more than its roles.
func (f *scanFlags) validateRBAC() error {
	switch {
	case !f.rbac:
		return nil
	case f.explain != "":
		return errors.New("--explain and --rbac: use one of them")
	case f.saveInventory != "":
		return errors.New("--save-inventory: saves what is read of a cluster, and none is read")
	}
	return nil
}

// printRoles prints roles as YAML documents behind a comment.
func (a *app) printRoles(comment string, roles []*unstructured.Unstructured) error {
	var out bytes.Buffer
	out.WriteString(comment)
	for _, role := range roles {
		text, err := yaml.Marshal(role.Object)
		if err != nil {
			return fmt.Errorf("%s: %w", role.GetName(), err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	_, err := a.stdout.Write(out.Bytes())
	return err
}
