package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// tree is one parsed document. Values are read from val and places from pos; they
// are the same nodes unless the document carries tags.
type tree struct {
	val, pos *yaml.Node
}

// textError is an error in a line of a text, counted from 1.
type textError struct {
	line, column int
	msg          string
}

func (e *textError) Error() string { return e.msg }

// maxNodes bounds the nodes of one document: each takes some 400 bytes of memory
// once parsed, whatever it takes in the file.
const maxNodes = 1 << 20

// checkText refuses what no parser should see.
func checkText(text []byte) error {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return &textError{line: lineAt(text, i), msg: "contains a NUL byte: not a text file, or not UTF-8"}
	}
	if !utf8.Valid(text) {
		i := 0
		for i < len(text) {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			i += size
		}
		return &textError{line: lineAt(text, i), msg: "is not valid UTF-8"}
	}
	if len(text) > maxNodes {
		nodes := 0
		for _, c := range []byte{',', '\n', ':', '[', '{'} {
			nodes += bytes.Count(text, []byte{c})
		}
		if nodes > 2*maxNodes {
			return &textError{line: 1, msg: fmt.Sprintf("holds more than %d values", maxNodes)}
		}
	}
	return nil
}

func lineAt(text []byte, offset int) int {
	return 1 + bytes.Count(text[:offset], []byte{'\n'})
}

// parse reads the documents in a text, which is one document unless it carries
// line ends that only YAML knows. Empty documents are left out.
func parse(text []byte) ([]tree, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	first := firstByte(text)
	if first == '{' || first == '[' {
		n, err := parseJSON(text)
		if err == nil {
			return []tree{{val: n, pos: n}}, nil
		}
		// Flow style of YAML looks like JSON. If it is neither, the complaint
		// about JSON is the better one where the text has JSON's quotes.
		trees, yerr := parseYAML(text)
		if yerr != nil && looksLikeJSON(text) {
			return nil, err
		}
		return trees, yerr
	}
	return parseYAML(text)
}

func firstByte(text []byte) byte {
	trimmed := bytes.TrimLeft(text, " \t\r\n")
	if len(trimmed) == 0 {
		return 0
	}
	return trimmed[0]
}

var jsonStart = regexp.MustCompile(`^\s*(?:\{\s*["}]|\[\s*["{\[\]0-9])`)

func looksLikeJSON(text []byte) bool { return jsonStart.Match(text) }

func parseYAML(text []byte) ([]tree, error) {
	nodes, err := yamlNodes(text)
	if err != nil {
		return nil, yamlError(text, err)
	}
	trees := make([]tree, 0, len(nodes))
	for _, n := range nodes {
		if !isEmpty(n) {
			trees = append(trees, tree{val: n, pos: n})
		}
	}
	if len(trees) == 1 && bytes.IndexByte(text, '!') >= 0 && hasTags(text, trees[0].pos) {
		return taggedTree(text, trees[0].pos)
	}
	return trees, nil
}

// yamlNodes parses every document in the text.
func yamlNodes(text []byte) (nodes []*yaml.Node, err error) {
	// The library panics on some malformed input, where it meets a state that it
	// holds impossible. To a reader of untrusted files that is one more error.
	defer func() {
		if r := recover(); r != nil {
			nodes, err = nil, fmt.Errorf("cannot be parsed: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return nodes, nil
		}
		if err != nil {
			return nil, err
		}
		if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
			nodes = append(nodes, n.Content[0])
		}
	}
}

// isEmpty tells a document without content, such as one of comments only.
func isEmpty(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle != 0 {
		return false
	}
	return resolve(n).kind == kindNull
}

// bareTag finds the tag "!", which leaves no trace in the nodes.
var bareTag = regexp.MustCompile(`(?:^|[\s,\[{:?-])!(?:[\s,\]}"'\[{|>&]|$)`)

// hasTags tells whether the document has tags on scalars.
func hasTags(text []byte, n *yaml.Node) bool {
	return bareTag.Match(text) || anyTag(n, 0)
}

func anyTag(n *yaml.Node, depth int) bool {
	if n.Kind == yaml.ScalarNode && n.Style&yaml.TaggedStyle != 0 {
		return true
	}
	if depth > maxDepth {
		return false
	}
	for _, child := range n.Content {
		if anyTag(child, depth+1) {
			return true
		}
	}
	return false
}

