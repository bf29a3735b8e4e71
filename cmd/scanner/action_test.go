package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// actionDir is the folder of the action for GitHub's workflows.
const actionDir = "../../deploy/github/action"

// actionRun is a runner of GitHub's as far as the action sees it: a repository to work
// in, its folders and files, and a release that a stand-in for curl serves.
type actionRun struct {
	t *testing.T
	// repo is the working directory, releases what is below the release's address.
	repo, temp, releases string
	output, summary      string
	env                  map[string]string
}

const actionVersion = "v0.0.1"

func newActionRun(t *testing.T) *actionRun {
	t.Helper()
	for _, tool := range []string{"bash", "tar", "awk", "od"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here: %v", tool, err)
		}
	}
	dir := t.TempDir()
	a := &actionRun{
		t: t, repo: filepath.Join(dir, "a repository"), temp: filepath.Join(dir, "temp"), releases: filepath.Join(dir, "releases"),
		output: filepath.Join(dir, "output"), summary: filepath.Join(dir, "summary"),
	}
	for _, d := range []string{a.repo, a.temp, filepath.Join(a.releases, actionVersion), filepath.Join(dir, "tools")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// It takes the arguments that the action gives to curl, and the network's part.
	a.write(filepath.Join(dir, "tools", "curl"), `#!/bin/bash
while [[ $# -gt 1 ]]; do
	[[ $1 != --output ]] || { shift; to=$1; }
	shift
done
[[ $1 == https://releases.example/down/* ]] || { echo "curl: asked for $1" >&2; exit 6; }
cp -- "$RELEASES/${1#https://releases.example/down/}" "$to"
`)
	a.env = map[string]string{
		"PATH": filepath.Join(dir, "tools") + ":" + os.Getenv("PATH"), "HOME": dir, "RELEASES": a.releases,
		"RUNNER_TEMP": a.temp, "GITHUB_OUTPUT": a.output, "GITHUB_STEP_SUMMARY": a.summary, asProgram: "1",
	}
	// The inputs as the action's file has them by default.
	for name, input := range readAction(t).Inputs {
		a.input(name, input.Default)
	}
	a.input("version", actionVersion)
	a.input("release-url", "https://releases.example/down")
	a.input("verify-signature", "off")
	return a
}

type actionFile struct {
	Inputs map[string]struct {
		Default string `json:"default"`
	} `json:"inputs"`
	Runs struct {
		Steps []struct {
			Name string            `json:"name"`
			Run  string            `json:"run"`
			Uses string            `json:"uses"`
			If   string            `json:"if"`
			Env  map[string]string `json:"env"`
		} `json:"steps"`
	} `json:"runs"`
}

func readAction(t *testing.T) actionFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(actionDir, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var f actionFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func (a *actionRun) write(path, text string) {
	a.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		a.t.Fatal(err)
	}
}

func (a *actionRun) read(path string) string {
	a.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.t.Fatal(err)
	}
	return string(data)
}

// input sets an input as the action's file hands it to the scripts.
func (a *actionRun) input(name, value string) {
	a.env["ES_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = value
}

// release puts a release there whose program is the script given.
func (a *actionRun) release(program string) (archive string) {
	a.t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	tape := tar.NewWriter(zip)
	if err := tape.WriteHeader(&tar.Header{Name: "escape-scanner", Mode: 0o755, Size: int64(len(program))}); err != nil {
		a.t.Fatal(err)
	}
	if _, err := tape.Write([]byte(program)); err != nil {
		a.t.Fatal(err)
	}
	if err := errors.Join(tape.Close(), zip.Close()); err != nil {
		a.t.Fatal(err)
	}
	archive = fmt.Sprintf("escape-scanner_%s_%s_%s.tar.gz", actionVersion, runtime.GOOS, runtime.GOARCH)
	a.write(filepath.Join(a.releases, actionVersion, archive), b.String())
	a.write(filepath.Join(a.releases, actionVersion, "checksums.txt"),
		fmt.Sprintf("%064d  another.tar.gz\n%x  %s\n", 0, sha256.Sum256(b.Bytes()), archive))
	return archive
}

// self is a program for release: this test's own, as escape-scanner.
func (a *actionRun) self() string {
	return "#!/bin/sh\nexec '" + os.Args[0] + "' \"$@\"\n"
}

// step runs one of the action's scripts.
func (a *actionRun) step(script string) (code int, log string) {
	a.t.Helper()
	path, err := filepath.Abs(filepath.Join(actionDir, script))
	if err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.CommandContext(a.t.Context(), "bash", path)
	cmd.Dir = a.repo
	for k, v := range a.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// steps runs the scripts in order, and each must end with 0.
func (a *actionRun) steps(scripts ...string) (log string) {
	a.t.Helper()
	for _, s := range scripts {
		code, out := a.step(s)
		if log += out; code != 0 {
			a.t.Fatalf("%s: exit code %d\n%s", s, code, out)
		}
	}
	return log
}

// outputs are what the scan step set.
func (a *actionRun) outputs() map[string]string {
	a.t.Helper()
	set := map[string]string{}
	for line := range strings.Lines(a.read(a.output)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := set[name]; !ok || twice {
			a.t.Errorf("a strange or second output %q", line)
		}
		set[name] = value
	}
	return set
}

func (a *actionRun) wantOutputs(want map[string]string) {
	a.t.Helper()
	got := a.outputs()
	for name, value := range want {
		if got[name] != value {
			a.t.Errorf("output %s is %q, want %q; all: %v", name, got[name], value, got)
		}
	}
}

const actionManifest = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  hostPID: true
  containers: [{name: c, image: "x"}]
`
