package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// policies are the policies that were found, those that do not bite first, and one of
// them with its reasons and the findings that speak of it.
type policies struct {
	browsed[scan.Policy, scan.PolicyRef]
	detail page
	sort   policySort
	// turned is true where the order is the other way round.
	turned bool
	// said are the findings about the one that is seen, nil where they are to be
	// gathered.
	said *policySaid
}

// policySort is a column by which policies are sorted.
type policySort int

// The columns, in the order in which they are taken.
const (
	sortBites policySort = iota
	sortLayer
	sortKind
	sortName
	sortAction
	sortWorkloads
	sortPods
	sortCount
)

func newPolicies() *policies {
	v := &policies{}
	v.stale = true
	v.bar.more = []filterKey{
		{name: "bites", values: []string{string(scan.BitesNo), string(scan.BitesPartly), string(scan.BitesUnknown), string(scan.BitesYes)}},
		{name: "layer", values: []string{string(scan.LayerAdmission), string(scan.LayerRuntime)}},
		{name: "action"},
	}
	return v
}

func (v *policies) look(*desk) { v.stale, v.said = true, nil }

// choose makes the list anew, and keeps the cursor on its policy.
func (v *policies) choose(d *desk) {
	if !v.stale {
		return
	}
	v.stale = false
	v.shown, v.longest = v.shown[:0:0], 0
	for _, p := range d.snap.Policies {
		if v.bar.filter.empty() || v.bar.filter.matches(policyFiltered(p)) {
			v.shown = append(v.shown, p)
			v.longest = max(v.longest, ansi.StringWidth(report.Clean(inCluster(p.Cluster, policyPlace(p)))))
		}
	}
	slices.SortStableFunc(v.shown, report.ComparePolicies)
	slices.SortStableFunc(v.shown, v.sort.compare)
	if v.turned {
		slices.Reverse(v.shown)
	}
	v.settle((*scan.Policy).Ref)
	v.follow()
}

func policyFiltered(p *scan.Policy) *filtered {
	return &filtered{
		workload: scan.Workload{Cluster: p.Cluster, Namespace: p.Namespace, Kind: p.Kind, Name: p.Name},
		text:     strings.ToLower(strings.Join([]string{p.Cluster, report.PolicyName(p), p.Action, string(p.Layer)}, " ")),
		more: func(key string) string {
			switch key {
			case "bites":
				return string(biteOf(p))
			case "layer":
				return string(p.Layer)
			}
			return p.Action
		},
	}
}

// compare orders by the column alone; those alike keep their order.
func (s policySort) compare(a, b *scan.Policy) int {
	switch s {
	case sortLayer:
		return cmp.Compare(a.Layer, b.Layer)
	case sortKind:
		return cmp.Compare(a.Kind, b.Kind)
	case sortName:
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Cluster, b.Cluster))
	case sortAction:
		return cmp.Compare(a.Action, b.Action)
	case sortWorkloads:
		return cmp.Compare(b.Workloads, a.Workloads)
	case sortPods:
		return cmp.Compare(b.Pods, a.Pods)
	case sortBites, sortCount:
	}
	return 0
}

// follow remembers the policy the cursor stands on.
func (v *policies) follow() {
	ref := scan.PolicyRef{}
	if p := v.current(); p != nil {
		ref = p.Ref()
	}
	if ref != v.at {
		v.at, v.detail, v.said = ref, page{}, nil
	}
}

func (v *policies) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case gotoMsg:
		v.inside = false
		v.refilter(d, msg.filter)
	case tea.KeyMsg:
		v.choose(d)
		return v.key(d, msg)
	case tea.MouseMsg:
		v.choose(d)
		return v.mouse(d, msg)
	}
	return nil
}

func (v *policies) refilter(d *desk, text string) {
	v.stale = v.bar.set(text) || v.stale
	v.choose(d)
}

func (v *policies) key(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	used, cmd := v.typed(d, msg)
	v.choose(d)
	if used {
		return cmd
	}
	switch {
	case v.inside:
		return v.keyInside(d, msg)
	case key.Matches(msg, k.Open, k.Right):
		v.open()
	case key.Matches(msg, k.Sort):
		v.order(d, (v.sort+1)%sortCount, false)
	case key.Matches(msg, k.Reverse):
		v.order(d, v.sort, !v.turned)
	case key.Matches(msg, k.Filter):
		v.bar.start(d)
	case key.Matches(msg, k.Clear, k.Back):
		v.refilter(d, "")
	default:
		v.step(k, msg)
		v.follow()
	}
	return nil
}

