package manifest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// tree writes files by name below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// outcomes reads paths and tells of each record the file, below root, and what
// became of it.
func outcomes(t *testing.T, root string, in manifest.Inputs) []string {
	t.Helper()
	lines := []string{}
	err := manifest.Each(t.Context(), in,
		func(d *manifest.Document) string { return d.Workload.Kind },
		func(r manifest.Record[string]) error {
			name, err := filepath.Rel(root, r.File)
			if err != nil {
				name = r.File
			}
			switch {
			case r.Failure != nil:
				if r.Failure.Subject != r.File {
					t.Errorf("failure of %q has subject %q", r.File, r.Failure.Subject)
				}
				lines = append(lines, name+": "+string(r.Failure.Reason)+": "+r.Failure.Message)
			case r.Document != nil:
				lines = append(lines, name+": "+r.Value)
			default:
				lines = append(lines, name+": "+string(r.Skipped))
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestDirectoriesAreWalkedInOrder(t *testing.T) {
	root := tree(t, map[string]string{
		"b.yaml": pod, "a/z.yml": pod, "a/y.json": `{"apiVersion":"v1","kind":"Pod","spec":{}}`, "a/x.YAML": pod,
		"c.txt": "not: read", ".git/config.yaml": pod, ".hidden.yaml": pod, "a/.cache/x.yaml": pod,
		"values.yaml": "image: x", "package.json": "{}", "list.json": "[1]", "play.yaml": "- hosts: all", "text.yaml": "hello",
		"empty.yaml": "", "chart/templates/x.yaml": "{{- if .Values.on }}\nkind: Pod\n{{- end }}\n",
	})
	expect(t, outcomes(t, root, manifest.Inputs{Paths: []string{root}}), []string{
		".hidden.yaml: Pod",
		"a/x.YAML: Pod",
		"a/y.json: Pod",
		"a/z.yml: Pod",
		"b.yaml: Pod",
		"chart/templates/x.yaml: invalid: line 1: is not valid YAML: did not find expected node content; it looks like a Helm template: …",
		"list.json: not a Kubernetes object",
		"package.json: not a Kubernetes object",
		"play.yaml: not a Kubernetes object",
		"text.yaml: invalid: line 1: is a single value, not a Kubernetes object",
		"values.yaml: not a Kubernetes object",
	})
}

func TestLinksAreFollowedOnce(t *testing.T) {
	root := tree(t, map[string]string{"a/pod.yaml": pod, "b/other.yaml": pod})
	for link, target := range map[string]string{
		"a/loop":        "..",
		"a/self":        "self",
		"a/me.yaml":     "me.yaml",
		"b/again":       "../a",
		"b/again.yaml":  "../a/pod.yaml",
		"b/nowhere.yml": "missing.yml",
		"b/nowhere":     "missing",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, outcomes(t, root, manifest.Inputs{Paths: []string{root}}), []string{
		"a/me.yaml: read error: too many levels of symbolic links",
		"a/pod.yaml: Pod",
		"b/nowhere.yml: read error: no such file or directory",
		"b/other.yaml: Pod",
	})
}

func TestPathsAreReadInTheOrderGiven(t *testing.T) {
	root := tree(t, map[string]string{"a.yaml": pod, "b.conf": pod})
	expect(t, outcomes(t, root, manifest.Inputs{
		Paths: []string{filepath.Join(root, "b.conf"), "-", filepath.Join(root, "a.yaml")},
		Stdin: strings.NewReader("apiVersion: v1\nkind: Service\n"),
	}), []string{"b.conf: Pod", "stdin: no pod template", "a.yaml: Pod"})
}

func TestWrongPathsAreErrorsBeforeAnythingIsRead(t *testing.T) {
	root := tree(t, map[string]string{"a.yaml": pod})
	for name, in := range map[string]manifest.Inputs{
		"missing": {Paths: []string{root, filepath.Join(root, "b.yaml")}},
		"none":    {},
		"stdin":   {Paths: []string{"-"}},
	} {
		err := manifest.Each(t.Context(), in, func(*manifest.Document) int { return 0 }, func(manifest.Record[int]) error {
			t.Errorf("%s: something was read", name)
			return nil
		})
		if err == nil || name == "missing" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// denying is a file system in which some names may not be read, others break in
// the middle.
type denying struct{ manifest.OS }

func (d denying) Open(name string) (io.ReadCloser, error) {
	switch filepath.Base(name) {
	case "denied.yaml":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	case "broken.yaml":
		r := io.MultiReader(strings.NewReader(pod+"---\n"+pod), errReader{errors.New("disk on fire")})
		return io.NopCloser(r), nil
	}
	return d.OS.Open(name)
}

func (d denying) ReadDir(name string) ([]fs.DirEntry, error) {
	if filepath.Base(name) == "denied" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.OS.ReadDir(name)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestWhatCannotBeReadIsAFailureAndTheRestGoesOn(t *testing.T) {
	root := tree(t, map[string]string{"broken.yaml": "", "denied.yaml": pod, "denied/x.yaml": pod, "ok.yaml": pod})
	expect(t, outcomes(t, root, manifest.Inputs{Paths: []string{root}, Files: denying{}}), []string{
		"broken.yaml: Pod",
		"broken.yaml: read error: line 10: disk on fire",
		"denied: forbidden: permission denied",
		"denied.yaml: forbidden: permission denied",
		"ok.yaml: Pod",
	})
}

func TestFailuresHaveASubjectAndAReason(t *testing.T) {
	var got *scan.Failure
	err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader("a: b: c")},
		func(*manifest.Document) int { return 0 },
		func(r manifest.Record[int]) error { got = r.Failure; return nil })
	if err != nil || got == nil {
		t.Fatal(err, got)
	}
	want := scan.Location{File: "stdin", Line: 1, Column: 1}
	if got.Subject != "stdin" || got.Reason != scan.FailureInvalid || *got.Location != want || got.Affects == "" {
		t.Errorf("%+v", got)
	}
}

// A run whose input never ends stops when its context does, and leaves nothing
// behind but the read that nobody can call off.
func TestTheContextEndsTheRun(t *testing.T) {
	before := runtime.NumGoroutine()
	stdin, writer := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.WriteString(writer, pod+"---\n"+pod+"---\n")
	}()
	err := manifest.Each(ctx, manifest.Inputs{Paths: []string{"-"}, Stdin: stdin},
		func(*manifest.Document) int { return 0 },
		func(manifest.Record[int]) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	_ = stdin.Close()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}

func TestNothingIsLeftRunningAfterAnError(t *testing.T) {
	before := runtime.NumGoroutine()
	stop := errors.New("enough")
	for range 20 {
		err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: stream(1000), Workers: 4},
			func(*manifest.Document) int { return 0 },
			func(manifest.Record[int]) error { return stop })
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}

// eventually yields until a condition that other goroutines bring about holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("it did not come about:\n%s", buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

// Documents leave in order however long each takes to be judged.
func TestOrderHoldsWithManyWorkers(t *testing.T) {
	var names []string
	err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: stream(400), Workers: 8},
		func(d *manifest.Document) string { return d.Workload.Name },
		func(r manifest.Record[string]) error {
			if r.Document != nil {
				names = append(names, strings.TrimPrefix(r.Value, "web-"))
			}
			return nil
		})
	if err != nil || len(names) != 300 {
		t.Fatalf("%d documents, error %v", len(names), err)
	}
	if !slices.IsSortedFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	}) {
		t.Error("documents came out of order")
	}
}

