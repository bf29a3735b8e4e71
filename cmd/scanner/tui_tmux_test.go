package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// A user looks at everything there is in the demo, and finds the terminal as it was.
func TestTerminalOfTheDemo(t *testing.T) {
	t.Parallel()
	m := newTmuxTerminal(t)
	before := m.settings("before")
	m.run("echo what stood here before")
	m.run("escape-scanner tui --demo --pace 2")
	m.until("demo", "42 workloads", "E exposed", "Layers", "Nodes", "Policies", "● live")

	m.lookAtViews()
	m.lookAtWorkload()
	m.export()
	m.lookAtAlerts()
	m.lookAtEvidence()
	m.planOfDemo()
	m.resize()

	m.keys("C-z")
	m.until("what stood here before", "Stopped", shellPrompt)
	m.run("jobs")
	m.untilMatch(`\[1\]\+ +Stopped +escape-scanner tui --demo --pace 2\s+shell\$ jobs\s+\[1\]\+ +Stopped +escape-scanner tui --demo --pace 2`)
	m.run("fg")
	m.until("1 Overview", "q quit")
	m.keys("1")
	m.until("Worst exposed")
	m.click("2 Workloads") // The mouse is heard again too.
	m.until("VERDICT↓")

	m.keys("q")
	m.ended(exitOK)
	m.until("what stood here before")
	m.wantRestored(before)
}

// lookAtViews goes to each view by its number, by tab and by the mouse.
func (m *tmuxTerminal) lookAtViews() {
	m.Helper()
	for _, view := range []struct{ key, text string }{
		{"2", "VERDICT↓"}, {"3", "capability"}, {"4", "Evidence, the strongest first"}, {"5", "BITES↓"},
		{"6", "Close the ways out"}, {"1", "Worst exposed"}, {"Tab", "VERDICT↓"}, {"BTab", "Worst exposed"}, {"BTab", "Close the ways out"},
	} {
		m.keys(view.key)
		m.until(view.text)
	}
	m.click("5 Policies")
	m.until("BITES↓")
	m.keys("?")
	m.until("Everywhere", "In lists", "next view")
	m.keys("Escape")
	m.until("BITES↓")
}

// lookAtWorkload filters the workloads, opens one, reads and copies of it.
func (m *tmuxTerminal) lookAtWorkload() {
	m.Helper()
	m.keys("2")
	m.until("VERDICT↓")
	m.keys("/")
	m.write("ns:ci verdict:exposed")
	m.until("2 of 42")
	m.keys("Enter")
	m.until("c clear the filter")
	m.keys("Down")
	m.until("›E exposed")
	m.keys("Enter")
	m.until("E exposed  ci/Deployment/dind", "Escape paths", "ADMISSION", "✗ lets through", "fix: set spec.containers[0].securityContext.privileged to false")
	m.keys("n")
	m.untilMatch(`›▸ CRITICAL +escape-privileged`)
	m.keys("Enter")
	m.untilMatch(`›▾ CRITICAL +escape-privileged`)
	m.keys("y")
	m.until("copied")
	if text := m.tmux("show-buffer"); !strings.Contains(text, "escape-privileged") || strings.ContainsAny(text, "\x1b›▾") {
		m.Errorf("copied: %q", text)
	}
	m.untilGone("copied")
	m.keys("Y")
	m.until("copied")
	if text := m.tmux("show-buffer"); !strings.Contains(text, "privileged") || strings.Contains(text, "runs with all rights") {
		m.Errorf("copied as the fix: %q", text)
	}
	m.keys("Escape")
	m.until("VERDICT↓", "2 of 42")
}

