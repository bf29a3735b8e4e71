package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
)

func TestPermissionsFitTheTerminal(t *testing.T) {
	t.Parallel()
	perms := []kube.Permission{
		{Verb: "list", Resource: "nodes", For: "what the nodes' kernels are and enforce", Allowed: true},
		{Verb: "list", Group: "apps", Resource: "deployments", Namespace: "shop", For: "whose pods these are", Reason: "no\x1b[31m"},
	}
	for name, test := range map[string]struct {
		width int
		want  string
	}{
		"a pipe": {0, `
ALLOWED  PERMISSION             NAMESPACE  WITHOUT IT IS UNKNOWN
yes      list nodes             (all)      what the nodes' kernels are and enforce
NO       list deployments.apps  shop       whose pods these are: no\x1b[31m
`},
		"narrow": {60, `
ALLOWED  PERMISSION  NAMESPACE
         WITHOUT IT IS UNKNOWN
yes      list nodes  (all)
         what the nodes' kernels are and enforce
NO       list deployments.apps  shop
         whose pods these are: no\x1b[31m
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := testDeps(t.TempDir())
			d.terminalWidth = func(io.Writer) (int, bool) { return test.width, test.width > 0 }
			var out bytes.Buffer
			if err := (&app{deps: d, stdout: &out}).printPermissions(perms, &config.Config{}); err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimPrefix(test.want, "\n"); out.String() != want {
				t.Errorf("have\n%s\nwant\n%s", &out, want)
			}
		})
	}
}
