package tui

import (
	"slices"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

func TestBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, whole, cells int
		want            string
	}{
		{0, 10, 10, ""}, {10, 10, 4, "████"}, {5, 10, 4, "██"}, {1, 1000, 4, "▏"}, {20, 10, 4, "████"},
		{1, 0, 4, ""}, {1, 1, 0, ""}, {1, 1, -3, ""}, {3, 16, 2, "▍"}, {-1, 10, 4, ""},
	} {
		if got := bar(c.n, c.whole, c.cells); got != c.want {
			t.Errorf("bar(%d, %d, %d) = %q, want %q", c.n, c.whole, c.cells, got, c.want)
		}
	}
}

// TestShares: parts fill the bar, in proportion, and none that is there disappears.
func TestShares(t *testing.T) {
	t.Parallel()
	for _, counts := range [][]int{{1}, {1, 1}, {1000, 1}, {0, 3, 0, 9}, {1, 1000, 1, 1}, {7, 7, 7, 7, 7}, {33, 33, 34}} {
		parts, some := make([]stacked, len(counts)), 0
		for i, n := range counts {
			parts[i] = stacked{n: n, glyph: "x"}
			if n > 0 {
				some++
			}
		}
		for cells := some; cells < 60; cells++ {
			got, sum := shares(parts, cells), 0
			for i, n := range got {
				sum += n
				if (n == 0) != (counts[i] == 0) {
					t.Errorf("%v in %d cells has %v", counts, cells, got)
				}
			}
			if sum != cells || ansi.StringWidth(stack(parts, cells)) != cells {
				t.Errorf("%v in %d cells has %v", counts, cells, got)
			}
			for i := range counts {
				for j := range counts {
					if counts[i] > counts[j] && got[i] < got[j] {
						t.Errorf("%v in %d cells has %v: more is less", counts, cells, got)
					}
				}
			}
		}
	}
	if got := shares([]stacked{{n: 1}, {n: 1}}, 1); !slices.Equal(got, []int{0, 0}) {
		t.Errorf("two parts in one cell: %v", got)
	}
}

func TestFolded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts []int
		cells  int
		want   []int
	}{
		{[]int{1, 2, 3, 4}, 4, []int{1, 2, 3, 4}},
		{[]int{1, 2, 3, 4}, 9, []int{1, 2, 3, 4}},
		{[]int{1, 2, 3, 4}, 2, []int{3, 7}},
		{[]int{1, 2, 3, 4, 5}, 2, []int{3, 12}},
		{[]int{1, 2, 3}, 0, nil},
		{nil, 5, nil},
	} {
		if got := folded(c.counts, c.cells); !slices.Equal(got, c.want) {
			t.Errorf("folded(%v, %d) = %v, want %v", c.counts, c.cells, got, c.want)
		}
	}
}

func TestSparkline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts []int
		rows   int
		want   []string
	}{
		{[]int{0, 1, 2, 4, 8}, 1, []string{" ▁▂▄█"}},
		{[]int{0, 1, 1000}, 1, []string{" ▁█"}},
		{[]int{0, 4, 8}, 2, []string{"  █", " ██"}},
		{[]int{0, 0}, 1, []string{"  "}},
	} {
		if got := sparkline(c.counts, c.rows); !slices.Equal(got, c.want) {
			t.Errorf("sparkline(%v, %d) = %q, want %q", c.counts, c.rows, got, c.want)
		}
	}
}
