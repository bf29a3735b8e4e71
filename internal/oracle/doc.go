// Package oracle holds, for tests, the answers that others give: the conformance
// pods and checks of pod-security-admission, and the schema of SARIF.
package oracle

import (
	"os/exec"
	"strings"
	"testing"
)

// moduleDir is the folder of a module that this one requires.
func moduleDir(tb testing.TB, module string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		tb.Fatalf("find module %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}
