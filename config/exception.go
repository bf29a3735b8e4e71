package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Exception accepts the findings of one rule in a named place, with a reason. In
// Cluster, Namespace, Workload, Container and Image a "*" stands for any run of
// characters, "/" included; an empty field is not asked.
type Exception struct {
	// Rule is the ID of the rule, without wildcards.
	Rule string
	// Cluster is the name of the cluster: the context that the run is on.
	Cluster   string
	Namespace string
	// Workload is NAME, or KIND/NAME.
	Workload  string
	Container string
	Image     string
	// Reason says why the findings are accepted.
	Reason string
	// Expires is the last day (UTC) on which the exception holds; zero means that
	// it holds without end.
	Expires time.Time
	// File and Line are where the exception stands.
	File string
	Line int
}

// Place is FILE:LINE, safe to show on a terminal.
func (e Exception) Place() string {
	return fmt.Sprintf("%s:%d", harmless(e.File), e.Line)
}

// exceptionField is one key of an exception.
type exceptionField struct {
	name  string
	value *string
}

// fields lists the keys of an exception that are strings, in the order in which
// they are shown.
func (e *Exception) fields() []exceptionField {
	return []exceptionField{
		{"rule", &e.Rule},
		{"cluster", &e.Cluster},
		{"namespace", &e.Namespace},
		{"workload", &e.Workload},
		{"container", &e.Container},
		{"image", &e.Image},
		{"reason", &e.Reason},
	}
}

const keyExpires = "expires"

// expires is the date as it stands in the file, empty for none.
func (e *Exception) expires() string {
	if e.Expires.IsZero() {
		return ""
	}
	return e.Expires.Format(time.DateOnly)
}

// exceptions reads the list of exceptions.
func (r reader) exceptions(n *yaml.Node) []Exception {
	list := resolved(n)
	if list.Kind != yaml.SequenceNode {
		r.wrong(n, "%s: want a list of exceptions, have %s", KeyExceptions, describe(list))
		return nil
	}
	var out []Exception
	for i, item := range list.Content {
		m := resolved(item)
		if m.Kind != yaml.MappingNode {
			r.wrong(item, "%s[%d]: want a mapping (rule: …), have %s", KeyExceptions, i, describe(m))
			continue
		}
		out = append(out, r.exception(i, item.Line, m))
	}
	return out
}

func (r reader) exception(i, line int, m *yaml.Node) Exception {
	e := Exception{File: r.path, Line: line}
	fields := e.fields()
	var known []string
	for _, f := range fields {
		known = append(known, f.name)
	}
	known = append(known, keyExpires)
	r.mapping(m, known, func(name string, _, value *yaml.Node) {
		subject := fmt.Sprintf("%s[%d].%s", KeyExceptions, i, name)
		v := resolved(value)
		if name == keyExpires {
			e.Expires = r.date(subject, value, v)
			return
		}
		// Nothing behind a key is an error here: read as absent, a forgotten value
		// would make the exception wider than its author meant.
		if !isScalar(v, "!!str") || strings.TrimSpace(v.Value) == "" {
			r.wrong(value, "%s: want a string, have %s", subject, describe(v))
			return
		}
		for _, f := range fields {
			if f.name == name {
				*f.value = v.Value
			}
		}
	})
	e.Reason = strings.TrimSpace(e.Reason)
	return e
}

// date reads a day, quoted or not.
func (r reader) date(subject string, at, v *yaml.Node) time.Time {
	if isScalar(v, "!!timestamp") || isScalar(v, "!!str") {
		if day, err := time.Parse(time.DateOnly, v.Value); err == nil && day.Year() >= 2000 {
			return day
		}
	}
	r.wrong(at, "%s: want a date YYYY-MM-DD, have %s", subject, describe(v))
	return time.Time{}
}
