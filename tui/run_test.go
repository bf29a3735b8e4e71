package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

// childVariable says that the test's program is to be the program under test, in a way.
const childVariable = "TUI_TEST_CHILD"

func TestMain(m *testing.M) {
	if way := os.Getenv(childVariable); way != "" {
		os.Exit(child(way))
	}
	os.Exit(m.Run())
}

var errTerminated = errors.New("terminated")

// child runs the program on the terminal that it has, as cmd does. Way may make it panic.
func child(way string) int {
	if way == "nothing" {
		ci, set := os.LookupEnv("CI")
		fmt.Printf("CI is %q %v\n", ci, set)
		return 0
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		cancel(errTerminated)
	}()
	feed := NewFeed(time.Now)
	o := Options{
		Source: "a test", Feed: feed, NoRemedy: "there is no cluster here", Formats: []string{"json"}, Theme: os.Getenv("TUI_TEST_THEME"),
		Copy: func(context.Context, io.Writer, string) error {
			if way == "panic in a command" {
				panic("a command\x1b[31m broke")
			}
			return nil
		},
		Export: func(context.Context, string, string, []scan.Event) error {
			// From now on telling the time is a bug.
			if way == "panic in an update" {
				feed.Say("anything")
			}
			return errors.New("nothing is written here")
		},
	}
	o.Now = func() time.Time {
		if way == "panic in an update" && feed.Snapshot().Notices != nil {
			panic("an update broke")
		}
		return time.Now()
	}
	_ = feed.Handle(scan.Event{Start: &scan.Start{Watch: true, Alerts: true, Level: "baseline", PSSVersion: "v1.36"}})
	_ = feed.Handle(scan.Event{Alert: alertNamed("curl", "other", "app", 0)})
	if err := Run(ctx, o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if errors.Is(err, errTerminated) {
			return 4
		}
		return 3
	}
	return 0
}

// pane is a terminal of tmux.
type pane struct {
	t      *testing.T
	socket string
}

// newPane is a terminal with a command in it.
func newPane(t *testing.T, command string) *pane {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux")
	}
	p := &pane{t, filepath.Join(t.TempDir(), "tmux")}
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "-e", "NO_COLOR=", "-e", "CI=", "-e", "GOCOVERDIR="+t.TempDir(), command)
	p.tmux("set-option", "-g", "remain-on-exit", "on")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	return p
}

