package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// No expression stands in the text of a script, every input reaches one, and what is
// used of others is pinned to a commit.
func TestActionFile(t *testing.T) {
	t.Parallel()
	f := readAction(t)
	passed := ""
	for _, s := range f.Runs.Steps {
		if strings.Contains(s.Run, "${{") {
			t.Errorf("%s: an expression in a script is code of whoever sets it: %s", s.Name, s.Run)
		}
		if _, commit, ok := strings.Cut(s.Uses, "@"); s.Uses != "" && (!ok || len(commit) != 40) {
			t.Errorf("%s: %s is not pinned to a commit", s.Name, s.Uses)
		}
		for variable, value := range s.Env {
			passed += value + s.If
			if input, ok := strings.CutPrefix(value, "${{ inputs."); ok {
				input = strings.TrimSuffix(input, " }}")
				if want := "ES_" + strings.ToUpper(strings.ReplaceAll(input, "-", "_")); variable != want {
					t.Errorf("%s: %s has the input %s", s.Name, variable, input)
				}
				if _, ok := f.Inputs[input]; !ok {
					t.Errorf("%s: there is no input %s", s.Name, input)
				}
			}
		}
		passed += s.If
	}
	for name := range f.Inputs {
		if !strings.Contains(passed, "inputs."+name+" ") {
			t.Errorf("input %s goes nowhere", name)
		}
	}
}

// What is installed is what the checksum says, or nothing is.
func TestActionInstalls(t *testing.T) {
	t.Parallel()
	const program = "#!/bin/sh\necho ran \"$@\"\n"
	sum := func(a *actionRun) string { return filepath.Join(a.releases, actionVersion, "checksums.txt") }
	for name, c := range map[string]struct {
		change func(a *actionRun, archive string)
		says   string
		ok     bool
	}{
		"as it should be": {func(*actionRun, string) {}, "ran version", true},
		"a pinned checksum": {func(a *actionRun, archive string) {
			a.input("sha256", strings.Fields(strings.Split(a.read(sum(a)), "\n")[1])[0])
			a.write(sum(a), "")
		}, "ran version", true},
		"another pinned checksum": {func(a *actionRun, _ string) { a.input("sha256", strings.Repeat("0", 64)) }, "has the SHA-256", false},
		"another archive": {func(a *actionRun, archive string) {
			a.write(filepath.Join(a.releases, actionVersion, archive), "something else")
		}, "has the SHA-256", false},
		"no checksum":      {func(a *actionRun, _ string) { a.write(sum(a), "\n") }, "has no checksum of", false},
		"two checksums":    {func(a *actionRun, _ string) { a.write(sum(a), strings.Repeat(a.read(sum(a)), 2)) }, "or more than one", false},
		"no release":       {func(a *actionRun, _ string) { a.input("version", "v9.9.9") }, "could not be downloaded", false},
		"a strange name":   {func(a *actionRun, _ string) { a.input("version", "v1.0.0/../../x") }, "want one like", false},
		"not https":        {func(a *actionRun, _ string) { a.input("release-url", "http://releases.example/down") }, "want an https:// address", false},
		"no cosign":        {func(a *actionRun, _ string) { a.input("verify-signature", "required") }, "cosign", false},
		"a word too many":  {func(a *actionRun, _ string) { a.input("verify-signature", "yes") }, "want auto, required or off", false},
		"a checksum of 63": {func(a *actionRun, _ string) { a.input("sha256", strings.Repeat("0", 63)) }, "want 64", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newActionRun(t)
			c.change(a, a.release(program))
			code, log := a.step("install.sh")
			if (code == 0) != c.ok || !strings.Contains(log, c.says) {
				t.Errorf("exit code %d, want %q in\n%s", code, c.says, log)
			}
			_, err := os.Stat(filepath.Join(a.temp, "escape-scanner-"+actionVersion, "escape-scanner"))
			if (err == nil) != c.ok {
				t.Errorf("unpacked: %v", err)
			}
		})
	}
}

// recorder is a program that writes down its arguments, one a line behind "[", and
// leaves a run behind.
const recorder = `#!/bin/bash
{ echo "RUN"; for a in "$@"; do echo "[$a]"; done; } >>"$RUNNER_TEMP/calls"
for a in "$@"; do
	[[ $a != --output=jsonl=* ]] || echo '{"end":{"workloads":0,"findings":{"critical":0,"high":0,"low":0,"medium":0},"verdicts":{"closed":0,"exposed":0,"guarded":0,"sealed":0,"unknown":0},"incomplete":false}}' >"${a#--output=jsonl=}"
done
`

