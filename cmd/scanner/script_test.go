package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var updateScripts = flag.Bool("update", false, "write what the transcripts compare with anew")

// TestScript runs the transcripts of testdata/script through run. Beyond
// testscript's own commands they have
//
//	scanner CODE [NAME=VALUE…] [@WIDTH] ARGS… [<FILE]
//	json FILE PATH WANT
//	valid events|remediate|sarif FILE
//	make WHAT FILE
//
// scanner runs the program, which must end with CODE: in an environment of
// nothing but the variables given, on a terminal of WIDTH cells if one is given,
// and with FILE as standard input. json takes a value out of FILE (see jsonPath),
// valid holds FILE against a schema, and make writes an input that is too large or
// too strange to stand in a transcript (see strangeFile).
func TestScript(t *testing.T) {
	schemas := loadSchemas(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		UpdateScripts:      *updateScripts,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ESC", "\x1b")
			return nil
		},
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"scanner": scannerCommand,
			"json":    jsonCommand,
			"valid":   schemas.command,
			"make":    makeCommand,
		},
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0, nil
		},
	})
}

// testDeps are surroundings that are the same on every machine and every day.
func testDeps(dir string) deps {
	return deps{
		workDir:       dir,
		now:           func() time.Time { return time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC) },
		terminalWidth: func(io.Writer) (int, bool) { return 0, false },
		build:         testBuild(),
	}
}

func scannerCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: scanner CODE [NAME=VALUE…] [@WIDTH] ARGS… [<FILE]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	args = args[1:]
	d := testDeps(ts.MkAbs("."))
	d.userConfigDir = filepath.Join(ts.Getenv("WORK"), "home")
	stdin := ""
	for len(args) > 0 {
		name, _, isVariable := strings.Cut(args[0], "=")
		if isVariable && !strings.HasPrefix(name, "-") {
			d.environ = append(d.environ, args[0])
		} else if width, ok := strings.CutPrefix(args[0], "@"); ok {
			cells, err := strconv.Atoi(width)
			ts.Check(err)
			d.terminalWidth = func(w io.Writer) (int, bool) { return cells, w == ts.Stdout() }
		} else {
			break
		}
		args = args[1:]
	}
	if n := len(args) - 1; n >= 0 && strings.HasPrefix(args[n], "<") {
		stdin, args = ts.ReadFile(args[n][1:]), args[:n]
	}
	got := run(context.Background(), args, strings.NewReader(stdin), ts.Stdout(), ts.Stderr(), d)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// makeCommand writes a file that strangeFile makes.
func makeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: make WHAT FILE")
	}
	path := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	if !strangeFile(args[0], path, ts) {
		ts.Fatalf("make: unknown %q", args[0])
	}
}

// invoke runs the program as a test does that is no transcript.
func invoke(ctx context.Context, d deps, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, stdin, &out, &errs, d)
	return code, out.String(), errs.String()
}
