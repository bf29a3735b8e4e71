package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is made is made once for all tests: of the files of this checkout, committed to a
// repository of their own under a tag, in two clones of it that are at different places.
type made struct {
	roots    [2]string
	stamp    stamp
	binaries [2]binary
	// archives are the files with the image of each.
	archives [2]string
}

// making makes what the tests look at, at the first call.
type making struct {
	dir  string
	once sync.Once
	made made
	err  error
}

var release making

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "escape-scanner-release-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	release.dir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// theRelease gives what is made. A test that needs no binary does not call it.
func theRelease(t *testing.T) *made {
	t.Helper()
	release.once.Do(func() { release.err = release.make(t.Context()) })
	if release.err != nil {
		t.Fatal(release.err)
	}
	return &release.made
}

// here is the platform of images that this machine runs, or could if it were Linux.
func here() platform { return platform{"linux", runtime.GOARCH} }

func (r *making) make(ctx context.Context) error {
	first := filepath.Join(r.dir, "one")
	second := filepath.Join(r.dir, "at", "another", "place")
	if err := commitCopy(ctx, first); err != nil {
		return err
	}
	if _, err := output(ctx, r.dir, "git", "clone", "--quiet", first, second); err != nil {
		return err
	}
	r.made.roots = [2]string{first, second}
	for i, root := range r.made.roots {
		st, err := readStamp(ctx, root, stamp{})
		if err != nil {
			return err
		}
		if i > 0 && st != r.made.stamp {
			return fmt.Errorf("two clones of a commit say %+v and %+v", r.made.stamp, st)
		}
		r.made.stamp = st
		if r.made.binaries[i], err = compile(ctx, root, st, here()); err != nil {
			return err
		}
		index, err := makeImage(st, r.made.binaries[i:i+1])
		if err != nil {
			return err
		}
		r.made.archives[i] = filepath.Join(r.dir, fmt.Sprintf("image-%d.tar", i))
		if err := writeImage(r.made.archives[i], index, []string{repository + ":v1.2.3", repository + ":latest"}, st.date); err != nil {
			return err
		}
	}
	return nil
}