// Inputs are words for the program and nothing for the shell.
func TestActionQuotes(t *testing.T) {
	t.Parallel()
	a := newActionRun(t)
	a.release(recorder)
	const nasty = `$(touch "$RUNNER_TEMP/pwned") ; touch "$RUNNER_TEMP/pwned2" & ` + "`touch x`" + ` ' " \ * ~`
	a.input("paths", "deploy/a b.yaml\r\n\n   \n"+nasty+"\n--fail-on=none\n-x")
	a.input("config", nasty)
	a.input("baseline", nasty)
	a.input("level", nasty)
	a.input("category", nasty+"\nexit-code=0")
	a.input("args", "--pss-version=v1.30\n"+nasty)
	a.input("sarif-file", "out/$(id).sarif")
	a.write(filepath.Join(a.repo, "out", "keep"), "")
	a.steps("install.sh", "scan.sh")
	calls := strings.Split(a.read(filepath.Join(a.temp, "calls")), "RUN\n")
	if len(calls) != 4 {
		t.Fatalf("ran %d times: %q", len(calls)-1, calls)
	}
	for _, want := range []string{
		"[--filename=deploy/a b.yaml]\n[--filename=" + nasty + "]\n[--filename=--fail-on=none]\n[--filename=-x]\n",
		"[--config=" + nasty + "]\n", "[--level=" + nasty + "]\n", "[--sarif-category=" + nasty + "\nexit-code=0]\n",
		"[--fail-on=none]\n", "[--pss-version=v1.30]\n[" + nasty + "]\n", "[--output=sarif=out/$(id).sarif]\n",
	} {
		if !strings.Contains(calls[2], want) {
			t.Errorf("the scan has no %q:\n%s", want, calls[2])
		}
	}
	if want := "[--baseline=" + nasty + "]\n"; !strings.Contains(calls[3], want) || strings.Contains(calls[2], "baseline") {
		t.Errorf("the baseline belongs to what is told, not to what is uploaded:\n%s\n%s", calls[2], calls[3])
	}
	if left, _ := filepath.Glob(filepath.Join(a.temp, "pwned*")); len(left) > 0 {
		t.Errorf("an input was run: %v", left)
	}
	a.wantOutputs(map[string]string{"exit-code": "0", "complete": "true", "sarif-file": "out/$(id).sarif"})
}

// Inputs that make no sense end the step before anything is read.
func TestActionRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		inputs map[string]string
		says   string
	}{
		"nothing to scan":  {map[string]string{"paths": " \n"}, "give paths, or cluster"},
		"both":             {map[string]string{"paths": "x", "cluster": "true"}, "not both"},
		"standard input":   {map[string]string{"paths": "-"}, "there is no standard input"},
		"a word too many":  {map[string]string{"cluster": "yes"}, "cluster: want true or false"},
		"a second output":  {map[string]string{"paths": "x", "sarif-file": "a\nexit-code=0"}, "sarif-file: want one line"},
		"no events":        {map[string]string{"paths": "x", "events-file": ""}, "events-file: want one line"},
		"a wrong level":    {map[string]string{"paths": ".", "level": "x"}, "ended with exit code 2"},
		"a wrong severity": {map[string]string{"paths": ".", "fail-on": "x"}, "ended with exit code 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newActionRun(t)
			a.release(a.self())
			a.write(filepath.Join(a.repo, "pod.yaml"), actionManifest)
			a.steps("install.sh")
			for k, v := range c.inputs {
				a.input(k, v)
			}
			code, log := a.step("scan.sh")
			if code != 2 || !strings.Contains(log, c.says) {
				t.Errorf("exit code %d, want 2 and %q in\n%s", code, c.says, log)
			}
			if set := a.outputs(); len(set) > 0 {
				t.Errorf("outputs %v", set)
			}
		})
	}
}

