package config

import "strings"

// hint is the part of a message that helps after a word that is not among the
// known ones. It looks for the nearest only when the message is written.
type hint struct {
	word  string
	known []string
	// list makes it name all known words when none is near.
	list bool
}

func (h hint) String() string {
	if near := nearest(h.word, h.known); near != "" {
		return `, did you mean "` + near + `"?`
	}
	if h.list {
		return "; known are " + strings.Join(h.known, ", ")
	}
	return ""
}

// DidYouMean ends a message about a word that is not among the known ones: with the
// one that was probably meant, or with nothing.
func DidYouMean(word string, known []string) string {
	return hint{word: word, known: known}.String()
}

// nearest returns the known word that word was probably meant to be, or "".
func nearest(word string, known []string) string {
	const longest = 64
	if len(word) > longest {
		return ""
	}
	w := plainWord(word)
	best, bestDistance := "", len(w)
	for _, k := range known {
		p := plainWord(k)
		d := distance(w, p)
		// Half a name ("pss", "except") is far by letters and near by meaning.
		if len(w) >= 3 && (strings.HasPrefix(p, w) || strings.HasPrefix(w, p)) {
			d = min(d, 1)
		}
		if d <= max(2, len(p)/3) && d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// plainWord takes away what people write differently: case, dashes, underscores.
func plainWord(s string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts the letters to insert, remove, replace, or swap with their
// neighbour to make b of a.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(s)][len(t)]
}
