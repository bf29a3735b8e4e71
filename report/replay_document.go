package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// sections are the arrays of the json form, with the kind of their elements.
func sections() map[string]string {
	return map[string]string{
		"clusters": "cluster",
		"nodes":    "node",
		"policies": "policy",
		"findings": "finding",
		"verdicts": "verdict",
		"failures": "failure",
		"alerts":   "alert",
		"lost":     "lost",
	}
}

// document reads the json form record by record: start first, end last, and
// arrays between them in any order.
func (p *replayer) document(r io.Reader) error {
	lines := &lineCounter{r: r, first: p.line}
	dec := json.NewDecoder(lines)
	err := p.object(dec)
	if he := (handlerError{}); err != nil && !errors.As(err, &he) {
		p.line = lines.at(dec.InputOffset())
	}
	return err
}

func (p *replayer) object(dec *json.Decoder) error {
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return fmt.Errorf("not a saved run: %w", orNotObject(err))
	}
	missing := sections()
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return broken(err)
		}
		key, _ := token.(string)
		if err := p.field(dec, key, missing); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return broken(err)
	}
	if err := p.finish(); err != nil {
		return err
	}
	// Runs of the time before policies were read have none, alerts are only there where
	// somebody listened, and the end of a fleet has asked for its clusters.
	for _, key := range []string{"policies", "alerts", "lost", "clusters"} {
		delete(missing, key)
	}
	for _, key := range slices.Sorted(maps.Keys(missing)) {
		return fmt.Errorf("no %s: want the whole object of -o json", key)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something after the run: want one run a file")
	}
	return nil
}

// field reads the value of one key and strikes it off what is missing.
func (p *replayer) field(dec *json.Decoder, key string, missing map[string]string) error {
	switch key {
	case "start":
		e, err := decodeKind(dec, key)
		if err != nil {
			return err
		}
		return p.give(e)
	case "end":
		return p.end(dec)
	}
	kind, ok := missing[key]
	switch {
	case key == "clusters" && p.started && p.fleet == nil:
		return errors.New("clusters: only a fleet has them, and the start says that this is none")
	case ok && p.started:
		delete(missing, key)
		return p.section(dec, key, kind)
	case !p.started:
		return fmt.Errorf("not a saved run: want the output of -o json or jsonl, which begins with start and not with %q", Clean(key))
	case sections()[key] != "":
		return fmt.Errorf("%s: a second time", key)
	}
	return fmt.Errorf("unknown key %q: written by a newer version?", Clean(key))
}

// section reads one array.
func (p *replayer) section(dec *json.Decoder, key, kind string) error {
	if token, err := dec.Token(); err != nil {
		return fmt.Errorf("%s: %w", key, broken(err))
	} else if token != json.Delim('[') {
		return fmt.Errorf("%s: want an array", key)
	}
	for dec.More() {
		e, err := decodeKind(dec, kind)
		if err != nil {
			return err
		}
		if err := p.record(e); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%s: %w", key, broken(err))
	}
	return nil
}

// lineCounter tells on which line a place of what was read through it is.
type lineCounter struct {
	r     io.Reader
	first int
	read  int64
	feeds []int64
}

func (c *lineCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			c.feeds = append(c.feeds, c.read+int64(i))
		}
	}
	c.read += int64(n)
	return n, err
}

// at counts a line feed at the offset itself: an element begins behind it.
func (c *lineCounter) at(offset int64) int {
	line := c.first
	for _, feed := range c.feeds {
		if feed <= offset && feed < c.read-1 {
			line++
		}
	}
	return line
}
