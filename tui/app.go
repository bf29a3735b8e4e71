package tui

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

// The smallest terminal that the views are laid out for.
const (
	minWidth  = 40
	minHeight = 12
)

// flashTime is how long a message stays in the foot.
const flashTime = 5 * time.Second

// app is the root of the program: it has the head, the foot and what lies over the
// views, and hands the rest to the view that is seen.
type app struct {
	desk          *desk
	width, height int
	view          viewID
	screens       [viewCount]screen
	// over lies over the view, nil for nothing.
	over  overlay
	flash flashMsg
	// flashEnd is when the flash goes.
	flashEnd time.Time
	// leaving is true once the user wants to go and something has to end first.
	leaving bool
}

// overlay is what lies over a view: help, messages, a question.
type overlay interface {
	// update takes in a key; done is true when the overlay is to go.
	update(d *desk, msg tea.Msg) (done bool, cmd tea.Cmd)
	draw(d *desk, width, height int) []string
	// keys are those that mean something in it.
	keys(d *desk) []key.Binding
}

var _ tea.Model = (*app)(nil)

func newApp(ctx context.Context, o *Options, r *lipgloss.Renderer) *app {
	a := &app{desk: &desk{ctx: ctx, opts: o, theme: newTheme(r), keys: newKeyMap(), snap: o.Feed.Snapshot(), now: o.now()}}
	a.screens = [viewCount]screen{
		viewOverview:  newOverview(),
		viewWorkloads: newWorkloads(),
		viewAlerts:    newAlerts(),
		viewNodes:     newNodes(),
		viewPolicies:  newPolicies(),
		viewRemediate: newRemediate(),
	}
	for _, s := range a.screens {
		s.look(a.desk)
	}
	return a
}

type (
	snapMsg struct {
		snap *Snapshot
		took time.Duration
	}
	tickMsg time.Time
)

// Init implements tea.Model.
func (a *app) Init() tea.Cmd {
	return tea.Batch(a.nextSnapshot(0), a.tick())
}

// nextSnapshot waits for events and takes a new picture, not before pause has gone by.
func (a *app) nextSnapshot(pause time.Duration) tea.Cmd {
	d := a.desk
	return func() tea.Msg {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-d.ctx.Done():
			return nil
		case <-timer.C:
		}
		select {
		case <-d.ctx.Done():
			return nil
		case <-d.opts.Feed.changed:
		}
		began := time.Now()
		return snapMsg{d.opts.Feed.Snapshot(), time.Since(began)}
	}
}

func (a *app) tick() tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return tickMsg(a.desk.opts.now()) })
}

// Update implements tea.Model. It waits for nothing.
func (a *app) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	d := a.desk
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		a.width, a.height = msg.Width, msg.Height
		return a, nil
	case snapMsg:
		d.snap, d.now = msg.snap, d.opts.now()
		began := time.Now()
		for _, s := range a.screens {
			s.look(d)
		}
		// With very many rows a picture costs more; keys come first.
		return a, a.nextSnapshot(max(d.opts.pace(), 5*(msg.took+time.Since(began))))
	case tickMsg:
		d.now = time.Time(msg)
		return a, a.tick()
	case flashMsg:
		a.flash, a.flashEnd = msg, d.now.Add(flashTime)
		if msg.isErr && ansi.StringWidth(msg.text) >= a.width {
			// What the foot has no room for is read in the messages.
			d.opts.Feed.Say(msg.text)
		}
		return a, nil
	case idleMsg:
		d.busy = nil
		if a.leaving {
			return a, tea.Quit
		}
		return a, nil
	case gotoMsg:
		return a, a.show(msg)
	case openMsg:
		a.view = viewWorkloads
		return a, a.screens[viewWorkloads].update(d, msg)
	case tea.KeyMsg:
		return a, a.pressed(msg)
	case tea.MouseMsg:
		return a, a.mouse(msg)
	}
	return a, a.rest(msg)
}

// rest hands what commands brought to who may have sent them.
func (a *app) rest(msg tea.Msg) tea.Cmd {
	var cmds []tea.Cmd
	if a.over != nil {
		done, cmd := a.over.update(a.desk, msg)
		if cmds = append(cmds, cmd); done {
			a.over = nil
		}
	}
	for _, s := range a.screens {
		cmds = append(cmds, s.update(a.desk, msg))
	}
	return tea.Batch(cmds...)
}

func (a *app) show(to gotoMsg) tea.Cmd {
	a.view = to.view
	return a.screens[to.view].update(a.desk, to)
}

// pressed takes in keys. Several that were pressed fast, or came late over a slow line, are
// read as one, and each means what it means alone. What is pasted is text, and no keys.
func (a *app) pressed(msg tea.KeyMsg) tea.Cmd {
	if msg.Paste && !a.typing() {
		return nil
	}
	if msg.Type != tea.KeyRunes || msg.Paste || msg.Alt || len(msg.Runes) < 2 {
		return a.key(msg)
	}
	cmds := make([]tea.Cmd, len(msg.Runes))
	for i, r := range msg.Runes {
		cmds[i] = a.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
	}
	return tea.Batch(cmds...)
}

// typing is whether keys are text now.
func (a *app) typing() bool {
	if a.over != nil {
		_, asks := a.over.(*export)
		return asks && !a.tooSmall()
	}
	return !a.tooSmall() && a.screens[a.view].typing()
}

