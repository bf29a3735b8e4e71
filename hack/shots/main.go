// Command shots makes the pictures in docs/images from the demo: of the terminal
// interface, as tmux shows it, and of the HTML report. It needs what hack/screens.sh
// installs.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The terminal that is shown.
const (
	columns = 120
	rows    = 36
)

// folder is where the pictures stand.
const folder = "docs/images"

func main() {
	log.SetFlags(0)
	log.SetPrefix("shots: ")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := shoot(ctx); err != nil {
		log.Fatal(err)
	}
}

// shoot makes all pictures.
func shoot(ctx context.Context) (err error) {
	program, err := filepath.Abs(cmp.Or(os.Getenv("ESCAPE_SCANNER"), "bin/escape-scanner"))
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "shots")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // It is part of the documentation.
		return err
	}
	if err := shootScreens(ctx, program, scratch); err != nil {
		return err
	}
	return shootReport(ctx, program, scratch)
}

// step leads to the next picture.
type step struct {
	// keys are typed one after the other: names of tmux, or text behind a quote.
	keys []string
	// until is what the screen shows then.
	until string
	// name is the picture's, empty for none.
	name string
}

// tour leads through the views while attacks come in. It begins once evidence was lost:
// then nothing new comes for some seconds.
func tour() []step {
	return []step{
		{[]string{"3"}, "EVIDENCE LOST", ""},
		{[]string{"g", "Down"}, "INCIDENT: ", "alerts"},
		{[]string{"1", "Down", "Down", "Down", "Down", "Down"}, "›CRITICAL", "overview"},
		{[]string{"2"}, "VERDICT↓", "workloads"},
		{[]string{"/", "'profiler", "Enter"}, "1 of 42", ""},
		{[]string{"Down", "Enter"}, "Escape paths", "workload"},
		{[]string{"6", "p"}, "STAGE audit", ""},
		{[]string{"b", "Down", "Enter"}, "mend", "plan"},
	}
}

// shootScreens takes the tour, and makes the pictures when it is over.
func shootScreens(ctx context.Context, program, scratch string) error {
	t := tmux{filepath.Join(scratch, "tmux")}
	command := "exec env -u NO_COLOR TERM=xterm-256color COLORTERM=truecolor " + program + " tui --demo --theme dark"
	if _, err := t.run(ctx, "-f", os.DevNull, "new-session", "-d", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows), "-c", scratch, command); err != nil {
		return err
	}
	defer t.run(context.WithoutCancel(ctx), "kill-server") //nolint:errcheck // It may be gone already.
	if _, err := t.until(ctx, "42 workloads"); err != nil {
		return err
	}
	screens := map[string]string{}
	for _, s := range tour() {
		if err := t.press(ctx, s.keys...); err != nil {
			return err
		}
		screen, err := t.until(ctx, s.until)
		if err != nil {
			return err
		}
		if s.name != "" {
			screens[s.name] = screen
		}
	}
	for _, name := range slices.Sorted(maps.Keys(screens)) {
		page, width, height := picture(parse(screens[name], columns, rows), "escape-scanner tui --demo")
		if err := photograph(ctx, scratch, "tui-"+name, page, shot{width: width, height: height}); err != nil {
			return err
		}
	}
	return nil
}

// shootReport shows the upper part of the HTML report, in light and dark.
func shootReport(ctx context.Context, program, scratch string) error {
	file := filepath.Join(scratch, "report.html")
	scan := exec.CommandContext(ctx, program, "scan", "--demo", "--fail-on", "none", "-o", "html="+file) //nolint:gosec // It is our own.
	if out, err := scan.CombinedOutput(); err != nil {
		return fmt.Errorf("scan: %w\n%s", err, out)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, dark := range []bool{false, true} {
		name := "html-light"
		if dark {
			name = "html-dark"
		}
		if err := photograph(ctx, scratch, name, string(page), shot{width: 1280, height: 1106, dark: dark}); err != nil {
			return err
		}
	}
	return nil
}

// tmux is a server of its own, by its socket.
type tmux struct{ socket string }

func (t tmux) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-u", "-S", t.socket}, args...)...) //nolint:gosec // It is told what to do here.
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out), nil
}

// press types keys: names of tmux, or text behind a quote.
func (t tmux) press(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		args := []string{"send-keys", key}
		if text, ok := strings.CutPrefix(key, "'"); ok {
			args = []string{"send-keys", "-l", text}
		}
		if _, err := t.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// until waits until the screen shows a text and stands still, and returns it with its
// colours.
func (t tmux) until(ctx context.Context, text string) (string, error) {
	again := time.NewTicker(150 * time.Millisecond)
	defer again.Stop()
	expire := time.After(time.Minute)
	before := ""
	for {
		screen, err := t.run(ctx, "capture-pane", "-p", "-e", "-N")
		if err != nil {
			return "", err
		}
		if screen == before && strings.Contains(plain(screen), text) {
			return screen, nil
		}
		before = screen
		select {
		case <-again.C:
		case <-expire:
			return "", fmt.Errorf("the screen never shows %q:\n%s", text, plain(screen))
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// shot is how a page is photographed.
type shot struct {
	width, height int
	dark          bool
}

// photograph has Chromium show a page, and writes the picture with as few colours as it
// needs.
func photograph(ctx context.Context, scratch, name, page string, s shot) error {
	file, raw := filepath.Join(scratch, name+".html"), filepath.Join(scratch, name+".png")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		return err
	}
	scheme := "1"
	if s.dark {
		scheme = "0"
	}
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb", "--font-render-hinting=none", "--disable-lcd-text",
		"--user-data-dir=" + filepath.Join(scratch, "chromium"), "--blink-settings=preferredColorScheme=" + scheme,
		"--force-device-scale-factor=2", fmt.Sprintf("--window-size=%d,%d", s.width, s.height), "--screenshot=" + raw,
		(&url.URL{Scheme: "file", Path: file}).String(),
	}
	browser, err := findBrowser()
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, browser, args...).CombinedOutput(); err != nil { //nolint:gosec // It is what the user has installed.
		return fmt.Errorf("%s: %w\n%s", browser, err, out)
	}
	size, err := shrink(raw, filepath.Join(folder, name+".png"))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	log.Printf("%s.png, %d KB", filepath.Join(folder, name), size/1000)
	return nil
}

func findBrowser() (string, error) {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no Chromium on the PATH: hack/screens.sh installs it, or CHROMIUM=FILE names one")
}
