package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// completed gives what is proposed for a line that is being typed, and the number by
// which the shell is told what to do with it.
func completed(t *testing.T, program string, line ...string) (proposed []string, directive string) {
	t.Helper()
	d := testDeps(t.TempDir())
	d.program = program
	if program == "escape-scanner" {
		line = append([]string{"__completeNoDesc"}, line...)
	}
	code, stdout, stderr := invoke(t.Context(), d, nil, line...)
	if code != exitOK {
		t.Fatalf("%q: exit code %d: %s", line, code, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	return lines[:len(lines)-1], lines[len(lines)-1]
}

func TestCompletionOfWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line string
		want string
	}{
		{"scan --level ", "baseline restricted"},
		{"scan --color ", "auto always never"},
		{"version -o ", "table json"},
		{"remediate pl", "plan"},
		{"completion z", "zsh"},
		// Nobody is shown what is hidden.
		{"ma", ""},
	} {
		got, directive := completed(t, "escape-scanner", strings.Split(test.line, " ")...)
		if strings.Join(got, " ") != test.want || directive != ":4" {
			t.Errorf("%q: got %q %s, want %q :4", test.line, got, directive, test.want)
		}
	}
}

// Each shell gets a script that names the program.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		code, stdout, stderr := invoke(t.Context(), testDeps(""), nil, "completion", shell)
		if code != exitOK || !strings.Contains(stdout, "escape-scanner") || !strings.Contains(stdout, "__complete") {
			t.Errorf("%s: exit code %d, %d bytes, %s", shell, code, len(stdout), stderr)
		}
	}
}

// kubeconfig writes a configuration with two contexts, of which the first leads to url.
func writeKubeconfig(t *testing.T, url string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: prod
clusters:
- {name: near, cluster: {server: %q}}
- {name: far, cluster: {server: "http://127.0.0.1:1"}}
users:
- {name: me, user: {token: t}}
contexts:
- {name: prod, context: {cluster: near, user: me}}
- {name: preview, context: {cluster: far, user: me}}
- {name: "pr\e[31mod", context: {cluster: far, user: me}}
`, url)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCompletionOfKubeconfig(t *testing.T) {
	t.Parallel()
	file := writeKubeconfig(t, "http://127.0.0.1:1")
	for _, test := range []struct {
		line string
		want string
	}{
		{"scan --kubeconfig FILE --context pr", "preview prod"},
		{"watch --kubeconfig FILE --context pro", "prod"},
		{"tui --kubeconfig FILE --cluster ", "far near"},
		{"remediate plan --kubeconfig FILE --user ", "me"},
		{"scan --kubeconfig FILE.gone --context ", ""},
		// Nobody answers there: nothing is proposed, and no error is shown.
		{"scan --kubeconfig FILE -n ", ""},
	} {
		wantCompleted(t, test.line, file, test.want)
	}
}

// wantCompleted completes a line, in which FILE stands for the kubeconfig.
func wantCompleted(t *testing.T, line, file, want string) {
	t.Helper()
	got, directive := completed(t, "escape-scanner", strings.Split(strings.ReplaceAll(line, "FILE", file), " ")...)
	if strings.Join(got, " ") != want || directive != ":4" {
		t.Errorf("%q: got %q %s, want %q :4", line, got, directive, want)
	}
}

func TestCompletionOfNamespaces(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"NamespaceList","apiVersion":"v1","items":[{"metadata":{"name":"shop"}},
			{"metadata":{"name":"payments"}},{"metadata":{"name":"sh\u001b[31m"}},{"metadata":{"name":"sh; reboot"}}]}`)
	}))
	defer server.Close()
	file := writeKubeconfig(t, server.URL)
	for _, test := range []struct {
		line string
		want string
	}{
		{"scan --kubeconfig FILE -n ", "payments shop"},
		{"scan --kubeconfig FILE --namespace payments,s", "payments,shop"},
		{"remediate plan --kubeconfig FILE -n sh", "shop"},
		{"scan --kubeconfig FILE --context preview -n ", ""},
	} {
		wantCompleted(t, test.line, file, test.want)
	}
}

// kubectl completes the plugin's arguments by a program of this name.
func TestCompletionForKubectl(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"kubectl_complete-escape_scanner", "kubectl_complete-escape_scanner.exe"} {
		got, directive := completed(t, program, "scan", "--level", "")
		if strings.Join(got, " ") != "baseline restricted" || directive != ":4" {
			t.Errorf("%s: got %q %s", program, got, directive)
		}
	}
}