func (v *policies) order(d *desk, sort policySort, turned bool) {
	v.sort, v.turned, v.stale = sort, turned, true
	v.choose(d)
}

func (v *policies) keyInside(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	v.lay(d)
	switch {
	case key.Matches(msg, k.Back, k.Left):
		v.inside = false
		return nil
	case key.Matches(msg, k.Goto):
		return v.enter()
	}
	if opened, _ := v.detail.update(k, msg); opened {
		return v.enter()
	}
	return nil
}

// enter opens the workload the cursor stands on.
func (v *policies) enter() tea.Cmd {
	if s := v.detail.stop(); s != nil && s.act != nil {
		return tell(s.act)
	}
	return nil
}

func (v *policies) mouse(d *desk, msg tea.MouseMsg) tea.Cmd {
	if v.inside {
		v.lay(d)
		if opened, _ := v.detail.update(d.keys, msg); opened {
			return v.enter()
		}
		return nil
	}
	before := v.list.cursor
	clicked := v.step(d.keys, msg)
	v.follow()
	v.inside = clicked && v.list.cursor == before
	return nil
}

func (v *policies) draw(d *desk, width, height int) []string {
	v.room(width, height)
	v.choose(d)
	v.list.fit(len(v.shown), max(1, height-v.above()))
	if v.inside {
		v.lay(d)
		return v.detail.draw(d.theme, true)
	}
	return v.drawList(d, width)
}

// policyColumns are the cells of the columns; 0 leaves one out.
type policyColumns struct{ bites, layer, kind, name, action, count int }

func (v *policies) columns(width int) policyColumns {
	c := policyColumns{bites: 9, layer: 4, action: 8, count: 5}
	switch {
	case width < 60:
		c.bites, c.layer, c.action = 2, 0, 0
	case width >= twoColumns:
		c.layer, c.kind, c.action, c.count = 10, 28, 12, 7
	default:
		// Names come before kinds.
		const left = 80 - 1 - 9 - 4 - 8 - 2*5 - 1
		c.kind = max(14, min(17, width-80+left-v.longest-1))
	}
	c.name = width - 1 - c.bites - c.layer - c.kind - c.action - 2*c.count - 1
	return c
}

func (v *policies) drawList(d *desk, width int) []string {
	t := d.theme
	var lines []string
	if v.bar.seen() {
		lines = append(lines, v.bar.draw(d, width, fmt.Sprintf("%d of %d", len(v.shown), len(d.snap.Policies))))
	}
	c := v.columns(width)
	var head strings.Builder
	head.WriteString(" ")
	for _, h := range []struct {
		text  string
		cells int
		sort  policySort
		right bool
	}{
		{"BITES", c.bites, sortBites, false}, {"LAYER", c.layer, sortLayer, false}, {"KIND", c.kind, sortKind, false},
		{"POLICY", c.name, sortName, false}, {"ACTION", c.action, sortAction, false},
		{"WORK", c.count, sortWorkloads, true}, {"PODS", c.count, sortPods, true},
	} {
		head.WriteString(v.head(h.text, h.cells, h.sort, h.right))
	}
	lines = append(lines, t.dim.Render(pad(head.String(), width)))
	if len(v.shown) == 0 {
		return append(lines, v.nothing(d, width)...)
	}
	from, to := v.list.part()
	for i := from; i < to; i++ {
		line := v.drawPolicy(d, &c, v.shown[i])
		if i == v.list.cursor {
			line = chosen(t, line, width, true)
		}
		lines = append(lines, line)
	}
	return lines
}

// head is the name of a column, with an arrow where it is sorted by.
func (v *policies) head(text string, cells int, sort policySort, atRight bool) string {
	if cells == 0 {
		return ""
	}
	if v.sort == sort {
		arrow := "↓"
		if v.turned {
			arrow = "↑"
		}
		text = text[:min(len(text), max(0, cells-2))]
		if !atRight {
			return pad(text+arrow, cells)
		}
		text += arrow
	}
	if atRight {
		return right(text, cells)
	}
	return pad(text[:min(len(text), cells-1)], cells)
}

