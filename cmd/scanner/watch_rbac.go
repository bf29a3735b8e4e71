package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
)

// watchWork is what the flags have a watch do.
func (a *app) watchWork(f *watchFlags, cfg *config.Config) (kube.WatchWork, error) {
	w := kube.WatchWork{Namespaces: splitNames(*f.kube.Namespace), ProbeLogs: f.probeLogs}
	if cfg.Watch.Reports != "off" {
		w.Features = append(w.Features, kube.WatchReports)
	}
	if cfg.Watch.Events {
		w.Features = append(w.Features, kube.WatchEvents)
	}
	if cfg.Watch.LeaderElect {
		w.Features = append(w.Features, kube.WatchLease)
		w.LeaseNamespace = cmp.Or(cfg.Watch.LeaseNamespace, a.ownNamespace)
		if w.LeaseNamespace == "" {
			return w, errors.New("--leader-elect: say with --lease-namespace where the Lease is")
		}
	}
	if f.noAlerts || f.replay != "" {
		return w, nil
	}
	w.KubeArmor, w.Relay = usualNamespace, len(cfg.Watch.KubeArmor) == 0
	w.TLS = cfg.Watch.KubeArmorTLS != "off" && cfg.Watch.KubeArmorCA == "" && cfg.Watch.KubeArmorCert == ""
	return w, nil
}

// printWatchRoles prints the roles that the flags need.
func (a *app) printWatchRoles(f *watchFlags, cfg *config.Config) error {
	if f.demo {
		return errors.New("--rbac and --demo: the demo needs no rights")
	}
	work, err := a.watchWork(f, cfg)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, role := range kube.Roles("escape-scanner-watch", kube.WatchNeeds(work)) {
		text, err := yaml.Marshal(role.Object)
		if err != nil {
			return fmt.Errorf("%s: %w", role.GetName(), err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	_, err = a.stdout.Write(out.Bytes())
	return err
}