// shellPane is a terminal with a shell in it.
func shellPane(t *testing.T) *pane {
	t.Helper()
	p := newPane(t, "env 'PS1=ready$ ' bash --norc --noprofile")
	p.waitFor("ready$")
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// press presses keys, as tmux names them.
func (p *pane) press(keys ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys"}, keys...)...)
}

// enter types a line.
func (p *pane) enter(line string) {
	p.t.Helper()
	p.tmux("send-keys", "-l", line)
	p.press("Enter")
}

func (p *pane) seen() string {
	p.t.Helper()
	return p.tmux("capture-pane", "-p", "-J")
}

// modes are those of the terminal that a program changes: whether the cursor is shown, the
// other screen, and the mouse.
func (p *pane) modes() string {
	p.t.Helper()
	return strings.TrimSpace(p.tmux("display-message", "-p", "cursor #{cursor_flag} screen #{alternate_on} mouse #{mouse_any_flag}#{mouse_button_flag}#{mouse_sgr_flag}"))
}

const (
	ownModes  = "cursor 1 screen 0 mouse 000"
	tuiModes  = "cursor 0 screen 1 mouse 111"
	patience  = 30 * time.Second
	firstLine = "1 Overview"
)

// until waits until something is so.
func (p *pane) until(what string, so func() bool) {
	p.t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(patience); !so(); <-ticks.C {
		if time.Now().After(end) {
			p.t.Fatalf("not so: %s; modes %s, seen:\n%s", what, p.modes(), p.seen())
		}
	}
}

func (p *pane) waitFor(text string) {
	p.t.Helper()
	p.until(text+" is seen", func() bool { return strings.Contains(p.seen(), text) })
}

func (p *pane) waitForModes(modes string) {
	p.t.Helper()
	p.until(modes, func() bool { return p.modes() == modes })
}

// start starts the program in a shell.
func (p *pane) start(way, environment string) {
	p.t.Helper()
	p.enter(environment + " " + childCommand(way) + "; echo exit=$?")
	p.waitFor(firstLine)
	p.waitForModes(tuiModes)
}

func childCommand(way string) string {
	return childVariable + "='" + way + "' " + os.Args[0]
}

// However it ends, the terminal is as it was, and what there is to say is said after.
func TestTerminalIsRestored(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		way  string
		end  func(p *pane)
		want []string
	}{
		"q":      {"plain", func(p *pane) { p.press("q") }, []string{"exit=0"}},
		"ctrl+c": {"plain", func(p *pane) { p.press("C-c") }, []string{"exit=0"}},
		"terminated": {"plain", func(p *pane) {
			pid := strings.TrimSpace(p.tmux("display-message", "-p", "#{pane_pid}"))
			out, err := exec.Command("pkill", "-TERM", "-P", pid).CombinedOutput()
			if err != nil {
				p.t.Fatalf("%v %s", err, out)
			}
		}, []string{"error: terminated", "exit=4"}},
		"panic in a command": {"panic in a command", func(p *pane) {
			p.press("3")
			p.waitFor("/usr/bin/curl")
			p.press("y")
		}, []string{`error: terminal interface: this is a bug: a command\x1b[31m broke (in tui`, "exit=3"}},
		"panic in an update": {"panic in an update", func(p *pane) {
			p.press("e")
			p.waitFor("Export this view")
			p.press("Enter")
		}, []string{"error: terminal interface: this is a bug: an update broke (in tui", "exit=3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := shellPane(t)
			before, after := filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "after")
			p.enter("stty -a > " + before)
			p.start(test.way, "")
			test.end(p)
			for _, text := range test.want {
				p.waitFor(text)
			}
			p.waitForModes(ownModes)
			p.enter("stty -a > " + after + "; echo us''able")
			p.waitFor("usable")
			was, err := os.ReadFile(before)
			if err != nil {
				t.Fatal(err)
			}
			is, err := os.ReadFile(after)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(was, is) {
				t.Errorf("the terminal was\n%s\nand is\n%s", was, is)
			}
			if seen := p.seen(); strings.Contains(seen, "goroutine") || strings.Contains(seen, firstLine) {
				t.Errorf("what was left:\n%s", seen)
			}
		})
	}
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	p := shellPane(t)
	p.start("plain", "")
	for range 2 {
		p.press("C-z")
		p.waitFor("Stopped")
		p.waitForModes(ownModes)
		p.enter("clear; echo bet''ween")
		p.waitFor("between")
		p.enter("fg")
		// The mouse works again too.
		p.waitForModes(tuiModes)
		p.press("3")
		p.waitFor("/usr/bin/curl")
		p.press("1")
	}
	p.press("q")
	p.waitForModes(ownModes)
}

// Where no shell has started it, nobody could resume it: it says so and goes on.
func TestSuspendWithoutAShell(t *testing.T) {
	t.Parallel()
	// The shell that runs a command of tmux controls no jobs. It says how the command ended:
	// tmux itself may never tell.
	p := newPane(t, childCommand("plain")+`; echo "ended with $?"; exec cat`)
	p.waitFor(firstLine)
	p.waitForModes(tuiModes)
	p.press("C-z")
	p.waitFor("not suspended")
	p.waitForModes(tuiModes)
	p.press("3")
	p.waitFor("/usr/bin/curl")
	p.press("q")
	p.waitFor("ended with 0")
}

var (
	anyColour  = regexp.MustCompile(`\x1b\[(?:[0-9;:]*[;:])?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:[;:][0-9;:]*)?m`)
	manyColour = regexp.MustCompile(`\x1b\[(?:[0-9;:]*[;:])?[34]8[;:]`)
	reverse    = regexp.MustCompile(`\x1b\[(?:[0-9;:]*[;:])?7(?:[;:][0-9;:]*)?m`)
)