// export writes what the filter leaves, and no file twice.
func (m *tmuxTerminal) export() {
	m.Helper()
	m.keys("e")
	m.until("Export this view", "2 workloads", "[table]")
	m.keys("Tab")
	m.until("[json]", "escape-scanner-workloads.json")
	m.keys("Enter")
	m.until("written: escape-scanner-workloads.json")
	var doc struct{ Verdicts []scan.WorkloadVerdict }
	if err := json.Unmarshal([]byte(m.read("escape-scanner-workloads.json")), &doc); err != nil {
		m.Fatal(err)
	}
	if v := doc.Verdicts; len(v) != 2 || v[0].Workload.String() != "ci/Deployment/dind" || v[1].Workload.String() != "ci/Deployment/runner" {
		m.Errorf("exported as JSON: %+v", v)
	}

	m.keys("e")
	m.until("Export this view")
	m.keys("BTab")
	m.until("[html]")
	for range "escape-scanner-workloads.html" {
		m.keys("BSpace")
	}
	m.write("ci.html")
	m.until("file    ci.html")
	m.keys("Enter")
	m.until("written: ci.html")
	if page := m.read("ci.html"); !strings.HasPrefix(page, "<!doctype html>") || !strings.Contains(page, "runner") || strings.Contains(page, "calico-node") {
		m.Errorf("exported as HTML: %d bytes that begin with %.100q", len(page), page)
	}

	m.keys("e")
	m.until("Export this view")
	m.keys("Tab", "Enter")
	m.until("Export this view", "file exists")
	m.keys("Escape")
	m.until("VERDICT↓")
	m.keys("c")
	m.untilGone("2 of 42")
}

// lookAtAlerts sees attacks come in, holds the list, and goes to whom one was made on.
func (m *tmuxTerminal) lookAtAlerts() {
	m.Helper()
	m.keys("3")
	m.untilMatch(`[1-9]\d* incidents?`)
	m.untilMatch(`EVIDENCE LOST .*throttled`)
	m.keys("p")
	m.until("paused, ")
	m.keys("p")
	m.untilGone("paused, ")
	m.keys("f")
	m.untilMatch(`\[capability \d+\]`)
	m.keys("i")
	m.until("only ", "incidents")
	m.untilMatch(`(?m)^.[CH]! capability .* E platform/media-imp`)
	m.keys("/")
	m.write("media-importer")
	m.keys("Enter")
	m.untilGone("platform/file-back")
	m.keys("w")
	m.until("platform/Deployment/media-importer", "Escape paths")
	m.keys("a")
	m.until("Deployment/media-importer", "alerts")
	m.keys("c")
	m.untilMatch(`\[all \d+\]`)
}

// lookAtEvidence reads why a node is said to enforce, and why a policy does not bite.
func (m *tmuxTerminal) lookAtEvidence() {
	m.Helper()
	m.keys("4")
	m.until("prod-3", "Contradictions: 1", "◂ decides")
	m.keys("/")
	m.write("edge")
	m.until("edge-1", "apparmor")
	m.untilGone("prod-3")
	m.keys("Enter")
	m.until("c clear the filter")
	m.keys("c")
	m.until("prod-3")
	m.keys("5")
	m.until("BITES↓", "pod-security-restricted-report")
	m.keys("Enter")
	m.until("bites: NO", "Why it does not bite", "policy-kyverno-audit", "mend")
	m.keys("Escape")
	m.until("BITES↓")
}

// planOfDemo plans, sees what would come of it, and is refused.
func (m *tmuxTerminal) planOfDemo() {
	m.Helper()
	m.keys("6")
	m.until("Close the ways out", "[baseline]", "[all namespaces]")
	m.keys("p", "x") // The second comes while it is planned.
	m.until("Planning was cancelled. Nothing was changed.")
	m.keys("Space")
	m.until("[restricted]")
	m.keys("p")
	m.until("Plan for demo: restricted, block, all namespaces", "STAGE audit", "+ create")
	m.keys("Enter")
	m.untilMatch(`(?m)^ +\+ +apiVersion: `)
	m.keys("b")
	m.until("[b what breaks]", "BREAKS")
	m.keys("a")
	m.until("Not applied", "nothing can be changed there", "Nothing was changed.")
	m.keys("Escape")
	m.until("Plan for demo")
}

// resize makes the terminal small and large again. Everything still fits.
func (m *tmuxTerminal) resize() {
	m.Helper()
	m.keys("2")
	m.until("Escape paths") // The workload that was opened last.
	m.keys("Escape")
	m.until("VERDICT↓")
	for _, size := range []struct {
		width, height int
		wants         []string
	}{
		{80, 24, []string{"2 Workloads", "ci", "q quit"}},
		{40, 12, []string{"2 Workloads", "q quit"}},
		{39, 11, []string{"39×11 is too small: 40×12 is needed"}},
		{200, 60, []string{"6 Remediate", "VERDICT↓", "q quit"}},
		{120, 40, []string{"6 Remediate", "VERDICT↓", "q quit"}},
	} {
		m.tmux("resize-window", "-x", strconv.Itoa(size.width), "-y", strconv.Itoa(size.height))
		m.until(size.wants...)
	}
}