func TestObjects(t *testing.T) {
	var got []string
	err := manifest.Objects(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a, labels: {x: 'yes'}}\n" +
			"- apiVersion: v1\n  kind: Secret\n  metadata: {name: b, namespace: a}\n---\nimage: x\n---\na: b: c\n---\n" +
			`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"x":1.50}`)},
		func(r manifest.Raw) error {
			if r.Failure != nil {
				got = append(got, "failure "+string(r.Failure.Reason))
				return nil
			}
			got = append(got, strings.Join([]string{r.APIVersion, r.Kind, r.Namespace, r.Name, string(r.JSON)}, " "))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, []string{
		`v1 Namespace  a {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a","labels":{"x":"yes"}}}`,
		`v1 Secret a b {"apiVersion":"v1","kind":"Secret","metadata":{"name":"b","namespace":"a"}}`,
		"failure invalid",
		`v1 Node  n {"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"x":1.50}`,
	})
}

// Each judge waits for another one: this ends only if they run side by side.
func TestDocumentsAreJudgedSideBySide(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	meet := make(chan struct{})
	count := 0
	err := manifest.Each(ctx, manifest.Inputs{Paths: []string{"-"}, Stdin: stream(80), Workers: 2},
		func(*manifest.Document) int {
			select {
			case meet <- struct{}{}:
			case <-meet:
			case <-ctx.Done():
			}
			return 0
		},
		func(manifest.Record[int]) error { count++; return nil })
	if err != nil || count != 80 {
		t.Errorf("%d records, error %v", count, err)
	}
}