// taggedTree reads the values of a document with tags through sigs.k8s.io/yaml
// itself. Tags in manifests are rare, and their rules in YAML 1.1 are many.
func taggedTree(text []byte, pos *yaml.Node) (trees []tree, err error) {
	defer func() {
		if r := recover(); r != nil {
			trees, err = nil, fmt.Errorf("cannot be parsed: %v", r)
		}
	}()
	// First our own converter: it bounds what aliases expand to, and finds keys
	// that stand twice.
	var c converter
	if err := c.node(pos); err != nil {
		return nil, err
	}
	js, err := sigsyaml.YAMLToJSON(text)
	if err != nil {
		return nil, yamlError(text, err)
	}
	val, err := parseJSON(js)
	if err != nil {
		return nil, err
	}
	return []tree{{val: val, pos: pos}}, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// yamlError finds the line in an error of the YAML library. The message of the
// older library is preferred: it is the one that kubectl shows, and it gives the
// line where the problem is, not the one where its context began.
func yamlError(text []byte, err error) error {
	if older := yamlv2Error(text); older != nil {
		err = older
	}
	msg := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
		// Errors of the grammar, unlike those of the scanner, count lines from 0.
		if strings.HasPrefix(msg, "did not find expected") {
			line++
		}
	}
	return &textError{line: min(line, lineAt(text, len(text))), msg: "is not valid YAML: " + msg}
}

func yamlv2Error(text []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = nil
		}
	}()
	dec := yamlv2.NewDecoder(bytes.NewReader(text))
	for {
		// An empty struct has the text parsed and nothing built from it.
		var sink struct{}
		err := dec.Decode(&sink)
		var typed *yamlv2.TypeError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.As(err, &typed):
			return err
		}
	}
}

// parseJSON builds the nodes that YAML would have for a text of JSON, so that
// whatever follows knows one form only.
func parseJSON(text []byte) (*yaml.Node, error) {
	p := jsonParser{text: text, dec: json.NewDecoder(bytes.NewReader(text)), line: 1}
	p.dec.UseNumber()
	n, err := p.value(0)
	if err == nil {
		if _, err = p.dec.Token(); errors.Is(err, io.EOF) {
			return n, nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if placed, ok := errors.AsType[*textError](err); ok {
		return nil, placed
	}
	offset := min(p.dec.InputOffset(), int64(len(text)))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = min(max(syntax.Offset-1, 0), int64(len(text)))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected end")
		offset = int64(len(text))
	}
	p.advance(int(offset))
	return nil, &textError{line: p.line, column: p.column + 1, msg: "is not valid JSON: " + err.Error()}
}

// jsonParser walks over tokens and keeps count of lines and columns.
type jsonParser struct {
	text   []byte
	dec    *json.Decoder
	offset int
	// line counts from 1 and column, in characters, from 0; both are of offset.
	line, column int
}

// advance moves the place to an offset.
func (p *jsonParser) advance(to int) {
	for ; p.offset < to; p.offset++ {
		switch c := p.text[p.offset]; {
		case c == '\n':
			p.line++
			p.column = 0
		case c&0xC0 != 0x80:
			p.column++
		}
	}
}

// token reads a token and the place where it begins.
func (p *jsonParser) token() (json.Token, *yaml.Node, error) {
	at := int(p.dec.InputOffset())
	tok, err := p.dec.Token()
	if err != nil {
		return nil, nil, err
	}
	for at < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	p.advance(at)
	return tok, &yaml.Node{Line: p.line, Column: p.column + 1}, nil
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	tok, n, err := p.token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, &textError{line: n.Line, column: n.Column, msg: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	switch tok := tok.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if tok == '{' {
			n.Kind = yaml.MappingNode
		}
		for p.dec.More() {
			child, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, _, err := p.token()
		return n, err
	case string:
		n.Kind, n.Tag, n.Style, n.Value = yaml.ScalarNode, "!!str", yaml.DoubleQuotedStyle, tok
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, jsonNumberTag, tok.String()
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", strconv.FormatBool(tok)
	default:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	}
	return n, nil
}
