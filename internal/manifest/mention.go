package manifest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
)

// kindNames are names of kinds that are looked for.
type kindNames map[string]bool

func newKindNames(kinds []string) kindNames {
	names := make(kindNames, 2*len(kinds))
	for _, k := range kinds {
		names[k], names[k+"List"] = true, true
	}
	return names
}

// reach is how far behind the word "kind" its value is looked for.
const reach = 256

// mentioned reports whether the text may give an object, or a reference to one, a
// kind of these names. It reads no YAML: a value that is not plainly another name
// counts as one of them. Keys that are spelt with escapes are not seen.
func (names kindNames) mentioned(text []byte) bool {
	_, found := names.find(text, len(text))
	return found
}

// find looks at the keys that begin before end. It returns where it stopped.
func (names kindNames) find(text []byte, end int) (int, bool) {
	const word = "kind"
	at := 0
	for at < end {
		i := bytes.Index(text[at:], []byte(word))
		if i < 0 {
			return end, false
		}
		at += i
		if at >= end {
			return end, false
		}
		behind := min(len(text), at+reach)
		if beginsKey(text, at) && names.isValue(text[at+len(word):behind], behind < len(text)) {
			return at, true
		}
		at += len(word)
	}
	return at, false
}

// beginsKey reports whether what stands before a word lets it be a key.
func beginsKey(text []byte, at int) bool {
	return at == 0 || bytes.IndexByte([]byte(" \t\r\n{,\"'?-\xBF"), text[at-1]) >= 0
}

// isValue reports whether the text behind the word makes it a key with one of the
// names, or with what may be one. The text is clipped where more follows.
func (names kindNames) isValue(rest []byte, clipped bool) bool {
	if len(rest) > 0 && (rest[0] == '"' || rest[0] == '\'') {
		rest = rest[1:]
	}
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if len(rest) == 0 || rest[0] != ':' {
		return clipped && len(rest) == 0
	}
	rest = bytes.TrimLeft(rest[1:], " \t\r\n")
	if len(rest) == 0 {
		return clipped
	}
	switch rest[0] {
	case '"', '\'':
		quoted, _, closed := bytes.Cut(rest[1:], rest[:1])
		return !closed || bytes.IndexByte(quoted, '\\') >= 0 || names[string(quoted)]
	case '*', '&', '!', '|', '>', '#':
		return true
	}
	n := 0
	for n < len(rest) && isNameByte(rest[n]) {
		n++
	}
	return n == len(rest) && clipped || names[string(rest[:n])]
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// errMentioned ends a pass over the inputs early.
var errMentioned = errors.New("mentioned")

// Mentions reports whether an object of one of the kinds may stand in the inputs.
// It reads bytes, up to the first sign: yes may turn out wrong, no does not, but for
// keys that are spelt with escapes. What cannot be read has none.
func Mentions(ctx context.Context, in Inputs, kinds []string) (bool, error) {
	in = in.withDefaults(1)
	if err := in.check(); err != nil {
		return false, err
	}
	names := newKindNames(kinds)
	buf := make([]byte, 4*readSize)
	pass := reading{
		ctx:    ctx,
		in:     &in,
		failed: func(*chunk) error { return nil },
		text: func(_ source, r io.Reader) error {
			found, err := names.search(ctx, r, buf)
			if found {
				return errMentioned
			}
			return err
		},
	}
	err := pass.all()
	if errors.Is(err, errMentioned) {
		return true, nil
	}
	return false, err
}

// search looks through a text as it passes by. An error of the text is none here:
// who reads it next will meet it too.
func (names kindNames) search(ctx context.Context, r io.Reader, buf []byte) (bool, error) {
	held := 0
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := r.Read(buf[held:])
		text := buf[:held+n]
		if err != nil {
			return names.mentioned(text), nil
		}
		// A key near the end is looked at again with what follows it, and so is the
		// byte before it.
		done, found := names.find(text, len(text)-reach)
		if found {
			return true, nil
		}
		keep := max(done-1, 0)
		held = copy(buf, text[keep:])
	}
}

// only is a filter of chunks that may hold an object of one of the kinds.
func (names kindNames) only(c *chunk) bool {
	if c.failure != nil {
		return false
	}
	if c.list != nil && names[strings.TrimSuffix(c.list.kind, "List")] {
		return true
	}
	return names.mentioned(c.text)
}
