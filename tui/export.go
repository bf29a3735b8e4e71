package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
)

// export lies over a view and asks in what format and where its content is written.
type export struct {
	part   Selection
	note   string
	what   string
	format int
	path   textinput.Model
	// own is true once the user has changed the name.
	own bool
	// failed is why it could not be written. writing is true meanwhile.
	failed  string
	writing bool
}

// exportedMsg says what became of an export.
type exportedMsg struct {
	path string
	err  error
}

func newExport(d *desk, view viewID, s screen) *export {
	part, note := s.selection(d)
	x := &export{part: part, note: note, what: strings.ToLower(view.String()), path: newInput(d, "")}
	x.name(d)
	return x
}

// name proposes a name for the file, unless the user gave one.
func (x *export) name(d *desk) {
	if x.own || len(d.opts.Formats) == 0 {
		return
	}
	ending := d.opts.Formats[x.format]
	if ending == "table" {
		ending = "txt"
	}
	x.path.SetValue("escape-scanner-" + x.what + "." + ending)
	x.path.CursorEnd()
}

func (x *export) keys(d *desk) []key.Binding {
	return []key.Binding{d.keys.Format, d.keys.Accept, d.keys.Cancel}
}

func (x *export) update(d *desk, msg tea.Msg) (done bool, cmd tea.Cmd) {
	switch msg := msg.(type) {
	case exportedMsg:
		if msg.err != nil {
			x.writing, x.failed = false, msg.err.Error()
			return false, nil
		}
		return true, tell(flashMsg{text: "written: " + msg.path})
	case tea.KeyMsg:
		return x.key(d, msg)
	case tea.MouseMsg:
		return false, nil
	}
	x.path, cmd = x.path.Update(msg)
	return false, cmd
}

func (x *export) key(d *desk, msg tea.KeyMsg) (done bool, cmd tea.Cmd) {
	formats := len(d.opts.Formats)
	switch {
	case x.writing:
		return false, nil
	case key.Matches(msg, d.keys.Cancel):
		return true, nil
	case formats == 0 || d.opts.Export == nil:
		return true, nil
	case key.Matches(msg, d.keys.Format):
		x.format = (x.format + 1) % formats
		x.name(d)
		return false, nil
	case key.Matches(msg, d.keys.FormatBack):
		x.format = (x.format + formats - 1) % formats
		x.name(d)
		return false, nil
	case key.Matches(msg, d.keys.Accept):
		return false, x.write(d)
	}
	before := x.path.Value()
	x.path, cmd = x.path.Update(msg)
	x.own = x.own || x.path.Value() != before
	x.failed = ""
	return false, cmd
}

// write writes the file, outside of the program's goroutine.
func (x *export) write(d *desk) tea.Cmd {
	path := strings.TrimSpace(x.path.Value())
	if path == "" {
		x.failed = "a name is wanted"
		return nil
	}
	x.writing, x.failed = true, ""
	snap, part, note, format := d.snap, x.part, x.note, d.opts.Formats[x.format]
	return func() tea.Msg {
		return exportedMsg{path, d.opts.Export(d.ctx, format, path, snap.Events(part, note))}
	}
}

func (x *export) draw(d *desk, width, _ int) []string {
	t := d.theme
	if d.opts.Export == nil {
		return []string{"", t.errorText.Render(" Exporting is not possible here.")}
	}
	what := "everything"
	if x.note != "" {
		what = x.note
	}
	lines := []string{"", " " + t.title.Render("Export this view"), ""}
	lines = append(lines, wrapAt(" what    ", what+" ("+x.size()+")", t.plain, width)...)
	var formats strings.Builder
	for i, f := range d.opts.Formats {
		text := " " + f + " "
		if i == x.format {
			text = t.selected.Render("[" + f + "]")
		}
		formats.WriteString(text)
	}
	x.path.Width = max(1, width-11)
	lines = append(lines, " format "+formats.String(), " file    "+x.path.View())
	switch {
	case x.writing:
		lines = append(lines, "", t.accent.Render(" writing …"))
	case x.failed != "":
		lines = append(lines, "")
		lines = append(lines, wrapAt(" ", x.failed, t.errorText, width)...)
	}
	return lines
}

// size is how much is written.
func (x *export) size() string {
	var pieces []string
	for _, p := range []struct {
		n    int
		word string
	}{
		{len(slices.DeleteFunc(slices.Clone(x.part.Rows), func(r *Row) bool {
			w := newWorkRow(r, 0)
			return w == nil || w.exception
		})), "workload"},
		{len(x.part.Nodes), "node"}, {len(x.part.Policies), "policy"}, {len(x.part.Alerts), "alert"},
		{len(x.part.Lost), "gap"},
	} {
		if p.n > 0 {
			pieces = append(pieces, counted(p.n, p.word))
		}
	}
	if len(pieces) == 0 {
		return "nothing but what could not be read"
	}
	return strings.Join(pieces, ", ")
}
