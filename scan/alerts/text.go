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

// cut bounds a text, between characters, in a copy that keeps nothing else in memory.
func cut(text string, most int) string {
	if len(text) <= most {
		return strings.ToValidUTF8(strings.Clone(text), "\uFFFD")
	}
	end := most
	for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.ToValidUTF8(text[:end], "\uFFFD") + "…"
}

// cutBoth bounds a text and keeps its end, which for a path says the most.
func cutBoth(text string) string {
	beginning, end := halves(text)
	if end == "" {
		return cut(text, longText)
	}
	return strings.ToValidUTF8(beginning, "\uFFFD") + "…" + strings.ToValidUTF8(end, "\uFFFD")
}
