package manifest

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// quotedStyles are the styles of scalars that are strings whatever they say.
const quotedStyles = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// jsonNumberTag marks a number that came from JSON and is passed on as written.
const jsonNumberTag = "!json-number"

// scalarKind is what a scalar of YAML means.
type scalarKind int

const (
	kindString scalarKind = iota
	kindNull
	kindBool
	kindNumber
	// kindInfinite is a number that JSON has no form for. It can be a key.
	kindInfinite
)

// scalar is the value of a scalar. Text is the string, or the number, truth value
// or null as JSON has it. Key is the text that it has as the key of a mapping.
type scalar struct {
	kind scalarKind
	text string
	key  string
}

// resolve reads a scalar as kubectl does: by the rules of YAML 1.1 as
// sigs.k8s.io/yaml applies them, where yes and on are true and 0777 is octal.
// Tags are not looked at.
func resolve(n *yaml.Node) scalar {
	s := n.Value
	switch {
	case n.Tag == jsonNumberTag:
		return scalar{kindNumber, s, s}
	case n.Style&quotedStyles != 0:
		return scalar{kindString, s, s}
	case s == "":
		return scalar{kindNull, "null", ""}
	}
	switch c := s[0]; {
	case strings.IndexByte("yYnNtTfFoO~", c) >= 0:
		return resolveWord(s)
	case c >= '0' && c <= '9', c == '+', c == '-', c == '.':
		return resolveNumber(s)
	}
	return scalar{kindString, s, s}
}

// resolveWord reads the words that YAML 1.1 gives a meaning.
func resolveWord(s string) scalar {
	switch s {
	case "~", "null", "Null", "NULL":
		return scalar{kindNull, "null", ""}
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return scalar{kindBool, "true", "true"}
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return scalar{kindBool, "false", "false"}
	}
	return scalar{kindString, s, s}
}

var decimalFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

// resolveNumber reads what begins like a number, and may be none: dates, versions
// and addresses are strings.
func resolveNumber(s string) scalar {
	switch s {
	case ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF":
		return scalar{kindInfinite, s, strings.ToLower(s)}
	case "+.inf", "+.Inf", "+.INF":
		return scalar{kindInfinite, s, ".inf"}
	}
	if s[0] == '.' {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return floatScalar(f)
		}
		return scalar{kindString, s, s}
	}
	plain := strings.ReplaceAll(s, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		text := strconv.FormatInt(i, 10)
		return scalar{kindNumber, text, text}
	}
	if u, err := strconv.ParseUint(plain, 0, 64); err == nil {
		text := strconv.FormatUint(u, 10)
		return scalar{kindNumber, text, text}
	}
	if decimalFloat.MatchString(plain) {
		if f, err := strconv.ParseFloat(plain, 64); err == nil {
			return floatScalar(f)
		}
	}
	return scalar{kindString, s, s}
}

func floatScalar(f float64) scalar {
	// As a key a float has the precision of 32 bits: that is what kubectl makes of it.
	key := strconv.FormatFloat(f, 'g', -1, 32)
	text, err := json.Marshal(f)
	if err != nil {
		return scalar{kindInfinite, key, key}
	}
	return scalar{kindNumber, string(text), key}
}

// appendString appends s as a string of JSON.
func appendString(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				buf = append(append(buf, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		buf = append(buf, s[start:i]...)
		if c == '"' || c == '\\' {
			buf = append(buf, '\\', c)
		} else {
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(buf, s[start:]...), '"')
}
