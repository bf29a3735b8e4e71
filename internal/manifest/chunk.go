package manifest

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/escape-scanner/escape-scanner/scan"
)

// part tells what of a document a chunk holds.
type part int

const (
	// partDocument is a whole document.
	partDocument part = iota
	// partItem is one item of a List that is cut up.
	partItem
	// partHeader is what remains of such a List without its items.
	partHeader
)

// chunk is a piece of text that is parsed by itself, or a failure in its place.
type chunk struct {
	file string
	// named is true when the file was named, not found in a directory.
	named bool
	part  part
	text  []byte
	// lines says which lines of the file the text is made of. Column is how far
	// into its line the text begins, in characters.
	lines  []segment
	column int
	list   *listing
	// anchors is the text in front of this item in which anchors may stand.
	anchors anchorText
	failure *scan.Failure
	// weight is what the chunk takes of the room for text in flight.
	weight int64
}

// segment says that a line of a text, counted from 1, is this line of the file.
type segment struct {
	textLine, fileLine int
}

// listing is what the items of a List that is cut up have in common.
type listing struct {
	// apiVersion and kind are those of the List, as far as they stand before its
	// items.
	apiVersion, kind string
}

// anchorText is the part of a List that items may refer to by alias.
type anchorText struct {
	text  []byte
	lines []segment
	// lost is true when it is not at hand: too large, or asked for too often.
	lost bool
}

// fileLine is the line of the file for a line of a text made of segments.
func fileLine(lines []segment, textLine int) int {
	at := segment{1, 1}
	for _, s := range lines {
		if s.textLine > textLine {
			break
		}
		at = s
	}
	return at.fileLine + textLine - at.textLine
}

// parsed is a chunk once parsed, with the way back to its file.
type parsed struct {
	trees  []tree
	lines  []segment
	column int
}

// place is where a node stands in the file.
func (p *parsed) place(n *yaml.Node) (line, column int) {
	if n == nil || n.Line == 0 {
		return fileLine(p.lines, 1), 1
	}
	column = max(n.Column, 1)
	if n.Line == 1 {
		column += p.column
	}
	return fileLine(p.lines, n.Line), column
}

// parse parses the text of a chunk. An item comes out as the object that it is.
func (c *chunk) parse() (parsed, error) {
	p := parsed{lines: c.lines, column: c.column}
	trees, err := parse(c.text)
	if err != nil {
		if c.part == partItem && strings.Contains(err.Error(), "unknown anchor") {
			return c.parseWithAnchors()
		}
		return p, err
	}
	p.trees = trees
	if c.part == partItem && firstByte(c.text) == '-' {
		if len(trees) != 1 {
			return p, &textError{line: 1, msg: "is not one item of a list"}
		}
		item, ok := lastItem(trees[0], 1)
		if !ok {
			return p, &textError{line: 1, msg: "is not one item of a list"}
		}
		p.trees = []tree{item}
	}
	return p, nil
}

// lastItem is the last element of a list of want elements, any number if 0.
func lastItem(t tree, want int) (tree, bool) {
	val, pos := deref(t.val), deref(t.pos)
	n := len(val.Content)
	if val.Kind != yaml.SequenceNode || n == 0 || len(pos.Content) != n || want > 0 && n != want {
		return tree{}, false
	}
	return tree{val: val.Content[n-1], pos: pos.Content[n-1]}, true
}

// parseWithAnchors parses an item that refers to anchors of earlier items, behind
// the text that holds them.
func (c *chunk) parseWithAnchors() (parsed, error) {
	if c.anchors.lost {
		return parsed{lines: c.lines}, &textError{line: 1,
			msg: "refers to anchors in too much of the List before it"}
	}
	text := make([]byte, 0, len(c.anchors.text)+len(c.text))
	text = append(append(text, c.anchors.text...), c.text...)
	own := lineAt(text, len(c.anchors.text))
	p := parsed{lines: append(append([]segment(nil), c.anchors.lines...), segment{own, c.lines[0].fileLine})}
	trees, err := parse(text)
	if err != nil {
		return p, err
	}
	if len(trees) == 1 {
		val, _ := lookup(trees[0].val, "items", 0)
		pos, _ := lookup(trees[0].pos, "items", 0)
		if val != nil && pos != nil {
			if item, ok := lastItem(tree{val, pos}, 0); ok {
				p.trees = []tree{item}
				return p, nil
			}
		}
	}
	return p, &textError{line: own, msg: "is not one item of a list"}
}

// fail makes the failure for an error in a chunk.
func (c *chunk) fail(p *parsed, err error) *scan.Failure {
	line, column := fileLine(p.lines, 1), 1
	if inText, ok := errors.AsType[*textError](err); ok {
		line = fileLine(p.lines, inText.line)
		column = max(inText.column, 1)
		if inText.line == 1 {
			column += p.column
		}
	}
	if inNode, ok := errors.AsType[*nodeError](err); ok {
		line, column = p.place(inNode.node)
	}
	msg := err.Error()
	if isTemplate(c.text) {
		msg += "; it looks like a Helm template: pipe the output of `helm template` in instead"
	}
	return failureAt(c.file, line, column, scan.FailureInvalid, msg)
}

// failureAt is a failure in a place of a file.
func failureAt(file string, line, column int, reason scan.FailureReason, msg string) *scan.Failure {
	return &scan.Failure{
		Subject:  file,
		Reason:   reason,
		Message:  fmt.Sprintf("line %d: %s", line, msg),
		Affects:  "the pods that the document may hold",
		Location: &scan.Location{File: file, Line: line, Column: column},
	}
}
