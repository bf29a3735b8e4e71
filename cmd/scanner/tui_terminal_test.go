package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tmuxTerminal is a terminal with a shell in it, in which escape-scanner is this very
// program. tmux draws it, so what is seen is what a user sees.
type tmuxTerminal struct {
	*testing.T
	socket string
	// home is the folder that the shell is in.
	home string
}

// shellPrompt is how the shell asks for the next command.
const shellPrompt = "shell$"

// newTmuxTerminal opens a terminal of 120×40 with more variables, such as TERM=screen.
func newTmuxTerminal(t *testing.T, variables ...string) *tmuxTerminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skipf("hack/screens.sh installs it: %v", err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	term := &tmuxTerminal{T: t, home: t.TempDir()}
	term.socket = filepath.Join(term.home, "tmux")
	bin := filepath.Join(term.home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	// It says which process it is, for signals.
	script := fmt.Sprintf("#!/bin/sh\necho $$ >%s\n%s=1 exec %s \"$@\"\n", term.path("pid"), asProgram, program)
	if err := os.WriteFile(filepath.Join(bin, "escape-scanner"), []byte(script), 0o700); err != nil { //nolint:gosec // It is to be run.
		t.Fatal(err)
	}
	shell := "exec env -u NO_COLOR TERM=xterm-256color COLORTERM=truecolor HISTFILE= PS1='" + shellPrompt + " ' " + strings.Join(variables, " ") + " bash --norc --noprofile"
	cmd := exec.CommandContext(t.Context(), "tmux", "-u", "-S", term.socket, "-f", os.DevNull, "new-session", "-d", "-x", "120", "-y", "40", "-c", term.home, shell)
	cmd.Env = []string{"HOME=" + term.home, "PATH=" + bin + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TERM=xterm-256color"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", term.socket, "kill-server").Run()
	})
	term.until(shellPrompt)
	return term
}

// path is the path of a file in the shell's folder.
func (m *tmuxTerminal) path(name string) string { return filepath.Join(m.home, name) }

// tmux runs a command of tmux and returns what it printed.
func (m *tmuxTerminal) tmux(args ...string) string {
	m.Helper()
	cmd := exec.CommandContext(m.Context(), "tmux", append([]string{"-u", "-S", m.socket}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.Fatalf("tmux %q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// keys presses keys by tmux's names for them.
func (m *tmuxTerminal) keys(names ...string) {
	m.Helper()
	m.tmux(append([]string{"send-keys"}, names...)...)
}

// write types text.
func (m *tmuxTerminal) write(text string) {
	m.Helper()
	m.tmux("send-keys", "-l", text)
}

// run types a command into the shell.
func (m *tmuxTerminal) run(command string) {
	m.Helper()
	m.write(command)
	m.keys("Enter")
}

// click clicks on the text, which the screen shows once or more often, at its first place.
func (m *tmuxTerminal) click(text string) {
	m.Helper()
	for y, line := range strings.Split(m.screen(), "\n") {
		before, _, found := strings.Cut(line, text)
		if !found {
			continue
		}
		at := fmt.Sprintf("%d;%d", len([]rune(before))+1, y+1)
		press, release := "\x1b[<0;"+at+"M", "\x1b[<0;"+at+"m"
		for _, sequence := range []string{press, release} {
			var codes []string
			for i := range len(sequence) {
				codes = append(codes, hex.EncodeToString([]byte{sequence[i]}))
			}
			m.tmux(append([]string{"send-keys", "-H"}, codes...)...)
		}
		return
	}
	m.Fatalf("nowhere to click: %q is not on the screen:\n%s", text, m.screen())
}

// screen is what is on the screen.
func (m *tmuxTerminal) screen() string {
	m.Helper()
	return m.tmux("capture-pane", "-p")
}

// await waits until the screen satisfies the condition.
func (m *tmuxTerminal) await(what string, ok func(screen string) bool) {
	m.Helper()
	again := time.NewTicker(40 * time.Millisecond)
	defer again.Stop()
	deadline := time.Now().Add(time.Minute)
	for ; ; <-again.C {
		screen := m.screen()
		if ok(screen) {
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("the screen never shows %s:\n%s", what, screen)
		}
	}
}

// until waits until the screen shows all of the texts.
func (m *tmuxTerminal) until(texts ...string) {
	m.Helper()
	m.await(fmt.Sprintf("%q", texts), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// untilGone waits until the screen shows the text no more.
func (m *tmuxTerminal) untilGone(text string) {
	m.Helper()
	m.await("no "+strconv.Quote(text), func(screen string) bool { return !strings.Contains(screen, text) })
}

// untilMatch waits until the screen matches a regular expression.
func (m *tmuxTerminal) untilMatch(expression string) {
	m.Helper()
	re := regexp.MustCompile(expression)
	m.await("a match of "+expression, re.MatchString)
}

// ended waits for the shell's prompt, and checks how the program ended.
func (m *tmuxTerminal) ended(code int) {
	m.Helper()
	m.await("the shell again", func(screen string) bool {
		return strings.HasSuffix(strings.TrimSpace(screen), shellPrompt)
	})
	m.run(`echo "exit=$?."`)
	m.untilMatch(`(?m)^exit=\d+\.$`)
	if want := fmt.Sprintf("exit=%d.", code); !strings.Contains(m.screen(), "\n"+want) {
		m.Errorf("it does not end with %s\n%s", want, m.screen())
	}
}

// read is a file in the shell's folder.
func (m *tmuxTerminal) read(name string) string {
	m.Helper()
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

// settings are those of the terminal, as the shell sees them.
func (m *tmuxTerminal) settings(name string) string {
	m.Helper()
	m.run("stty -a >" + name + " && echo said=" + name + ".")
	m.until("\nsaid=" + name + ".")
	return m.read(name)
}

// wantRestored checks that the terminal is as it was.
func (m *tmuxTerminal) wantRestored(before string) {
	m.Helper()
	if after := m.settings("after"); after != before {
		m.Errorf("stty before:\n%safter:\n%s", before, after)
	}
	if modes := m.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"); modes != "0 1 0\n" {
		m.Errorf("other screen, cursor, mouse: %q", modes)
	}
}
