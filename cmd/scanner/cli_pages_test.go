package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// cliPages is where the help of each command stands as a page.
const cliPages = "../../docs/cli"

// TestCLIPages compares docs/cli with the help of the commands: one page a command, and
// a list of them all. -update writes them.
func TestCLIPages(t *testing.T) {
	t.Parallel()
	pages := map[string]string{}
	var index strings.Builder
	index.WriteString("# Commands\n\nEvery command with its flags, as `--help` prints them. Written by `make docs`.\n\n| command | what it does |\n|---|---|\n")
	root := (&app{deps: testDeps("")}).rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, path := range commandPaths(t) {
		cmd, _, err := root.Find(strings.Fields(path)[1:])
		if err != nil {
			t.Fatal(err)
		}
		pages[cliPage(cmd)] = cliPageText(t, cmd)
		fmt.Fprintf(&index, "| [%s](%s) | %s |\n", path, cliPage(cmd), strings.ReplaceAll(cmd.Short, "|", `\|`))
	}
	pages["README.md"] = index.String()
	if *updateScripts {
		if err := os.MkdirAll(cliPages, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range pages {
		file := filepath.Join(cliPages, name)
		if *updateScripts {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(file); err != nil || string(have) != want {
			t.Errorf("docs/cli/%s is not what the help says (%v): run \"make docs\"", name, err)
		}
	}
	entries, err := os.ReadDir(cliPages)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := pages[e.Name()]; ok {
			continue
		}
		if *updateScripts {
			if err := os.Remove(filepath.Join(cliPages, e.Name())); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("docs/cli/%s is the page of no command: run \"make docs\"", e.Name())
	}
}

func cliPage(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "_") + ".md"
}

// cliPageText is the page of a command.
func cliPageText(t *testing.T, cmd *cobra.Command) string {
	t.Helper()
	d := testDeps("")
	d.terminalWidth = func(io.Writer) (int, bool) { return 100, true }
	code, help, stderr := invoke(t.Context(), d, nil, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
	if code != exitOK || stderr != "" {
		t.Fatalf("%s --help: exit code %d, %s", cmd.CommandPath(), code, stderr)
	}
	if strings.Contains(help, "```") {
		t.Fatalf("%s --help: a fence inside the text", cmd.CommandPath())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	// Lines that end in blanks would be repaired by every editor.
	b.WriteString("```text\n")
	for line := range strings.Lines(help) {
		b.WriteString(strings.TrimRight(line, " \t\n") + "\n")
	}
	b.WriteString("```\n")
	var related []string
	if cmd.HasParent() {
		related = append(related, fmt.Sprintf("- [%s](%s)", cmd.Parent().CommandPath(), cliPage(cmd.Parent())))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			related = append(related, fmt.Sprintf("- [%s](%s): %s", sub.CommandPath(), cliPage(sub), sub.Short))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", strings.Join(related, "\n"))
	return b.String()
}
