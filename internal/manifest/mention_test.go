package manifest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

func mentions(t *testing.T, text string, kinds ...string) bool {
	t.Helper()
	whole, err := manifest.Mentions(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)}, kinds)
	if err != nil {
		t.Fatal(err)
	}
	r := iotest.HalfReader(strings.NewReader(text))
	if len(text) < 1000 {
		r = iotest.OneByteReader(strings.NewReader(text))
	}
	file := slowFiles{text: r}
	pieces, err := manifest.Mentions(t.Context(), manifest.Inputs{Paths: []string{"a.yaml"}, Files: file}, kinds)
	if err != nil {
		t.Fatal(err)
	}
	if pieces != whole {
		t.Errorf("%.50q: %v in one piece, %v in many", text, whole, pieces)
	}
	return whole
}

// slowFiles is a file system of one file.
type slowFiles struct {
	manifest.OS
	text io.Reader
}

func (f slowFiles) Open(string) (io.ReadCloser, error) { return io.NopCloser(f.text), nil }

func (f slowFiles) Stat(string) (fs.FileInfo, error) { return os.Stat("mention_test.go") }

func TestMentions(t *testing.T) {
	for text, want := range map[string]bool{
		"kind: Node\n": true, "kind:   Node # x": true, "\"kind\": \"Node\"": true, "{'kind':'Node'}": true, "kind : Node\n": true,
		`{"apiVersion":"v1","kind":"Node"}`: true, "{kind: Node}": true, "{a: b,kind: Node}": true, "- kind: Node\n": true,
		"kind: NodeList\n": true, "items:\n- apiVersion: v1\n  kind: Node\n": true, "\ufeffkind: Node": true, "kind:\r\n  Node": true,
		// What is no plain name may be one.
		"kind: *k": true, "kind: &k Node": true, "kind: !!str Node": true, "kind: \"\\x4eode\"": true, "kind: |-\n  Node": true,
		"kind: # the kind\n  Node": true, "? kind\n: Node": true, "kind:" + strings.Repeat(" ", 300) + "Pod": true,
		"kind: Pod\n": false, "kind: Nodes\n": false, "kind: MyNode\n": false, "mankind: Node\n": false, "kinds: Node\n": false,
		"a kind of Node": false, "kind: 'Pod'": false, "kind: Pod": false, "kind:": false, "kind": false, "": false, "kind: {{ .Node }}": false,
		"metadata:\n  labels: {kind: node}\n": false, "kind: \"Po\\x64\"": true,
	} {
		if got := mentions(t, text, "Node"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A key is found wherever the blocks in which the text is read divide it.
func TestMentionsAcrossBlocks(t *testing.T) {
	const block = 256 << 10
	for _, before := range []int{0, block - 300, block - 260, block - 256, block - 20, block - 8, block - 3, block - 1, block, 3*block - 5} {
		for _, filler := range []string{"#", "kind: Pod\n"} {
			text := strings.Repeat(filler, before/len(filler)) + "\nkind: Node\n" + strings.Repeat("x: y\n", 1000)
			if !mentions(t, text, "Node") {
				t.Errorf("not found behind %d bytes of %q", before, filler)
			}
			if mentions(t, text, "Namespace") {
				t.Errorf("found what is not there behind %d bytes of %q", before, filler)
			}
		}
	}
}

// FuzzMentions checks that what is read as an object of a kind is mentioned, unless
// its key is spelt with escapes.
func FuzzMentions(f *testing.F) {
	for _, text := range []string{
		"apiVersion: v1\nkind: Node\n", "{\"apiVersion\":\"v1\",\"kind\":\"Node\"}", "apiVersion: v1\nkind: NodeList\nitems:\n- {}\n",
		"a: &k Node\nkind: *k\napiVersion: v1\n", "{apiVersion: v1, ? kind : Node}", "apiVersion: v1\n'kind'  :\n  Node\n",
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n- kind: Node\n  apiVersion: v1\n", "x: &x {kind: Node}\napiVersion: v1\n<<: *x\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.ContainsAny(text, "\\%!") {
			return
		}
		all := map[int]int{}
		in := func() manifest.Inputs { return manifest.Inputs{Paths: []string{"-"}, Stdin: bytes.NewReader(text)} }
		err := manifest.Objects(t.Context(), in(), func(raw manifest.Raw) error {
			if raw.Failure == nil && raw.Kind == "Node" {
				all[raw.Line]++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		found, err := manifest.Mentions(t.Context(), in(), []string{"Node"})
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > 0 && !found {
			t.Errorf("a Node is read and not mentioned")
		}
		err = manifest.ObjectsOf(t.Context(), in(), []string{"Node"}, func(raw manifest.Raw) error {
			// A NodeList without items is one too, and no Node.
			if raw.Failure == nil && raw.Kind == "Node" {
				all[raw.Line]--
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for line, n := range all {
			if n != 0 {
				t.Errorf("line %d: ObjectsOf reads %d Nodes less than Objects", line, n)
			}
		}
	})
}

func TestObjectsOfReadsNoOtherKinds(t *testing.T) {
	text := pod + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: one}\n- metadata: {name: two}\n---\nkind: [broken\n"
	var got []string
	err := manifest.ObjectsOf(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)}, []string{"Namespace", "Node"}, func(raw manifest.Raw) error {
		if raw.Failure != nil {
			t.Errorf("failure: %+v", raw.Failure)
		}
		got = append(got, raw.Kind+"/"+raw.Name)
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"Namespace/a", "Node/one", "Node/two"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestObjectsAndPods(t *testing.T) {
	text := pod + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {hostPID: 3}\n"
	var got []string
	err := manifest.ObjectsAndPods(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)}, func(raw manifest.Raw) error {
		switch {
		case raw.Failure != nil:
			got = append(got, raw.Failure.Message)
			return nil
		case raw.Document != nil:
			got = append(got, "document")
			if l := raw.Document.WithoutText().Locate("spec.hostPID", "", ""); !l.Nearest || l.Line != raw.Document.Line || l.File != "stdin" {
				t.Errorf("a document without its text is at %+v", l)
			}
		default:
			got = append(got, raw.Kind)
		}
		if len(raw.JSON) == 0 {
			t.Errorf("%s: no JSON", raw.Kind)
		}
		return nil
	})
	if err != nil || len(got) != 3 || got[0] != "document" || got[1] != "Namespace" || !strings.Contains(got[2], "spec.hostPID: want true or false") {
		t.Errorf("%q, %v", got, err)
	}
}

// hold holds a text that comes by a pipe, and checks that it can be read twice.
func hold(t *testing.T, text string) {
	t.Helper()
	in, release, err := manifest.Hold(t.Context(), manifest.Inputs{Paths: []string{"-", "-"}, Stdin: iotest.HalfReader(strings.NewReader(text))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		objects := 0
		if err := manifest.Objects(t.Context(), in, func(manifest.Raw) error { objects++; return nil }); err != nil {
			t.Fatal(err)
		}
		if want := strings.Count(text, "apiVersion: v1\n"); objects != want {
			t.Errorf("%d objects, want %d", objects, want)
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestHoldReadsOnceAndGivesTwice(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	hold(t, pod)
	hold(t, "")
	// Larger than what is kept in memory.
	hold(t, strings.Repeat(pod+"# "+strings.Repeat("x", 1<<16)+"\n---\n", 200))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestHoldKeepsNamedPipes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no named pipes in the file system")
	}
	path := filepath.Join(t.TempDir(), "pipe.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(path, []byte(pod), 0o600) }()
	in, release, err := manifest.Hold(t.Context(), manifest.Inputs{Paths: []string{path}})
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var files []string
		if err := manifest.Objects(t.Context(), in, func(r manifest.Raw) error { files = append(files, r.File); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(files, []string{path}) {
			t.Errorf("read %q", files)
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// What fails while it is read for the first time fails for whoever reads it then.
func TestHoldKeepsErrors(t *testing.T) {
	gone := errors.New("connection gone")
	in, release, err := manifest.Hold(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: io.MultiReader(strings.NewReader(pod), iotest.ErrReader(gone))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	for range 2 {
		failed := false
		if err := manifest.Objects(t.Context(), in, func(r manifest.Raw) error {
			failed = failed || r.Failure != nil && strings.Contains(r.Failure.Message, gone.Error())
			return nil
		}); err != nil || !failed {
			t.Errorf("failed %v, %v", failed, err)
		}
	}
}

func TestHoldEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	cancel()
	_, release, err := manifest.Hold(ctx, manifest.Inputs{Paths: []string{"-"}, Stdin: r})
	if !errors.Is(err, context.Canceled) || release() != nil {
		t.Errorf("%v", err)
	}
	_, release, err = manifest.Hold(t.Context(), manifest.Inputs{Paths: []string{"nowhere.yaml"}})
	if !errors.Is(err, fs.ErrNotExist) || release() != nil {
		t.Errorf("a path that is not there: %v", err)
	}
}
