package shell

import (
	"strings"
)

// parser takes a script apart.
type parser struct {
	src   string
	pos   int
	r     *reader
	depth int
	// pending are the here-documents of which the text begins on the next line.
	pending []heredoc
}

type heredoc struct {
	end           string
	strip, quoted bool
}

// command is what was read of one command.
type command struct {
	words []word
	stdin *string
	// skip: the words are those of for, not a command's.
	skip bool
	// function: the next word is the name of one.
	function bool
}

// place is where in a case statement the parser is.
type place int

const (
	caseWord place = iota
	casePattern
	caseBody
)

// commands reads commands up to the byte that ends them, 0 for the end of the text.
func (p *parser) commands(stop byte) {
	if p.depth++; p.depth > maxDepth {
		p.r.unseen("commands nested too deep to be followed")
		p.pos = len(p.src)
	}
	defer func() { p.depth-- }()
	var cur command
	var cases []place
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; c {
		case ' ', '\t', '\r':
			p.pos++
		case '\n':
			p.pos++
			p.bodies(&cur)
			p.end(&cur)
		case '#':
			p.comment()
		case ';', '&', '|':
			p.separator(&cur, cases)
		case '(':
			p.open(&cur, cases)
		case ')':
			p.pos++
			if n := len(cases); n > 0 && cases[n-1] == casePattern {
				cases[n-1] = caseBody
				cur = command{}
				continue
			}
			p.end(&cur)
			if stop == ')' {
				return
			}
		case '<', '>':
			p.redirect(&cur)
		default:
			p.take(&cur, &cases)
		}
	}
	p.end(&cur)
}

func (p *parser) end(cur *command) {
	if !cur.skip {
		p.r.call(cur.words, cur.stdin, p.depth)
	} else if len(cur.words) > 2 {
		p.r.mention(cur.words[2:])
	}
	*cur = command{}
}

func (p *parser) comment() {
	if end := strings.IndexByte(p.src[p.pos:], '\n'); end >= 0 {
		p.pos += end
		return
	}
	p.pos = len(p.src)
}

// separator reads what stands between commands.
func (p *parser) separator(cur *command, cases []place) {
	c := p.src[p.pos]
	p.pos++
	if c == '&' && p.next() == '>' {
		p.redirect(cur)
		return
	}
	if n := len(cases); c == '|' && n > 0 && cases[n-1] == casePattern {
		return
	}
	p.end(cur)
	if c == ';' && (p.next() == ';' || p.next() == '&') {
		if n := len(cases); n > 0 {
			cases[n-1] = casePattern
		}
	}
}

// next is the byte at hand, 0 at the end.
func (p *parser) next() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

// open reads what an opening parenthesis begins: a function, or a shell of its own.
func (p *parser) open(cur *command, cases []place) {
	p.pos++
	if n := len(cases); n > 0 && cases[n-1] == casePattern {
		return
	}
	if rest := strings.TrimLeft(p.src[p.pos:], " \t"); len(cur.words) == 1 && strings.HasPrefix(rest, ")") {
		p.pos = len(p.src) - len(rest) + 1
		p.r.functions[cur.words[0].text] = true
		*cur = command{}
		return
	}
	if len(cur.words) == 0 && p.next() == '(' {
		p.arithmetic()
		return
	}
	words := cur.words
	p.commands(')')
	cur.words = words
}

// arithmetic skips to the end of ((…)); the first parenthesis is read.
func (p *parser) arithmetic() {
	for open := 1; p.pos < len(p.src) && open > 0; p.pos++ {
		switch p.src[p.pos] {
		case '(':
			open++
		case ')':
			open--
		}
	}
}

// redirect reads a redirection with its file.
func (p *parser) redirect(cur *command) {
	rest := p.src[p.pos:]
	switch {
	case strings.HasPrefix(rest, "<<<"):
		p.pos += 3
		if w := p.operand(); w.known() {
			cur.stdin = &w.text
		}
		return
	case strings.HasPrefix(rest, "<<"):
		p.pos += 2
		doc := heredoc{strip: p.next() == '-'}
		if doc.strip {
			p.pos++
		}
		w := p.operand()
		doc.end, doc.quoted = w.text, w.quoted
		p.pending = append(p.pending, doc)
		return
	case strings.HasPrefix(rest, "<("), strings.HasPrefix(rest, ">("):
		p.pos += 2
		p.commands(')')
		cur.words = append(cur.words, word{text: Hole})
		return
	}
	for c := p.next(); c == '<' || c == '>' || c == '&' || c == '|'; c = p.next() {
		p.pos++
	}
	p.operand()
}

// operand reads the word after a redirection.
func (p *parser) operand() word {
	for p.next() == ' ' || p.next() == '\t' {
		p.pos++
	}
	if p.pos >= len(p.src) || meta(p.next()) {
		return word{}
	}
	return p.word()
}

