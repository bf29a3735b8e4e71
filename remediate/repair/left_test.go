package repair_test

import (
	"strings"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// What is not proven is left as it was, with the reason.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	pod := func(spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: a, securityContext: " + spec + "}\n"
	}
	for name, test := range map[string]struct{ text, rule, want string }{
		"privileged without escalation": {pod("{privileged: true}"), "allowPrivilegeEscalation", "takes no allowPrivilegeEscalation: false with privileged: true"},
		"SYS_ADMIN without escalation":  {pod("{capabilities: {add: [CAP_SYS_ADMIN]}}"), "allowPrivilegeEscalation", "with CAP_SYS_ADMIN"},
		"root that may not be root":     {pod("{runAsUser: 0}"), "runAsNonRoot", "starts no container with runAsNonRoot: true and runAsUser: 0"},
		"what would come to light":      {pod("{privileged: true, capabilities: {add: [SYS_BOOT]}}"), "escape-privileged", "it would bring escape-cap-sys-boot to light"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := repairer(t, psa.LevelRestricted, psa.LatestVersion())
			r.Wanted = func(f *scan.Finding) bool { return f.Rule == test.rule }
			f, err := r.File(t.Context(), manifest.Text{File: "x.yaml", Data: []byte(test.text)}, false)
			if err != nil {
				t.Fatal(err)
			}
			if f.Changed() {
				t.Fatalf("changed to\n%s", f.After)
			}
			if len(f.Documents) != 1 || len(f.Documents[0].Left) == 0 || !strings.Contains(f.Documents[0].Left[0].Reason, test.want) {
				t.Errorf("%+v, want %q", f.Documents[0], test.want)
			}
		})
	}
}