// key is where keys that mean the same everywhere are known.
func (a *app) key(msg tea.KeyMsg) tea.Cmd {
	d, k := a.desk, a.desk.keys
	a.flash = flashMsg{}
	switch {
	case key.Matches(msg, k.ForceQuit):
		return a.leave(true)
	case key.Matches(msg, k.Suspend):
		return tea.Suspend
	case a.tooSmall():
		// What cannot be seen is not to be changed.
		if key.Matches(msg, k.Quit) {
			return a.leave(false)
		}
		return nil
	case a.over != nil:
		done, cmd := a.over.update(d, msg)
		if done {
			a.over = nil
		}
		return cmd
	case a.screens[a.view].typing():
		return a.screens[a.view].update(d, msg)
	case key.Matches(msg, k.Quit):
		return a.leave(false)
	case key.Matches(msg, k.Help):
		a.over = newHelp(a.screens[a.view].keys(d))
		return nil
	case key.Matches(msg, k.Messages):
		a.over = newMessages()
		return nil
	case key.Matches(msg, k.Export):
		a.over = newExport(d, a.view, a.screens[a.view])
		return nil
	case key.Matches(msg, k.Copy), key.Matches(msg, k.CopyFix):
		return a.copy(key.Matches(msg, k.CopyFix))
	case key.Matches(msg, k.NextView):
		a.view = (a.view + 1) % viewCount
		return nil
	case key.Matches(msg, k.PrevView):
		a.view = (a.view + viewCount - 1) % viewCount
		return nil
	}
	for i, b := range a.viewKeys() {
		if key.Matches(msg, b) {
			a.view = viewID(i)
			return nil
		}
	}
	return a.screens[a.view].update(d, msg)
}

func (a *app) viewKeys() []key.Binding {
	k := a.desk.keys
	return []key.Binding{k.Overview, k.Workloads, k.Alerts, k.Nodes, k.Policies, k.Remediate}
}

// leave ends the program, once nothing is at work that must end first.
func (a *app) leave(atOnce bool) tea.Cmd {
	d := a.desk
	if d.busy == nil {
		return tea.Quit
	}
	if !atOnce && !a.leaving {
		return tell(flashMsg{text: "changes are being made: x stops between two of them, ctrl+c stops and quits", isErr: true})
	}
	a.leaving = true
	d.busy()
	return tell(flashMsg{text: "stopping between two changes, then leaving"})
}

func (a *app) copy(fix bool) tea.Cmd {
	d := a.desk
	what, text := a.screens[a.view].copied(d, fix)
	switch {
	case text == "":
		return tell(flashMsg{text: "nothing here to copy"})
	case d.opts.Copy == nil:
		return tell(flashMsg{text: "copying is not possible here", isErr: true})
	}
	return func() tea.Msg {
		if err := d.opts.Copy(d.ctx, d.terminal(), text); err != nil {
			return flashMsg{text: "copy: " + err.Error(), isErr: true}
		}
		return flashMsg{text: "copied " + what}
	}
}

// mouse hands a mouse event on in the view's own coordinates.
func (a *app) mouse(msg tea.MouseMsg) tea.Cmd {
	switch {
	case a.tooSmall():
		return nil
	case a.over != nil:
		done, cmd := a.over.update(a.desk, msg)
		if done {
			a.over = nil
		}
		return cmd
	case msg.Y == a.headHeight()-1-a.ruleHeight() && msg.Button == tea.MouseButtonLeft && msg.Action == tea.MouseActionPress:
		for _, t := range a.tabs() {
			if msg.X >= t.from && msg.X < t.to {
				a.view = t.view
			}
		}
		return nil
	}
	msg.Y -= a.headHeight()
	if msg.Y < 0 || msg.Y >= a.bodyHeight() || a.screens[a.view].typing() {
		return nil
	}
	return a.screens[a.view].update(a.desk, msg)
}

func (a *app) tooSmall() bool { return a.width < minWidth || a.height < minHeight }

// roomy is whether there are lines to spare for the head.
func (a *app) roomy() bool { return a.height >= 16 }

func (a *app) ruleHeight() int {
	if a.roomy() {
		return 1
	}
	return 0
}

func (a *app) headHeight() int {
	if a.roomy() {
		return 3
	}
	return 1
}

func (a *app) bodyHeight() int { return a.height - a.headHeight() - 1 }

// View implements tea.Model.
func (a *app) View() string {
	switch {
	case a.width == 0:
		return "" // Before the size is known nothing is laid out.
	case a.tooSmall():
		text := fmt.Sprintf("%d×%d is too small: %d×%d is needed", a.width, a.height, minWidth, minHeight)
		return strings.Join(fill(wrap(text, a.width), a.width, a.height), "\n")
	}
	var body []string
	if a.over != nil {
		body = a.over.draw(a.desk, a.width, a.bodyHeight())
	} else {
		body = a.screens[a.view].draw(a.desk, a.width, a.bodyHeight())
	}
	lines := append(a.head(), fill(body, a.width, a.bodyHeight())...)
	return strings.Join(append(lines, a.foot()), "\n")
}

// fill makes lines exactly so many, and none wider than there is room.
func fill(lines []string, width, height int) []string {
	out := make([]string, height)
	for i := range out {
		if i < len(lines) {
			out[i] = ansi.Truncate(lines[i], width, "")
		}
	}
	return out
}
