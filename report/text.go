package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// Clean makes visible in s whatever could act on a terminal or deceive its
// reader: control characters, escape sequences, line breaks, bidirectional
// controls, zero-width characters and blanks other than the space become
// escapes such as \x1b and \u202e. Other text is left as it is.
//
// A byte that is not UTF-8 becomes \ufffd, as it would in JSON, so that a live
// run and its replay read alike.
func Clean(s string) string {
	if plainASCII(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s {
		if r != utf8.RuneError && strconv.IsPrint(r) && !hidden(r) {
			b.WriteRune(r)
			continue
		}
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// plainASCII reports whether s is nothing but printable ASCII.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// hidden reports whether r is invisible, passes for a space, or changes how the
// text around it is shown or where it goes.
func hidden(r rune) bool {
	switch r {
	case 0x034f, // combining grapheme joiner
		0x115f, 0x1160, 0x3164, 0xffa0, // Hangul fillers
		0x17b4, 0x17b5, // Khmer inherent vowels
		0x2800: // blank Braille pattern
		return true
	}
	return r != ' ' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp)
}

// escapeJSON writes the hidden characters of JSON text as \uXXXX. The value of
// the text stays the same: outside its strings JSON has no such characters but
// line feeds, which are kept, and inside its strings there are no raw line feeds.
// Bytes that are not UTF-8 and U+FFFD itself come out alike, for decoding makes
// them alike: text that was read back must be written as it was.
func escapeJSON(src []byte) []byte {
	clean := 0
	for clean < len(src) && !suspect(src[clean]) {
		clean++
	}
	if clean == len(src) {
		return src
	}
	dst := append(make([]byte, 0, len(src)+64), src[:clean]...)
	for rest := src[clean:]; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || r != utf8.RuneError && !hidden(r):
			dst = append(dst, rest[:size]...)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return dst
}

// suspect reports whether a byte of JSON text may belong to something that has
// to be escaped.
func suspect(c byte) bool { return c < ' ' && c != '\n' || c > '~' }

// validUTF8 puts U+FFFD in the place of every byte that is not UTF-8, one for
// one as encoding/json does.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// width is the number of terminal cells that cleaned text takes.
func width(s string) int {
	if plainASCII(s) {
		return len(s)
	}
	return uniseg.StringWidth(s)
}

// cut splits cleaned text after at most max cells, at least one character, and
// never inside a character. It prefers to cut at a space, which it drops.
func cut(s string, max int) (head, rest string) {
	if width(s) <= max {
		return s, ""
	}
	at, space, cells, state := 0, -1, 0, -1
	for remaining := s; remaining != ""; {
		var cluster string
		var w int
		cluster, remaining, w, state = uniseg.FirstGraphemeClusterInString(remaining, state)
		if cells+w > max && at > 0 {
			break
		}
		if cluster == " " && at > 0 {
			space = at
		}
		cells += w
		at += len(cluster)
	}
	// A space far to the left would waste the line.
	if at < len(s) && s[at] == ' ' {
		space = at
	}
	if space > at/2 {
		return strings.TrimRight(s[:space], " "), strings.TrimLeft(s[space:], " ")
	}
	return s[:at], s[at:]
}

// shorten cuts cleaned text to max cells and marks that it did.
func shorten(s string, max int) string {
	if max <= 0 || width(s) <= max {
		return s
	}
	var b strings.Builder
	cells, state := 0, -1
	for remaining := s; remaining != ""; {
		var cluster string
		var w int
		cluster, remaining, w, state = uniseg.FirstGraphemeClusterInString(remaining, state)
		if cells+w > max-1 {
			break
		}
		b.WriteString(cluster)
		cells += w
	}
	return strings.TrimRight(b.String(), " ") + "…"
}

// limitRunes cuts s to max characters and marks that it did.
func limitRunes(s string, max int) string {
	if len(s) <= max || utf8.RuneCountInString(s) <= max {
		return s
	}
	runes := []rune(s)
	return string(runes[:max-1]) + "…"
}

// compactJSON is a value of a field as one line of JSON, with nothing hidden in
// it, and "null" when there is none.
func compactJSON(raw []byte) string {
	if len(raw) == 0 {
		return "null"
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return Clean(string(raw))
	}
	return Clean(string(escapeJSON(b.Bytes())))
}

// Shorten cleans text and cuts it to so many cells of a terminal.
func Shorten(s string, cells int) string { return shorten(Clean(s), max(cells, 1)) }