// nothing says why there is nothing in the list.
func (v *policies) nothing(d *desk, width int) []string {
	text := "No policy was found."
	switch {
	case len(d.snap.Policies) > 0:
		text = "No policy matches the filter."
	case d.snap.Start == nil || !d.snap.Pictured && !d.snap.Over:
		text = "No policy was read yet: they come last."
	case len(d.snap.Failures) > 0:
		text = "No policy was found, and not all could be read: see the overview."
	}
	return wrapAt(" ", text, d.theme.dim, width)
}

// policyPlace is a policy's name with its namespace, clean.
func policyPlace(p *scan.Policy) string {
	if p.Namespace == "" {
		return report.Clean(p.Name)
	}
	return report.Clean(p.Namespace + "/" + p.Name)
}

func (v *policies) drawPolicy(d *desk, c *policyColumns, p *scan.Policy) string {
	t := d.theme
	word, style := biteWord(t, p)
	if c.bites < 4 {
		word = biteLetter(p)
	}
	var b strings.Builder
	b.WriteString(" " + style.Render(pad(word, c.bites)))
	if c.layer > 0 {
		layer := cell(string(p.Layer), c.layer-1)
		if c.layer < 6 {
			layer = pad(layerShort(p.Layer), c.layer-1)
		}
		b.WriteString(t.dim.Render(layer) + " ")
	}
	if c.kind > 0 {
		b.WriteString(t.dim.Render(cell(p.Kind, c.kind-1)) + " ")
	}
	b.WriteString(cell(fitted(p.Cluster, policyPlace(p), c.name-1), c.name-1) + " ")
	if c.action > 0 {
		b.WriteString(cell(cmp.Or(p.Action, "-"), c.action-1) + " ")
	}
	counts := t.plain
	if p.Workloads == 0 {
		counts = t.dim
	}
	b.WriteString(counts.Render(right(fmt.Sprint(p.Workloads), c.count) + right(fmt.Sprint(p.Pods), c.count)))
	return b.String()
}

func layerShort(l scan.Layer) string {
	switch l {
	case scan.LayerAdmission:
		return "ADM"
	case scan.LayerRuntime:
		return "RUN"
	case scan.LayerKernel:
		return "KRN"
	}
	return "?"
}

// biteWord is whether a policy bites, and its style.
func biteWord(t *theme, p *scan.Policy) (string, lipgloss.Style) {
	switch biteOf(p) {
	case scan.BitesYes:
		return "yes", t.good
	case scan.BitesPartly:
		return "partly", t.poor
	case scan.BitesNo:
		return "NO", t.bad.Bold(true)
	case scan.BitesUnknown:
	}
	return "unknown?", t.doubt
}

// biteLetter is that in one cell.
func biteLetter(p *scan.Policy) string {
	switch biteOf(p) {
	case scan.BitesYes:
		return "Y"
	case scan.BitesPartly:
		return "P"
	case scan.BitesNo:
		return "N"
	case scan.BitesUnknown:
	}
	return "?"
}

func (v *policies) keys(d *desk) []key.Binding {
	k := d.keys
	if v.bar.open {
		return v.bar.keys(d)
	}
	if v.inside {
		keys := []key.Binding{k.Back}
		if s := v.detail.stop(); s != nil && s.act != nil {
			keys = append(keys, k.Goto)
		}
		return append(keys, k.Down, k.Up, k.Copy, k.CopyFix, k.Export)
	}
	keys := []key.Binding{k.Open, k.Filter}
	if v.bar.text != "" {
		keys = append(keys, k.Clear)
	}
	return append(keys, k.Sort, k.Reverse, k.Copy, k.CopyFix, k.Export)
}

// selection is what the list shows, or the one policy with the rows that speak of it.
func (v *policies) selection(d *desk) (Selection, string) {
	v.choose(d)
	if p := v.current(); v.inside && p != nil {
		return Selection{Policies: []*scan.Policy{p}, Rows: v.gather(d).rows}, "only " + policyTitle(p) + " and the workloads whose findings name it"
	}
	return Selection{Policies: v.shown}, partNote("policies", v.bar.note())
}
