package kubetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// CRDs names a set of CustomResourceDefinitions: those that a product installs.
type CRDs string

// The sets, as hack/crds.sh takes them from the modules of their makers.
const (
	KubeArmor    CRDs = "kubearmor"
	Kyverno      CRDs = "kyverno"
	PolicyReport CRDs = "policyreport"
	OpenReports  CRDs = "openreports"
	Prometheus   CRDs = "prometheus"
)

// InstallCRDs installs the sets and returns when the server serves them. What is
// installed already stays as it is. They stay until the server stops: a test of a
// cluster that lacks them starts a Server of its own.
func (s *Server) InstallCRDs(tb testing.TB, sets ...CRDs) {
	tb.Helper()
	s.crds.Lock()
	defer s.crds.Unlock()
	for _, set := range sets {
		if slices.Contains(s.installed, set) {
			continue
		}
		if err := s.installCRDs(set); err != nil {
			tb.Fatalf("CRDs of %s: %v", set, err)
		}
		s.installed = append(s.installed, set)
	}
}

func (s *Server) installCRDs(set CRDs) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "bin", "crds", string(set))
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf(`%s: run "make controlplane" to get what tests need: %w`, dir, err)
	}
	crds, err := envtest.InstallCRDs(s.Config(), envtest.CRDInstallOptions{
		Paths: []string{dir}, ErrorIfPathMissing: true, MaxTime: startTimeout, PollInterval: pollInterval,
	})
	if err == nil && len(crds) == 0 {
		err = fmt.Errorf("%s: nothing in it", dir)
	}
	return err
}
