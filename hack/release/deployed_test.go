package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The chart and the manifests of the checkout fit a release that is called as they are, and
// no other.
func TestDeployedIsTheRelease(t *testing.T) {
	t.Parallel()
	const root = "../.."
	chart, err := os.ReadFile(filepath.Join(root, "deploy", "chart", "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^appVersion: "?(v[0-9]+\.[0-9]+\.[0-9]+)"?$`).FindSubmatch(chart)
	if found == nil {
		t.Fatal("Chart.yaml: appVersion is no tag of a release")
	}
	version := string(found[1])
	if err := checkDeployed(root, version); err != nil {
		t.Errorf("%s: %v", version, err)
	}
	for _, other := range []string{"v0.0.0-gabcdef012345", version + "-3-gabcdef012345", version + "-dirty", "v9.9.9-1-gabcdef012345-dirty"} {
		if err := checkDeployed(root, other); err != nil {
			t.Errorf("%s is no release: %v", other, err)
		}
	}
	for _, other := range []string{"v99.0.0", "v99.0.0-rc.1"} {
		err := checkDeployed(root, other)
		if err == nil {
			t.Errorf("%s: nothing is wrong", other)
			continue
		}
		for _, part := range []string{"Chart.yaml: version is", "Chart.yaml: appVersion is", "kustomization.yaml: newTag is", "all.yaml: image is", "audit.yaml: image is", "watch.yaml: image is"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q is not in: %v", other, part, err)
			}
		}
	}
	if err := checkDeployed(t.TempDir(), version); err == nil {
		t.Error("without a chart nothing is wrong")
	}
}
