package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// deps are what a run takes from its surroundings.
type deps struct {
	// program is the name that the program was called by.
	program       string
	environ       []string
	workDir       string
	userConfigDir string
	now           func() time.Time
	// terminalWidth is the width of the terminal behind w; ok is false when w is
	// none.
	terminalWidth func(w io.Writer) (width int, ok bool)
	// terminalInput is whether r is a terminal, where somebody can answer.
	terminalInput func(r io.Reader) bool
	// ownNamespace is the namespace of the pod that this runs in, empty outside of one.
	ownNamespace string
	build
}

func systemDeps() deps {
	userConfigDir, _ := os.UserConfigDir() // Without a home there is no such directory.
	return deps{
		program:       filepath.Base(os.Args[0]),
		environ:       os.Environ(),
		userConfigDir: userConfigDir,
		now:           time.Now,
		terminalWidth: terminalWidth,
		terminalInput: terminalInput,
		ownNamespace:  ownNamespace(),
		build:         linkedBuild(),
	}
}

func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

func terminalInput(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ownNamespace reads what every pod is told of itself.
func ownNamespace() string {
	text, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "" // Outside of a pod there is no such file.
	}
	return strings.TrimSpace(string(text))
}

// env is the value of a variable, empty when it is not set.
func (d deps) env(name string) string {
	for _, e := range d.environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// width is the width to write for: COLUMNS beats the terminal's own, and 0 means
// that w is no terminal.
func (d deps) width(w io.Writer) int {
	width, ok := d.terminalWidth(w)
	if !ok {
		return 0
	}
	if n, err := strconv.Atoi(d.env("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return width
}

// color decides about colours on w for the setting auto, always or never.
func (d deps) color(setting string, w io.Writer) bool {
	switch setting {
	case "always":
		return true
	case "never":
		return false
	}
	_, terminal := d.terminalWidth(w)
	return terminal && d.env("NO_COLOR") == "" && d.env("TERM") != "dumb"
}
