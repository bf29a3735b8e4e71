package report

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanMakesVisible(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""},
		{"kube-system/node-agent", "kube-system/node-agent"},
		{"日本語 and émoji 🚀", "日本語 and émoji 🚀"},
		{"a\x1b[31mred", `a\x1b[31mred`},
		{"\x1b]8;;https://evil.example\x1b\\link", `\x1b]8;;https://evil.example\x1b\link`},
		{"two\nlines\r\tand\vmore", `two\nlines\r\tand\x0bmore`},
		{"\x00\x07\x7f", `\x00\x07\x7f`},
		{"\u009b31m", `\u009b31m`},
		{"safe\u202eexe.yaml", `safe\u202eexe.yaml`},
		{"a\u2066b\u2069", `a\u2066b\u2069`},
		{"ad\u200bmin\ufeff", `ad\u200bmin\ufeff`},
		{"a\u2028b\u2029", `a\u2028b\u2029`},
		{"soft\u00adhyphen", `soft\u00adhyphen`},
		{"no\u00a0break", `no\u00a0break`},
		{"tag\U000e0041", `tag\U000e0041`},
		{"filler\u3164", `filler\u3164`},
		{"bad\xffbyte", `bad\ufffdbyte`},
		{"bad\ufffdbyte", `bad\ufffdbyte`},
	} {
		if got := Clean(tc.in); got != tc.want {
			t.Errorf("Clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

// sgr is what the table uses of escape sequences: colours, nothing else.
var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// harmful returns the first character that a terminal could obey, or that could
// deceive a reader. It says so in its own words, not in those of the code.
func harmful(out string) (rune, bool) {
	for _, r := range out {
		switch {
		case r == '\n':
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r),
			r == '\u2028', r == '\u2029', r == '\u3164', r == '\u00a0':
			return r, true
		}
	}
	return 0, false
}

func seeds(f *testing.F) {
	for _, s := range []string{
		"", "plain", evil, "日本語", "é", "👩‍👩‍👧‍👦", "\x1b[2J", "\u202e", "\xff\xfe", "a b  c   d", strings.Repeat("x", 300),
		strings.Repeat("字", 90), "\u0301\u0301\u0301", "🇩🇪🇫", "[", "]", "a[0].b[12]", "../../etc/passwd", "C:\\x", "/abs", "a:b", "{\"a\":1}", "null",
	} {
		f.Add(s)
	}
}

func FuzzClean(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if r, bad := harmful(got); bad || strings.Contains(got, "\n") {
			t.Errorf("Clean(%q) = %q lets %U through", s, got, r)
		}
		if again := Clean(got); again != got {
			t.Errorf("Clean(%q) = %q, and cleaned again %q", s, got, again)
		}
	})
}

func FuzzEscapeJSON(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := json.Marshal(map[string]string{"key" + s: s})
		if err != nil {
			t.Skip()
		}
		got := escapeJSON(raw)
		if r, bad := harmful(string(got)); bad {
			t.Errorf("%q lets %U through", got, r)
		}
		var before, after any
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("escaping changed %v to %v", before, after)
		}
	})
}

func FuzzCut(f *testing.F) {
	f.Add("a long text with words", 7)
	f.Add("字字字字", 3)
	f.Add(strings.Repeat("x", 50), 1)
	f.Fuzz(func(t *testing.T, s string, cells int) {
		s = Clean(s)
		if cells < 2 || cells > 500 || s == "" {
			t.Skip()
		}
		head, rest := cut(s, cells)
		if width(head) > cells && len(rest) > 0 {
			t.Errorf("cut(%q, %d) = %q, which is %d wide", s, cells, head, width(head))
		}
		if head == "" && rest == s {
			t.Errorf("cut(%q, %d) cut nothing off", s, cells)
		}
		if squeeze(head+rest) != squeeze(s) {
			t.Errorf("cut(%q, %d) = %q, %q: text was lost", s, cells, head, rest)
		}
		if got := width(shorten(s, cells)); got > cells {
			t.Errorf("shorten(%q, %d) is %d wide", s, cells, got)
		}
	})
}

func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }
