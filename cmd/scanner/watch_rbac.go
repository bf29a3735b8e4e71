package main

import (
	"cmp"
	"errors"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
)

// watchWork is what the flags have a watch do.
func (a *app) watchWork(f *watchFlags, cfg *config.Config) (kube.WatchWork, error) {
	w := kube.WatchWork{Namespaces: splitNames(*f.kube.Namespace), ProbeLogs: f.probeLogs}
	if cfg.Watch.Reports != "off" {
		w.Features, w.ReportsGroup = append(w.Features, kube.WatchReports), reportsGroup(cfg.Watch.Reports)
	}
	if cfg.Watch.Events {
		w.Features = append(w.Features, kube.WatchEvents)
	}
	if cfg.Watch.LeaderElect {
		w.Features = append(w.Features, kube.WatchLease)
		w.LeaseName = cfg.Watch.LeaseName
		w.LeaseNamespace = cmp.Or(cfg.Watch.LeaseNamespace, a.ownNamespace)
		if w.LeaseNamespace == "" {
			return w, errors.New("--leader-elect: say with --lease-namespace where the Lease is")
		}
	}
	if f.noAlerts || f.replay != "" {
		return w, nil
	}
	w.KubeArmor, w.Relay = usualNamespace, len(cfg.Watch.KubeArmor) == 0
	w.TLS = readsRelaySecrets(cfg)
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
	return a.printRoles("", kube.Roles("escape-scanner-watch", kube.WatchNeeds(work)))
}