func TestColours(t *testing.T) {
	t.Parallel()
	shown := func(t *testing.T, environment string) string {
		t.Helper()
		p := shellPane(t)
		p.start("plain", environment)
		p.press("3")
		p.waitFor("/usr/bin/curl")
		text := p.tmux("capture-pane", "-p", "-e")
		if !reverse.MatchString(text) {
			t.Errorf("%s: what is chosen does not stand out:\n%q", environment, text)
		}
		if strings.Contains(text, "rgb:") {
			t.Errorf("%s: the terminal's answer is seen:\n%q", environment, text)
		}
		p.press("q")
		p.waitForModes(ownModes)
		return text
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		if text := shown(t, "NO_COLOR=1 COLORTERM=truecolor"); anyColour.MatchString(text) {
			t.Errorf("colours: %q", text)
		}
	})
	t.Run("16", func(t *testing.T) {
		t.Parallel()
		if text := shown(t, "COLORTERM= TERM=screen"); manyColour.MatchString(text) || !anyColour.MatchString(text) {
			t.Errorf("not 16 colours: %q", text)
		}
	})
	t.Run("asked", func(t *testing.T) {
		t.Parallel()
		if text := shown(t, "COLORTERM= TERM=xterm-256color"); !manyColour.MatchString(text) {
			t.Errorf("no 256 colours: %q", text)
		}
	})
	t.Run("light and dark", func(t *testing.T) {
		t.Parallel()
		light := shown(t, "COLORTERM=truecolor TERM=xterm-256color TUI_TEST_THEME=light")
		dark := shown(t, "COLORTERM=truecolor TERM=xterm-256color TUI_TEST_THEME=dark")
		if !manyColour.MatchString(light) || !manyColour.MatchString(dark) || light == dark {
			t.Errorf("light\n%q\ndark\n%q", light, dark)
		}
	})
}

// A program that draws no screen does not ask the terminal anything, whatever it imports.
func TestNothingIsAsked(t *testing.T) {
	t.Parallel()
	p := newPane(t, "sh -c 'stty -echo; read line; exec env TERM=xterm-256color "+childVariable+"=nothing "+os.Args[0]+"'")
	raw := filepath.Join(t.TempDir(), "raw")
	p.tmux("pipe-pane", "cat > "+raw)
	p.press("Enter")
	var text []byte
	p.until("it has said what it has to", func() bool {
		text, _ = os.ReadFile(raw)
		return bytes.Contains(text, []byte("CI is"))
	})
	if bytes.ContainsRune(text, 0x1b) || !strings.Contains(string(text), `CI is "" true`) {
		t.Errorf("the terminal was written %q", text)
	}
}

func TestDumbTerminal(t *testing.T) {
	t.Parallel()
	p := shellPane(t)
	p.enter("TERM=dumb " + childCommand("plain") + "; echo exit=$?")
	p.waitFor("error: terminal interface: this terminal cannot move its cursor (TERM is dumb)")
	p.waitFor("exit=3")
}

// broken is a view that panics where it is told to.
type broken struct {
	*alerts
	inDraw, inUpdate bool
}

func (b *broken) draw(d *desk, width, height int) []string {
	if b.inDraw {
		panic("drawing broke")
	}
	return b.alerts.draw(d, width, height)
}

func (b *broken) update(d *desk, msg tea.Msg) tea.Cmd {
	if b.inUpdate {
		panic("updating broke")
	}
	return b.alerts.update(d, msg)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		view broken
		want string
	}{
		{"draw", broken{inDraw: true}, "this is a bug: drawing broke (in tui.(*broken).draw, run_test.go:"},
		{"update", broken{inUpdate: true}, "this is a bug: updating broke (in tui.(*broken).update, run_test.go:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 80, 24, nil, nil)
			test.view.alerts = newAlerts()
			s.screens[viewAlerts] = &test.view
			stopped := make(chan struct{})
			g := &guard{app: s.app, stop: func() { close(stopped) }}
			g.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3")})
			_, cmd := g.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("j")})
			_ = g.View()
			if test.view.inDraw {
				<-stopped
			} else if _, quits := cmd().(tea.QuitMsg); !quits {
				t.Error("it does not end")
			}
			if g.failed == nil || !strings.HasPrefix(g.failed.Error(), test.want) {
				t.Errorf("failed with %v", g.failed)
			}
		})
	}
	batch, ok := guarded(tea.Batch(func() tea.Msg { panic("one") }, func() tea.Msg { return nil }))().(tea.BatchMsg)
	if !ok {
		t.Fatal("a batch is none any more")
	}
	if msg, ok := batch[0]().(panicMsg); !ok || msg.err.Value != "one" {
		t.Errorf("a command of a batch gives %v", msg)
	}
}