// commitCopy commits the files of this checkout, as they are, to a new repository and
// tags them.
func commitCopy(ctx context.Context, dir string) error {
	const root = "../.."
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"add", "--all"},
		{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", "all"},
		{"-c", "tag.gpgsign=false", "tag", "v1.2.3"},
	} {
		if _, err := output(ctx, dir, "git", args...); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil // Taken away and not committed yet.
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// Where and when a commit is built does not show: the program and the image of both clones
// are the same to the byte.
func TestSameCommitSameBytes(t *testing.T) {
	m := theRelease(t)
	if m.stamp.version != "v1.2.3" {
		t.Errorf("version %q of a commit with a tag", m.stamp.version)
	}
	if !bytes.Equal(m.binaries[0].data, m.binaries[1].data) {
		t.Error("the binaries differ")
	}
	var images [2][]byte
	for i, file := range m.archives {
		var err error
		if images[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the images differ")
	}
}

// The same files give the same archive.
func TestSameFilesSameArchive(t *testing.T) {
	t.Parallel()
	st := stamp{version: "v1.2.3", date: time.Unix(1_000_000_000, 0)}
	for _, goos := range []string{"linux", "windows"} {
		b := binary{platform: platform{goos, "amd64"}, data: bytes.Repeat([]byte("program"), 100_000)}
		var archives [2][]byte
		for i, beside := range [][]entry{
			{{"README.md", 0o644, []byte("read\n")}, {"man/a.1", 0o644, []byte("a")}},
			{{"man/a.1", 0o644, []byte("a")}, {"README.md", 0o644, []byte("read\n")}},
		} {
			var err error
			if archives[i], err = releaseArchive(st, b, beside); err != nil {
				t.Fatal(err)
			}
		}
		if len(archives[0]) == 0 || !bytes.Equal(archives[0], archives[1]) {
			t.Errorf("%s: the archives differ", goos)
		}
	}
}

func TestBinary(t *testing.T) {
	m := theRelease(t)
	b := m.binaries[0]
	want := map[string]string{"CGO_ENABLED": "0", "-trimpath": "true", "vcs": "git", "vcs.revision": m.stamp.commit, "vcs.modified": "false"}
	for _, s := range b.info.Settings {
		if value, ok := want[s.Key]; ok {
			if s.Value != value {
				t.Errorf("%s is %q, want %q", s.Key, s.Value, value)
			}
			delete(want, s.Key)
		}
	}
	for key := range want {
		t.Errorf("the build info has no %s", key)
	}
	for _, root := range append(m.roots[:], "../..") {
		absolute, err := filepath.Abs(root)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b.data, []byte(absolute+"/")) {
			t.Errorf("the binary tells where it was built: %s", absolute)
		}
	}
	if bytes.Contains(b.data, []byte("/lib64/ld-linux")) || bytes.Contains(b.data, []byte("/lib/ld-")) {
		t.Error("the binary asks for a dynamic linker")
	}
}

// The whole of a release, for the one platform that is built here.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the binary of the tests is one for linux")
	}
	m := theRelease(t)
	dir := filepath.Join(t.TempDir(), "release")
	if err := writeRelease(t.Context(), m.roots[0], dir, m.stamp, m.binaries[:1]); err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "checksums.txt")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	files := map[string]string{}
	archive, err := os.ReadFile(filepath.Join(dir, archiveName("v1.2.3", here())))
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(gz)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Uname != "" || !header.ModTime.Equal(m.stamp.date) {
			t.Errorf("%s tells who made it when: %+v", header.Name, header)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(data)
	}
	for name, part := range map[string]string{
		"escape-scanner":                  string(m.binaries[0].data),
		"README.md":                       "# escape-scanner",
		"completions/escape-scanner.bash": "__start_escape-scanner",
		"completions/_escape-scanner":     "#compdef escape-scanner",
		"completions/escape-scanner.fish": "complete -c escape-scanner",
		"completions/escape-scanner.ps1":  "Register-ArgumentCompleter",
		"man/escape-scanner.1":            "escape-scanner v1.2.3",
		"man/escape-scanner-scan.1":       ".SH SYNOPSIS",
	} {
		if !strings.Contains(files[name], part) {
			t.Errorf("%s is missing or is another (%d bytes)", name, len(files[name]))
		}
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		for name, text := range files {
			if name != "escape-scanner" && strings.Contains(text, home) {
				t.Errorf("%s shows the home directory of who built it", name)
			}
		}
	}
}

// Outside of a checkout the commit has to be told, and it reaches the program.
func TestStampWithoutGit(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if _, err := readStamp(t.Context(), t.TempDir(), stamp{version: "v1.2.3"}); err == nil {
		t.Error("a version alone was enough")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	st, err := readStamp(t.Context(), t.TempDir(), stamp{version: "v1.2.3", commit: "abc", date: time.Unix(2_000_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if st.date.Year() != 2001 || st.git || st.commit != "abc" {
		t.Errorf("got %+v", st)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "tomorrow")
	if _, err := readStamp(t.Context(), t.TempDir(), st); err == nil {
		t.Error("a time that is none was taken")
	}
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"", "linux", "linux/", "/amd64", "linux/arm/v7"} {
		if p, err := parsePlatform(wrong); err == nil {
			t.Errorf("%q is %v", wrong, p)
		}
	}
	if p, err := parsePlatform("linux/amd64"); err != nil || p != (platform{"linux", "amd64"}) {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestZipped(t *testing.T) {
	t.Parallel()
	st := stamp{version: "v1.2.3"}
	data, err := releaseArchive(st, binary{platform: platform{"windows", "amd64"}, data: []byte("MZ")}, []entry{{"man/a.1", 0o644, []byte("a")}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := openZip(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(reader, " "); got != "escape-scanner.exe man/a.1" {
		t.Errorf("got %s", got)
	}
}