// Findings are kept whole for the upload, whatever fails the job; a baseline changes
// what fails it and not what is uploaded.
func TestActionFindings(t *testing.T) {
	t.Parallel()
	a := newActionRun(t)
	a.release(a.self())
	a.write(filepath.Join(a.repo, "deploy", "pod.yaml"), actionManifest)
	a.input("paths", "deploy/")
	a.steps("install.sh", "scan.sh")
	a.wantOutputs(map[string]string{"exit-code": "1", "complete": "true", "high": "2", "critical": "0", "exposed": "1"})
	first := a.sarifResults()
	if len(first) != 3 || !strings.HasPrefix(first[0], "deploy/pod.yaml ") {
		t.Errorf("results %q", first)
	}
	if !strings.Contains(a.read(a.summary), "| 0 | 2 | 0 | 1 |") {
		t.Errorf("the summary is\n%s", a.read(a.summary))
	}
	a.env["ES_EXIT_CODE"], a.env["ES_COMPLETE"] = "1", "true"
	if code, log := a.step("gate.sh"); code != 1 || !strings.Contains(log, "::error::") {
		t.Errorf("gate: %d %s", code, log)
	}
	if err := os.Rename(filepath.Join(a.repo, "escape-scanner.jsonl"), filepath.Join(a.repo, "known.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.output); err != nil {
		t.Fatal(err)
	}
	a.input("baseline", "known.jsonl")
	a.input("paths", "./deploy/pod.yaml")
	a.steps("scan.sh")
	a.wantOutputs(map[string]string{"exit-code": "0", "complete": "true", "high": "2"})
	if second := a.sarifResults(); !slices.Equal(first, second) {
		t.Errorf("the same findings are told apart: %q and %q", first, second)
	}
}

// sarifResults are the places and fingerprints of the SARIF that was written.
func (a *actionRun) sarifResults() []string {
	a.t.Helper()
	var file struct {
		Runs []struct {
			Results []struct {
				PartialFingerprints struct{ PrimaryLocationLineHash string }
				Locations           []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(a.read(filepath.Join(a.repo, "escape-scanner.sarif"))), &file); err != nil {
		a.t.Fatal(err)
	}
	var list []string
	for _, r := range file.Runs[0].Results {
		list = append(list, r.Locations[0].PhysicalLocation.ArtifactLocation.URI+" "+r.PartialFingerprints.PrimaryLocationLineHash)
	}
	return list
}

// What could not be read fails the job by itself, and is not uploaded even where that
// is accepted; findings fail it then.
func TestActionIncomplete(t *testing.T) {
	t.Parallel()
	a := newActionRun(t)
	a.release(a.self())
	a.write(filepath.Join(a.repo, "pods", "pod.yaml"), actionManifest)
	a.write(filepath.Join(a.repo, "pods", "broken.yaml"), "kind: [\n")
	a.input("paths", "pods")
	a.steps("install.sh")
	for accepted, want := range map[string]string{"true": "3", "false": "1"} {
		if err := os.RemoveAll(a.output); err != nil {
			t.Fatal(err)
		}
		a.input("fail-on-incomplete", accepted)
		a.steps("scan.sh")
		a.wantOutputs(map[string]string{"exit-code": want, "complete": "false"})
	}
	if !strings.Contains(a.read(a.summary), "**Incomplete:**") {
		t.Errorf("the summary is\n%s", a.read(a.summary))
	}
	for _, code := range []string{"0", "3"} {
		a.env["ES_EXIT_CODE"], a.env["ES_COMPLETE"] = code, "false"
		if _, log := a.step("gate.sh"); !strings.Contains(log, "::warning::") {
			t.Errorf("the gate at %s says nothing of it: %s", code, log)
		}
	}
}

// A manifest cannot speak to the runner: its names stand between the marks that stop
// commands.
func TestActionStopsCommands(t *testing.T) {
	t.Parallel()
	a := newActionRun(t)
	a.release(a.self())
	a.write(filepath.Join(a.repo, "pod.yaml"), strings.Replace(actionManifest, "name: web", `name: "\n::set-output name=x::y"`, 1))
	a.input("paths", "pod.yaml")
	log := a.steps("install.sh", "scan.sh")
	if !strings.Contains(log, "set-output") {
		t.Errorf("the pod's name is not in the log:\n%s", log)
	}
	stopped := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		switch token, begins := strings.CutPrefix(line, "::stop-commands::"); {
		case begins && stopped == "" && len(token) == 32:
			stopped = token
		case line == "::"+stopped+"::":
			stopped = ""
		case strings.Contains(line, "set-output") && stopped == "":
			t.Errorf("the runner reads %q", line)
		}
	}
	if stopped != "" {
		t.Error("commands stay stopped")
	}
}

// The example gives the action inputs that it has, and pins what it uses of others.
func TestActionExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(actionDir, "..", "escape-scanner.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var example struct {
		Permissions map[string]string `json:"permissions"`
		Jobs        map[string]struct {
			Permissions map[string]string `json:"permissions"`
			Steps       []struct {
				Uses string         `json:"uses"`
				Run  string         `json:"run"`
				With map[string]any `json:"with"`
			} `json:"steps"`
		} `json:"jobs"`
	}
	if err := yaml.Unmarshal(data, &example); err != nil {
		t.Fatal(err)
	}
	if example.Permissions == nil || len(example.Permissions) > 0 {
		t.Errorf("permissions by default: %v", example.Permissions)
	}
	inputs, used := readAction(t).Inputs, 0
	for name, job := range example.Jobs {
		for permission, what := range job.Permissions {
			if what == "write" && permission != "security-events" {
				t.Errorf("%s may write %s", name, permission)
			}
		}
		for _, s := range job.Steps {
			if strings.Contains(s.Run, "${{") {
				t.Errorf("%s: an expression in a script: %s", name, s.Run)
			}
			action, ref, _ := strings.Cut(s.Uses, "@")
			if action != "escape-scanner/escape-scanner/deploy/github/action" {
				if s.Uses != "" && len(ref) != 40 {
					t.Errorf("%s: %s is not pinned to a commit", name, s.Uses)
				}
				continue
			}
			used++
			for input, value := range s.With {
				if _, ok := inputs[input]; !ok {
					t.Errorf("%s: there is no input %s", name, input)
				}
				if _, ok := value.(string); !ok {
					t.Errorf("%s: %s is %v: inputs are strings", name, input, value)
				}
			}
			if s.With["version"] != ref {
				t.Errorf("%s: version %v of the action at %s", name, s.With["version"], ref)
			}
		}
	}
	if used != 2 {
		t.Errorf("the action is used %d times", used)
	}
}