// Who ends the program by a signal finds the terminal as it was too. The signal of a
// terminal that goes is one of them: without it an apply would be cut off.
func TestTerminalAfterSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			m := newTmuxTerminal(t)
			before := m.settings("before")
			m.run("escape-scanner tui --demo --pace 0")
			m.until("42 workloads", "Worst exposed")
			pid, err := strconv.Atoi(strings.TrimSpace(m.read("pid")))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
			m.ended(exitInterrupted)
			m.wantRestored(before)
		})
	}
}

// demoRun is a scan of the demo as JSON lines.
func demoRun(t *testing.T) []byte {
	t.Helper()
	run := liveRun(t, "scan", "--demo", "-o", "jsonl", "--fail-on", "none")
	if run.code != exitOK {
		t.Fatalf("exit %d: %s", run.code, run.stderr)
	}
	return []byte(run.stdout)
}

// What is looked at may come through a pipe: keys are read from the terminal all the same.
func TestTerminalOfPipes(t *testing.T) {
	t.Parallel()
	m := newTmuxTerminal(t)
	before := m.settings("before")
	run := demoRun(t)
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: digger, namespace: mine}\nspec:\n  hostPID: true\n  containers: [{name: app, image: registry.example/app:1, securityContext: {privileged: true}}]\n"
	for name, text := range map[string][]byte{
		"run.jsonl": run, "cut.jsonl": run[:len(run)/2], "pod.yaml": []byte(pod), "broken.yaml": []byte(pod + "---\n{ this: [is, broken\n"),
	} {
		if err := os.WriteFile(m.path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.run("cat run.jsonl | escape-scanner tui --from -")
	m.until("escape-scanner  standard input", "42 workloads", "■ still")
	m.keys("2")
	m.until("VERDICT↓")
	m.keys("q")
	m.ended(exitOK)

	m.run("clear; escape-scanner tui -f - <pod.yaml")
	m.until("escape-scanner  standard input", "1 workload,", "digger", "■ still")
	m.keys("6", "p")
	m.until("escape-scanner remediate manifests")
	m.keys("q")
	m.ended(exitOK)

	// What is broken is said where one looks, and makes the exit code.
	m.run("clear; escape-scanner tui -f pod.yaml -f broken.yaml")
	m.until("digger", "? 1 unread")
	m.keys("q")
	m.ended(exitOK)
	m.run("clear; escape-scanner tui --from cut.jsonl")
	m.until("✗ stopped", "cut.jsonl")
	m.keys("q")
	m.ended(exitUsage)

	// Where there is nothing to look at the screen is not taken.
	m.run("clear; escape-scanner tui --from nowhere.jsonl")
	m.ended(exitUsage)
	m.until("escape-scanner: ", "nowhere.jsonl")
	m.run("clear; escape-scanner tui --demo | cat")
	m.until("standard output is no terminal; for pipes and files there are scan and watch")
	m.wantRestored(before)
}

// colours are sequences that ask for one.
var colours = regexp.MustCompile(`\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[\d;]*m`)

// Without colours, and with few, states are still told apart.
func TestTerminalWithoutColours(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		variables []string
		args      string
		// most are the colours that may be asked for.
		most *regexp.Regexp
	}{
		{"NO_COLOR", []string{"TERM=screen", "COLORTERM=", "NO_COLOR=1"}, "", nil},
		{"never", nil, " --color never", nil},
		{"sixteen", []string{"TERM=xterm", "COLORTERM="}, "", regexp.MustCompile(`\x1b\[(?:[0-9];)*(?:[349][0-7]|10[0-7])(?:;[0-9]{1,2})*m`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newTmuxTerminal(t, test.variables...)
			m.run("clear; escape-scanner tui --demo --pace 0" + test.args)
			m.until("E exposed", "? unknown", "G guarded", "C closed", "S sealed")
			asked := colours.FindAllString(m.tmux("capture-pane", "-p", "-e"), -1)
			if test.most == nil && len(asked) > 0 {
				t.Errorf("colours are asked for: %q", asked)
			}
			if test.most != nil {
				if len(asked) == 0 {
					t.Error("no colours are asked for")
				}
				for _, sequence := range asked {
					if !test.most.MatchString(sequence) {
						t.Errorf("more than sixteen colours: %q", sequence)
					}
				}
			}
			m.keys("3")
			m.untilMatch(`(?m)^.C! capability .* E platform/`)
			m.keys("q")
			m.ended(exitOK)
		})
	}
}
