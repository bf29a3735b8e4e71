package tui

import "github.com/charmbracelet/lipgloss"

// uncolour takes all colours off. Bold, faint, underlined and reverse are left.
func (t *theme) uncolour() {
	for _, style := range []*lipgloss.Style{
		&t.plain, &t.dim, &t.bold, &t.accent, &t.title, &t.selected, &t.bar, &t.key, &t.errorText, &t.note,
		&t.good, &t.poor, &t.bad, &t.doubt, &t.critical, &t.high, &t.medium, &t.low, &t.added, &t.removed, &t.hunk,
	} {
		*style = style.UnsetForeground().UnsetBackground()
	}
	t.dim, t.low = t.dim.Faint(true), t.low.Faint(true)
	t.bar = t.bar.Underline(true)
}