// bodies reads the here-documents that begin on this line.
func (p *parser) bodies(cur *command) {
	for _, doc := range p.pending {
		var body strings.Builder
		for p.pos < len(p.src) {
			line, _, _ := strings.Cut(p.src[p.pos:], "\n")
			p.pos = min(p.pos+len(line)+1, len(p.src))
			if doc.strip {
				line = strings.TrimLeft(line, "\t")
			}
			if line == doc.end {
				break
			}
			body.WriteString(line)
			body.WriteByte('\n')
		}
		text := body.String()
		if !doc.quoted {
			text = p.expanded(text)
		}
		cur.stdin = &text
	}
	p.pending = nil
}

// expanded is the text of a here-document with what it substitutes.
func (p *parser) expanded(text string) string {
	inner := &parser{src: text, r: p.r, depth: p.depth + 1}
	if inner.depth > maxDepth {
		return text
	}
	var w builder
	inner.quotedUntil(0, &w)
	return w.String()
}

// take reads a word and says what it is in its place.
func (p *parser) take(cur *command, cases *[]place) {
	start := p.pos
	w := p.word()
	if p.pos == start {
		p.pos++
		return
	}
	if c := p.next(); (c == '<' || c == '>') && !w.quoted && w.text != "" && strings.Trim(w.text, "0123456789") == "" {
		// The number of a file that is redirected.
		return
	}
	top := caseBody
	if n := len(*cases); n > 0 {
		top = (*cases)[n-1]
	}
	switch {
	case !w.quoted && top == caseWord && w.text == "in":
		(*cases)[len(*cases)-1] = casePattern
		*cur = command{}
	case !w.quoted && top != caseWord && w.text == "esac" && len(cur.words) == 0 && len(*cases) > 0:
		*cases = (*cases)[:len(*cases)-1]
	case top == casePattern, top == caseWord:
	case cur.function:
		p.r.functions[w.text] = true
		*cur = command{}
	case cur.skip && w.text == "do" && !w.quoted:
		p.end(cur)
	case len(cur.words) == 0 && p.reserved(cur, cases, &w):
	case len(cur.words) == 0 && assignment(p.src[start:p.pos]) > 0:
		p.assign(&w)
	default:
		cur.words = append(cur.words, w)
	}
}

// reserved takes the reserved words of a command's first place.
func (p *parser) reserved(cur *command, cases *[]place, w *word) bool {
	if w.quoted || w.fields != nil {
		return false
	}
	switch w.text {
	case "if", "then", "elif", "else", "fi", "while", "until", "do", "done", "{", "}", "!", "coproc":
	case "for", "select":
		cur.skip = true
	case "case":
		*cases = append(*cases, caseWord)
	case "function":
		cur.function = true
	case "[[":
		p.test()
	default:
		return false
	}
	return true
}

// test reads to the end of [[ … ]].
func (p *parser) test() {
	for p.pos < len(p.src) {
		if c := p.next(); c == ' ' || c == '\t' || c == '\n' || meta(c) {
			p.pos++
			continue
		}
		start := p.pos
		w := p.word()
		if p.pos == start {
			p.pos++
		}
		if w.text == "]]" && !w.quoted {
			return
		}
		p.r.mention([]word{w})
	}
}

// assignment is how long the name with the equals sign is with which a text begins, 0
// where it begins with none.
func assignment(text string) int {
	name, _, ok := strings.Cut(text, "=")
	name = strings.TrimSuffix(name, "+")
	if !ok || !isName(name) {
		return 0
	}
	return strings.IndexByte(text, '=') + 1
}

func isName(text string) bool {
	for i := range len(text) {
		if c := text[i]; !nameByte(c) || i == 0 && c >= '0' && c <= '9' {
			return false
		}
	}
	return text != ""
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// assign keeps the value of a variable.
func (p *parser) assign(w *word) {
	at := assignment(w.text)
	name, value := strings.TrimSuffix(w.text[:max(0, at-1)], "+"), w.text[at:]
	if p.next() == '(' {
		// A list of bash's.
		p.pos++
		var list command
		for p.pos < len(p.src) && p.next() != ')' {
			if c := p.next(); c == ' ' || c == '\t' || c == '\n' || meta(c) {
				p.pos++
				continue
			}
			start := p.pos
			list.words = append(list.words, p.word())
			if p.pos == start {
				p.pos++
			}
		}
		p.pos = min(p.pos+1, len(p.src))
		p.r.mention(list.words)
		value = Hole
	}
	if had, ok := p.r.vars[name]; strings.HasSuffix(w.text[:at], "+=") || len(value) > maxValue || ok && had != value {
		// Which of several values holds is not followed.
		p.r.mention([]word{{text: had}, {text: value}})
		value = Hole
	}
	if len(p.r.vars) < maxKept {
		p.r.vars[name] = value
	}
}
