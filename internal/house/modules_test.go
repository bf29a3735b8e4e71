package house_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// kubernetes is the release that all modules of Kubernetes come from. They are
// released together and fit together only so.
const kubernetes = "v0.37.2"

// released is the version of a module that is released with Kubernetes. The
// others below k8s.io (klog, utils, kube-openapi) have versions of their own.
var released = regexp.MustCompile(`^v0\.[1-9][0-9]*\.[0-9]+$`)

// pinned are the modules that are held at one version, with the reason.
var pinned = map[string]string{
	"github.com/owenrumney/go-sarif/v2": "v2.3.3",
	"github.com/spf13/cobra":            "v1.10.2",
	"github.com/spf13/viper":            "v1.21.0",
}

func TestModulesArePinned(t *testing.T) {
	var mod struct {
		Require []struct{ Path, Version string }
		Replace []struct{ Old, New struct{ Path string } }
	}
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range mod.Require {
		versions[m.Path] = m.Version
		if strings.HasPrefix(m.Path, "k8s.io/") && released.MatchString(m.Version) && m.Version != kubernetes {
			t.Errorf("%s %s: all modules of Kubernetes are pinned to %s; go get %s@%s", m.Path, m.Version, kubernetes, m.Path, kubernetes)
		}
	}
	for _, path := range []string{"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "k8s.io/cli-runtime", "k8s.io/pod-security-admission"} {
		if versions[path] != kubernetes {
			t.Errorf("%s is at %q, want %s", path, versions[path], kubernetes)
		}
	}
	for path, want := range pinned {
		if versions[path] != want {
			t.Errorf("%s is at %q, want %s", path, versions[path], want)
		}
	}
	// go install of the command refuses a module with replace lines.
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s: nobody could install the command with go install", r.Old.Path)
	}
}
