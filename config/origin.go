package config

import "fmt"

// OriginKind is one of the four places that a value can come from.
type OriginKind string

// The places, weakest first.
const (
	OriginDefault     OriginKind = "default"
	OriginFile        OriginKind = "file"
	OriginEnvironment OriginKind = "environment"
	OriginFlag        OriginKind = "flag"
)

// Origin is where a value came from.
type Origin struct {
	Kind OriginKind
	// Name is the path of the file, the variable, or the flag with its dashes.
	Name string
	// Line is the line of a file, from 1.
	Line int
}

// String is "default", "file PATH:LINE", "environment NAME" or "flag --name",
// safe to show on a terminal.
func (o Origin) String() string {
	switch o.Kind {
	case OriginFile:
		return fmt.Sprintf("file %s:%d", harmless(o.Name), o.Line)
	case OriginEnvironment, OriginFlag:
		return string(o.Kind) + " " + harmless(o.Name)
	default:
		return string(OriginDefault)
	}
}

// Origins tells for each key where its value came from.
type Origins struct {
	// File is the configuration file that was read, empty when there was none.
	File string
	keys map[string]Origin
}

// Of returns where the key's value came from.
func (o Origins) Of(key string) Origin {
	if from, ok := o.keys[key]; ok {
		return from
	}
	return Origin{Kind: OriginDefault}
}
