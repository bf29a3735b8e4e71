package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	grid := parse("\x1b[1m\x1b[31mno\x1b[39m\x1b[0m \x1b[38;2;1;2;255;48;5;232m█\n\x1b[0;7mé\x1b[27m<\x1b[94m✓\x1b[m\n", 4, 3)
	for _, test := range []struct {
		x, y int
		want cell
	}{
		{0, 0, cell{'n', style{bold: true}, indexed(1), ""}},
		{2, 0, cell{' ', style{}, "", ""}},
		{3, 0, cell{'█', style{}, "#0102ff", "#080808"}},
		{0, 1, cell{'é', style{reverse: true}, "", ""}},
		{1, 1, cell{'<', style{}, "", ""}},
		{2, 1, cell{'✓', style{}, indexed(12), ""}},
		{3, 1, cell{text: ' '}},
		{0, 2, cell{text: ' '}},
	} {
		if got := grid[test.y][test.x]; got != test.want {
			t.Errorf("at %d, %d: %+v, want %+v", test.x, test.y, got, test.want)
		}
	}
	page, width, height := picture(grid, "a <title>")
	if width < 4*8 || height < 3*16 {
		t.Errorf("a picture of %d×%d", width, height)
	}
	for _, want := range []string{"a &lt;title&gt;", ">&lt;</text>", `font-weight="bold">no</text>`, `fill="#0102ff"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in %s", want, page)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	if got := plain("\x1b[1;31mred\x1b[0m and\x1b(B\x0f not"); got != "red and not" {
		t.Errorf("%q", got)
	}
}
