package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// maxText is the largest file that is taken in as a whole.
const maxText = 256 << 20

// Text is a file as a whole, or the failure to read it.
type Text struct {
	// File is its path for people, "stdin" for standard input.
	File string
	// Stdin is set for standard input.
	Stdin   bool
	Data    []byte
	Failure *scan.Failure
	// found is set where the file was found in a directory.
	found bool
}

// Texts reads all inputs and hands out their files one by one. The first error of
// visit ends the run and is returned, as is the end of the context.
func Texts(ctx context.Context, in Inputs, visit func(Text) error) error {
	in = in.withDefaults(1)
	if err := in.check(); err != nil {
		return err
	}
	pass := reading{ctx: ctx, in: &in,
		failed: func(c *chunk) error { return visit(Text{File: c.file, Failure: c.failure}) },
		text: func(src source, r io.Reader) error {
			data, err := io.ReadAll(io.LimitReader(r, maxText+1))
			if err == nil && len(data) > maxText {
				err = fmt.Errorf("is larger than %d bytes", maxText)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return visit(Text{File: src.name, Failure: unreadable(src.name, err).failure})
			}
			return visit(Text{File: src.name, Stdin: src.stdin, Data: data, found: !src.named})
		}}
	return pass.all()
}

// Inputs are inputs of this one file, as it was read.
func (t Text) Inputs() Inputs {
	return Inputs{Paths: []string{t.File}, held: map[string]*heldText{t.File: {head: t.Data, found: t.found}}}
}

// Find is the offset in a file of a text that stands at a line of it, counted from 1,
// behind so many characters.
func (t Text) Find(line, column int, text []byte) (int, error) {
	off := 0
	for range line - 1 {
		next := lineNext(t.Data, off)
		if next == off {
			break
		}
		off = next
	}
	for _, skipped := range []int{0, len(byteOrderMark)} {
		at := off + skipped
		for range column {
			at += runeSize(t.Data, at)
		}
		if at <= len(t.Data) && len(text) <= len(t.Data)-at && string(t.Data[at:at+len(text)]) == string(text) {
			return at, nil
		}
	}
	return 0, errors.New("its place in the file is not known")
}
