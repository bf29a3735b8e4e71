package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile is the size of the largest file that is read.
const maxFile = 1 << 20

// file is what the configuration file says.
type file struct {
	layer
	path       string
	exceptions []Exception
}

// readFile reads the file that applies: that of --config, else that of the
// variable, else the first one found.
func (o Options) readFile(fromEnv string, all *problems) (file, error) {
	none := file{layer: newLayer()}
	path, data, err := o.File, []byte(nil), error(nil)
	switch {
	case path != "":
		if data, err = o.readAll(path); err != nil {
			return none, fmt.Errorf("configuration file of --config: %w", err)
		}
	case fromEnv != "":
		path = fromEnv
		if data, err = o.readAll(path); err != nil {
			return none, fmt.Errorf("configuration file of %s: %w", EnvConfig, err)
		}
	default:
		if path, data, err = o.search(); err != nil || path == "" {
			return none, err
		}
	}
	return parseFile(path, data, all)
}

// search returns the first file that exists, or no path.
func (o Options) search() (string, []byte, error) {
	for _, group := range o.names() {
		found, content := "", []byte(nil)
		for _, path := range group {
			data, err := o.readAll(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return "", nil, fmt.Errorf("configuration file: %w", err)
			case found != "":
				return "", nil, fmt.Errorf("configuration files %s and %s are both there: keep one", harmless(found), harmless(path))
			}
			found, content = path, data
		}
		if found != "" {
			return found, content, nil
		}
	}
	return "", nil, nil
}

// readAll reads a file of bearable size. The errors name the file.
func (o Options) readAll(path string) ([]byte, error) {
	f, err := o.open(path)
	if err != nil {
		return nil, named(path, err)
	}
	// Closing a file that was only read loses nothing.
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, named(path, err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, want a file", harmless(path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, named(path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: is larger than 1 MiB", harmless(path))
	}
	return data, nil
}

// named puts the path in front of err, once, and harmless.
func named(path string, err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
	}
	return fmt.Errorf("%s: %w", harmless(path), err)
}

// parseFile takes the file's values by its nodes and not by a decoder: only the
// nodes know lines, types as written, and keys that are there twice.
func parseFile(path string, data []byte, all *problems) (file, error) {
	f := file{layer: newLayer(), path: path}
	root, err := parseYAML(data)
	if err != nil {
		return f, fmt.Errorf("%s%w", harmless(path), err)
	}
	if root == nil {
		return f, nil
	}
	r := reader{path: path, all: all}
	r.mapping(root, keyNames(), func(name string, keyNode, value *yaml.Node) {
		if name == KeyExceptions {
			if isNull(resolved(value)) {
				return
			}
			f.exceptions = r.exceptions(value)
			f.from[name] = Origin{Kind: OriginFile, Name: path, Line: keyNode.Line}
			return
		}
		for _, k := range keys() {
			if k.name != name {
				continue
			}
			if v, ok := r.value(k, value); ok {
				f.set(name, v, Origin{Kind: OriginFile, Name: path, Line: keyNode.Line})
			}
		}
	})
	return f, nil
}

// parseYAML returns the mapping of the one document, nil when there is nothing in
// it. Errors begin with ":LINE: " or ": ", to stand behind a path.
func parseYAML(data []byte) (*yaml.Node, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf(":%d: is not valid UTF-8", 1+bytes.Count(validPart(data), []byte("\n")))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		return nil, fmt.Errorf(":%d: a second document begins here, want one", next.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	if len(doc.Content) != 1 {
		return nil, nil
	}
	root := doc.Content[0]
	switch {
	case isNull(root):
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf(":%d: want a mapping (key: value), have %s", root.Line, describe(root))
	}
	return root, nil
}

// validPart is the beginning of data up to the first byte that is not UTF-8.
func validPart(data []byte) []byte {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return data[:i]
		}
		i += size
	}
	return data
}

// yamlError makes the parser's message, which may quote the file, fit to show.
func yamlError(err error) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if !printable(msg) {
		msg = quoted(msg)
	}
	return fmt.Errorf(": is not valid YAML: %s", msg)
}
