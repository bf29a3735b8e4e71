package alerts

import (
	"strings"
	"unicode/utf8"
)

// shortText and longText bound texts of nodes, in bytes: in a sentence, and in a field.
const (
	shortText = 80
	longText  = 256
)

// cut bounds a text, between characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return valid(text)
	}
	end := most
	for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return valid(text[:end]) + "…"
}

// cutBoth bounds a text and keeps its end, which for a path says the most.
func cutBoth(text string) string {
	beginning, end := halves(text)
	if end == "" {
		return valid(beginning)
	}
	return valid(beginning) + "…" + valid(end)
}

func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// pack gives texts memory of their own, one piece for all, so that they keep nothing
// else alive.
func pack(texts ...*string) {
	n := 0
	for _, text := range texts {
		n += len(*text)
	}
	var b strings.Builder
	b.Grow(n)
	for _, text := range texts {
		b.WriteString(*text)
	}
	all := b.String()
	for _, text := range texts {
		n := len(*text)
		*text, all = all[:n], all[n:]
	}
}
