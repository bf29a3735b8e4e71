package shell

import (
	"strings"
)

// meta tells whether a byte ends a word.
func meta(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ';', '&', '|', '(', ')', '<', '>':
		return true
	}
	return false
}

// builder makes a word's text.
type builder struct {
	strings.Builder
	quoted bool
	// parts counts the pieces, alone holds what the only piece falls apart into.
	parts int
	alone []string
}

func (b *builder) put(text string) {
	if b.parts++; b.Len() < maxWord {
		b.WriteString(text)
	}
}

// word reads one word.
func (p *parser) word() word {
	var b builder
	for p.pos < len(p.src) && !meta(p.src[p.pos]) {
		switch c := p.src[p.pos]; c {
		case '\'':
			b.quoted = true
			b.put(p.single())
		case '"':
			b.quoted = true
			p.pos++
			p.quotedUntil('"', &b)
		case '\\':
			p.pos++
			if p.pos < len(p.src) {
				if p.src[p.pos] != '\n' {
					b.quoted = true
					b.put(p.src[p.pos : p.pos+1])
				}
				p.pos++
			}
		case '$':
			p.dollar(&b, false)
		case '`':
			p.backtick()
			b.put(Hole)
		default:
			start := p.pos
			for p.pos < len(p.src) && !meta(p.src[p.pos]) && strings.IndexByte("'\"\\$`", p.src[p.pos]) < 0 {
				p.pos++
			}
			b.put(p.src[start:p.pos])
		}
	}
	w := word{text: clip(b.String()), quoted: b.quoted}
	if b.parts == 1 && !b.quoted {
		w.fields = b.alone
	}
	return w
}

// single reads what stands in single quotes.
func (p *parser) single() string {
	p.pos++
	text, _, closed := strings.Cut(p.src[p.pos:], "'")
	p.pos += len(text)
	if !closed {
		p.r.unseen("a quote that does not end")
		return text
	}
	p.pos++
	return text
}

// quotedUntil reads what stands in double quotes, or for 0 the rest of the text, as in a
// here-document.
func (p *parser) quotedUntil(end byte, b *builder) {
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == end && end != 0:
			p.pos++
			return
		case c == '\\' && p.pos+1 < len(p.src) && strings.IndexByte("$`\"\\\n", p.src[p.pos+1]) >= 0:
			if p.src[p.pos+1] != '\n' {
				b.put(p.src[p.pos+1 : p.pos+2])
			}
			p.pos += 2
		case c == '$':
			p.dollar(b, true)
		case c == '`':
			p.backtick()
			b.put(Hole)
		default:
			b.put(p.src[p.pos : p.pos+1])
			p.pos++
		}
	}
	if end != 0 {
		p.r.unseen("a quote that does not end")
	}
}

// dollar reads what a dollar sign begins.
func (p *parser) dollar(b *builder, inQuotes bool) {
	p.pos++
	rest := p.src[p.pos:]
	switch {
	case strings.HasPrefix(rest, "(("):
		p.pos++
		p.arithmetic()
		if p.next() == ')' {
			p.pos++
		}
		b.put(Hole)
	case strings.HasPrefix(rest, "("):
		p.pos++
		p.commands(')')
		b.put(Hole)
	case strings.HasPrefix(rest, "{"):
		p.pos++
		p.braces(b, inQuotes)
	case strings.HasPrefix(rest, "'") && !inQuotes:
		b.quoted = true
		b.put(p.single())
	case strings.HasPrefix(rest, `"`) && !inQuotes:
		// A translated string is one in double quotes.
	default:
		p.variable(b, inQuotes)
	}
}

// variable reads the name of one.
func (p *parser) variable(b *builder, inQuotes bool) {
	start := p.pos
	for p.pos < len(p.src) && nameByte(p.src[p.pos]) {
		p.pos++
	}
	name := p.src[start:p.pos]
	if name == "" {
		if c := p.next(); c != 0 && strings.IndexByte("@*#?$!-", c) >= 0 {
			p.pos++
			b.put(Hole)
			return
		}
		b.put("$")
		return
	}
	p.value(b, name, inQuotes)
}

func (p *parser) value(b *builder, name string, inQuotes bool) {
	value, ok := p.r.vars[name]
	if !ok {
		b.put(Hole)
		return
	}
	if !inQuotes && b.parts == 0 {
		b.alone = strings.Fields(value)
	}
	b.put(value)
}

// braces reads ${name} and its forms with a default and the like.
func (p *parser) braces(b *builder, inQuotes bool) {
	start := p.pos
	for p.pos < len(p.src) && nameByte(p.src[p.pos]) {
		p.pos++
	}
	name := p.src[start:p.pos]
	if p.next() == '}' {
		p.pos++
		p.value(b, name, inQuotes)
		return
	}
	operator := p.pos
	for p.pos < len(p.src) && strings.IndexByte(":-+=?#%/!@*^,", p.src[p.pos]) >= 0 {
		p.pos++
	}
	fallback := strings.HasPrefix(strings.TrimPrefix(p.src[operator:p.pos], ":"), "-") ||
		strings.HasPrefix(strings.TrimPrefix(p.src[operator:p.pos], ":"), "=")
	inner := builder{}
	p.untilBrace(&inner)
	if fallback {
		// What holds where the environment has no such variable.
		p.r.mention([]word{{text: clip(inner.String())}})
	}
	b.put(Hole)
}

// untilBrace reads to the closing brace.
func (p *parser) untilBrace(b *builder) {
	if p.depth++; p.depth > maxDepth {
		p.pos = len(p.src)
	}
	defer func() { p.depth-- }()
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; c {
		case '}':
			p.pos++
			return
		case '\'':
			b.put(p.single())
		case '"':
			p.pos++
			p.quotedUntil('"', b)
		case '\\':
			p.pos = min(p.pos+2, len(p.src))
		case '$':
			p.dollar(b, true)
		case '`':
			p.backtick()
			b.put(Hole)
		default:
			b.put(p.src[p.pos : p.pos+1])
			p.pos++
		}
	}
	p.r.unseen("a brace that does not end")
}

// backtick reads a substitution of the old form.
func (p *parser) backtick() {
	p.pos++
	var text strings.Builder
	for p.pos < len(p.src) && p.src[p.pos] != '`' {
		if p.src[p.pos] == '\\' && p.pos+1 < len(p.src) && strings.IndexByte("\\`$", p.src[p.pos+1]) >= 0 {
			p.pos++
		}
		text.WriteByte(p.src[p.pos])
		p.pos++
	}
	p.pos = min(p.pos+1, len(p.src))
	p.r.script(text.String(), p.depth+1)
}
