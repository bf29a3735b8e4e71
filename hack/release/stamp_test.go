package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// hack/version.sh, in a repository as it becomes one.
func TestVersionScript(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, err := os.ReadFile("../version.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "hack"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		t.Helper()
		settings := []string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}
		if _, err := output(t.Context(), dir, "git", append(settings, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when, pattern string) {
		t.Helper()
		got, err := output(t.Context(), dir, "sh", "hack/version.sh")
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^` + pattern + `$`).MatchString(got) {
			t.Errorf("%s: got %q, want %s", when, got, pattern)
		}
	}
	write("hack/version.sh", string(script))
	git("init", "--quiet")
	git("add", "hack")
	git("commit", "--quiet", "-m", "one")
	is("no tag", `v0\.0\.0-g[0-9a-f]{12}`)
	git("tag", "v1.2.3")
	git("tag", "nightly")
	is("a tag", `v1\.2\.3`)
	write("new", "not known to git")
	is("a file that git does not know", `v1\.2\.3`)
	write("hack/version.sh", string(script)+"# changed\n")
	is("a change", `v1\.2\.3-dirty`)
	git("commit", "--quiet", "-am", "two")
	is("a commit after the tag", `v1\.2\.3-1-g[0-9a-f]{12}`)
}
