package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode/utf16"

	"github.com/rogpeppe/go-internal/testscript"
)

// badPod is a pod with one way out.
const badPod = `apiVersion: v1
kind: Pod
metadata: {name: bad, namespace: ns}
spec:
  containers:
  - name: c
    image: i
    securityContext:
      privileged: true
`

// strangeFile writes an input that no honest manifest looks like.
func strangeFile(what, path string, ts *testscript.TestScript) bool {
	var text []byte
	switch what {
	case "fifo":
		ts.Check(syscall.Mkfifo(path, 0o600))
		return true
	case "long-line":
		text = bytes.Repeat([]byte("a"), 50<<20)
	case "long-value":
		// A document that is well-formed but for its size.
		text = slicesJoin("kind: Pod\napiVersion: v1\nmetadata: {annotations: {a: \"", strings.Repeat("a", 50<<20), "\"}}\n---\n", badPod)
	case "laughs":
		var b strings.Builder
		b.WriteString("apiVersion: v1\nkind: Pod\nmetadata: {name: bomb}\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
		for i := 1; i < 12; i++ {
			fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
		}
		b.WriteString("spec:\n  containers: *a11\n---\n" + badPod)
		text = []byte(b.String())
	case "deep-flow":
		text = slicesJoin("apiVersion: v1\nkind: Pod\nspec: ", strings.Repeat("[", 200_000), "\n---\n", badPod)
	case "deep-json":
		text = slicesJoin(`{"apiVersion":"v1","kind":"Pod","spec":`, strings.Repeat(`{"a":`, 200_000), "1", strings.Repeat("}", 200_000), "}\n")
	case "deep-block":
		var b strings.Builder
		for i := range 3_000 {
			b.WriteString(strings.Repeat(" ", i) + "a:\n")
		}
		text = slicesJoin(b.String(), "---\n", badPod)
	case "binary":
		text = make([]byte, 64<<10)
		for i := range text {
			text[i] = byte(i * 7919 >> 3)
		}
	case "nul":
		text = slicesJoin("apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\x00b\"}\n---\n", badPod)
	case "latin1":
		text = slicesJoin("apiVersion: v1\nkind: Pod\nmetadata: {name: caf\xe9}\nspec: {containers: [{name: c}]}\n---\n", badPod)
	case "utf16":
		text = []byte{0xff, 0xfe}
		for _, unit := range utf16.Encode([]rune(badPod)) {
			text = append(text, byte(unit), byte(unit>>8))
		}
	case "bad-end":
		// 12 MiB of honest pods, and one that is not behind them.
		var b strings.Builder
		for i := 0; b.Len() < 12<<20; i++ {
			fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: good-%d, namespace: ns}\nspec:\n  containers:\n  - {name: c, image: i, env: [{name: FILL, value: %q}]}\n---\n", i, strings.Repeat("x", 100_000))
		}
		text = slicesJoin(b.String(), badPod)
	default:
		return false
	}
	ts.Check(os.WriteFile(path, text, 0o600))
	return true
}

func slicesJoin(parts ...string) []byte { return []byte(strings.Join(parts, "")) }
