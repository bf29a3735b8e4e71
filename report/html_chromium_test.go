package report

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// htmlOf is the HTML report of events.
func htmlOf(t testing.TB, events []scan.Event) []byte {
	t.Helper()
	return write(t, htmlFormat(), events)
}

func htmlFormat() format {
	return format{"run.html", func(w io.Writer) scan.Handler { return NewHTML(w, HTMLOptions{Rules: scan.Rules()}) }}
}

// htmlSamples are runs with everything that a report can have, and one with markup
// wherever a run has text.
func htmlSamples(t testing.TB) map[string][]scan.Event {
	return map[string][]scan.Event{
		"specs": sampleEvents(), "layers": layeredEvents(), "audit": auditEvents(), "markup": markupEvents(), "fleet": fleetEvents(t),
	}
}

func TestHTMLInABrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	for name, events := range htmlSamples(t) {
		document := htmlOf(t, events)
		for _, width := range []int{1280, 400} {
			t.Run(fmt.Sprintf("%s at %d", name, width), func(t *testing.T) { lookAt(t, b, document, name, width) })
		}
	}
	t.Run("filter", func(t *testing.T) { filterInABrowser(t, b) })
	t.Run("clusters", func(t *testing.T) { clustersInABrowser(t, b) })
	t.Run("sort", func(t *testing.T) { sortInABrowser(t, b) })
	t.Run("theme", func(t *testing.T) { themeInABrowser(t, b) })
	t.Run("links", func(t *testing.T) { linksInABrowser(t, b) })
	t.Run("print", func(t *testing.T) { printInABrowser(t, b) })
	t.Run("narrowed on paper", func(t *testing.T) { narrowedOnPaper(t, b) })
	t.Run("without scripts", func(t *testing.T) { withoutScripts(t, b) })
	t.Run("large", func(t *testing.T) { largeInABrowser(t, b) })
}

// lookAt opens all of a document in both themes.
func lookAt(t *testing.T, b *browser, document []byte, name string, width int) {
	for _, dark := range []bool{false, true} {
		p := b.open(t, document, tabOptions{width: width, height: 1000, dark: dark})
		shot := fmt.Sprintf("%s-%d", name, width)
		if dark {
			shot += "-dark"
		}
		p.picture(shot, width, 1000)
		if wide := p.widest(); wide > width {
			t.Errorf("the document is %d wide: %s", wide, p.tooWide())
		}
		eval[bool](p, `document.querySelectorAll("details").forEach((d) => d.open = true), true`)
		if os.Getenv("SCREENSHOTS") != "" {
			p.resize(width, min(eval[int](p, "document.documentElement.scrollHeight"), 12_000))
			// What is not seen yet is drawn in the frame after the next.
			eval[bool](p, "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 100))))")
			p.screenshot(shot + "-open")
		}
		if wide := p.widest(); wide > width {
			t.Errorf("with everything open the document is %d wide: %s", wide, p.tooWide())
		}
		if low := eval[[]string](p, contrastScript); len(low) > 0 {
			t.Errorf("dark %t: hard to read: %s", dark, strings.Join(low, "\n"))
		}
		// What the texts of a run could have become.
		if got := eval[[]string](p, `Array.from(document.querySelectorAll("img,iframe,object,embed,base,video,audio,body script ~ script,main script,main style,a[href^='javascript:' i],[onerror],[onclick],[style]"), (e) => e.outerHTML)`); len(got) > 0 {
			t.Errorf("these elements came from texts: %q", got)
		}
		p.quiet()
	}
}

// picture takes one and looks whether it has the size, and more than one colour.
func (p *tab) picture(name string, width, height int) {
	p.Helper()
	img, err := png.Decode(bytes.NewReader(p.screenshot(name)))
	if err != nil {
		p.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() != width || b.Dy() != height {
		p.Errorf("the picture is %dx%d, want %dx%d", b.Dx(), b.Dy(), width, height)
	}
	colours := map[[3]uint32]bool{}
	for x := 0; x < width; x += 7 {
		for y := 0; y < height; y += 7 {
			r, g, b, _ := img.At(x, y).RGBA()
			colours[[3]uint32{r, g, b}] = true
		}
	}
	if len(colours) < 10 {
		p.Errorf("%s has %d colours: nothing is on it", name, len(colours))
	}
}

func (p *tab) widest() int {
	p.Helper()
	return eval[int](p, "document.documentElement.scrollWidth")
}

// tooWide names what goes over the edge.
func (p *tab) tooWide() string {
	p.Helper()
	return strings.Join(eval[[]string](p, `Array.from(document.querySelectorAll("body *")).filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".box,.bar")).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))`), "\n")
}

// contrastScript lists the texts of which the contrast is below 4.5 (WCAG AA), once a
// style. Colours that are mixed are told by a canvas.
const contrastScript = `(() => {
const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
const seen = {}, grounds = new Map();
const rgb = (colour, below = "#fff") => seen[colour + below] = seen[colour + below] || (() => { pen.fillStyle = below; pen.fillRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return Array.from(pen.getImageData(0, 0, 1, 1).data).slice(0, 3); })();
const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (e) => { if (!e) return "#fff"; if (!grounds.has(e)) grounds.set(e, "rgb(" + rgb(getComputedStyle(e).backgroundColor, behind(e.parentElement)).join(",") + ")"); return grounds.get(e); };
const low = {};
for (const e of document.querySelectorAll("body *")) {
  if (!Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length || e.closest("svg,script,.skip")) continue;
  const style = getComputedStyle(e), ground = behind(e);
  const a = light(rgb(style.color, ground)), b = light(rgb(ground));
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) low[e.localName + "." + e.className + " " + style.color + " on " + ground] = contrast.toFixed(2);
}
return Object.entries(low).map((x) => x.join(": "));
})()`

// rows are the texts of the matrix that are seen: namespace, kind and name.
func (p *tab) rows() []string {
	p.Helper()
	return eval[[]string](p, `Array.from(document.querySelectorAll("#matrix tbody tr")).filter((r) => r.getClientRects().length).map((r) => [0, 1, 2].map((i) => r.cells[i].textContent).join("/"))`)
}

func filterInABrowser(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, layeredEvents()), tabOptions{width: 1280, height: 900})
	all := p.rows()
	said := func() string { return eval[string](p, `document.querySelector("form output").textContent`) }
	sections := func() int {
		return eval[int](p, `Array.from(document.querySelectorAll("#list > details")).filter((d) => d.getClientRects().length).length`)
	}
	check := func(what string, fits func(row string) bool) {
		t.Helper()
		var want []string
		for _, row := range all {
			if fits(row) {
				want = append(want, row)
			}
		}
		if len(want) == 0 || len(want) == len(all) {
			t.Fatalf("%s narrows nothing: %d of %d", what, len(want), len(all))
		}
		if got := p.rows(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s shows\n%q\nwant\n%q", what, got, want)
		}
		if got, want := said(), fmt.Sprintf("%d of %d workloads shown", len(want), len(all)); got != want {
			t.Errorf("%s says %q, want %q", what, got, want)
		}
		if got := sections(); got != len(want) {
			t.Errorf("%s leaves %d sections, want %d", what, got, len(want))
		}
	}
	p.write("input[type=search]", "SITE-1")
	check("a search", func(row string) bool { return strings.Contains(row, "/site-1") })
	p.write("input[type=search]", "")
	if got := p.rows(); len(got) != len(all) {
		t.Errorf("without a search there are %d rows, want %d", len(got), len(all))
	}
	// What only a finding of the workload has.
	p.write("input[type=search]", "escape-host-root")
	if got := p.rows(); len(got) == 0 || len(got) == len(all) {
		t.Errorf("a search for a rule shows %d of %d rows", len(got), len(all))
	}
	p.click("button[type=reset]")
	p.until(func() bool { return len(p.rows()) == len(all) })
	p.click(`input[name=v][value=closed]`)
	closed := map[string]bool{}
	for _, row := range eval[[]string](p, `Array.from(document.querySelectorAll("#matrix tbody tr")).filter((r) => r.cells[3].textContent === "closed").map((r) => [0, 1, 2].map((i) => r.cells[i].textContent).join("/"))`) {
		closed[row] = true
	}
	check("without closed ones", func(row string) bool { return !closed[row] })
	p.click("button[type=reset]")
	eval[bool](p, `(() => { const s = document.querySelector("select[name=n]"); s.value = "shop"; s.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`)
	p.until(func() bool { return len(p.rows()) != len(all) })
	check("one namespace", func(row string) bool { return strings.HasPrefix(row, "shop/") })
	if got := eval[string](p, `document.querySelector("form output").getAttribute("aria-live")`); got != "polite" {
		t.Errorf("the count is told %q", got)
	}
	p.quiet()
}

// clustersInABrowser picks one cluster of a fleet.
func clustersInABrowser(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, fleetEvents(t)), tabOptions{width: 1280, height: 900})
	all := p.rows()
	options := eval[[]string](p, `Array.from(document.querySelectorAll("select[name=c] option")).map((o) => o.value)`)
	for i := range options[1:] {
		eval[bool](p, `(() => { const s = document.querySelector("select[name=c]"); s.selectedIndex = %d; s.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`, i+1)
		p.until(func() bool { return len(p.rows()) != len(all) })
		var want []string
		for _, row := range all {
			if strings.HasPrefix(row, options[i+1]+"/") {
				want = append(want, row)
			}
		}
		if got := p.rows(); len(want) == 0 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("cluster %q shows\n%q\nwant\n%q", options[i+1], got, want)
		}
	}
	if want := []string{"", "edge-of-the-world-with-a-long-name", Clean(evil), "prod-eu", "prod-us"}; strings.Join(options, " ") != strings.Join(want, " ") {
		t.Errorf("there are %q to choose from, want %q", options, want)
	}
	first := eval[string](p, `document.querySelector("#cluster-list tbody tr").textContent`)
	if !strings.HasPrefix(first, "staging") || !strings.Contains(first, "not readunreachable") || !strings.Contains(first, "nothing is known") {
		t.Errorf("the first cluster is %q", first)
	}
	p.quiet()
}

// until waits until something is so in the document.
func (p *tab) until(is func() bool) {
	p.Helper()
	for range 1000 {
		if is() {
			return
		}
		eval[bool](p, "new Promise((done) => setTimeout(() => done(true), 10))")
	}
	p.Fatal("it is not so in time")
}

func sortInABrowser(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, layeredEvents()), tabOptions{width: 1280, height: 900})
	column := func(at int) []string {
		return eval[[]string](p, `Array.from(document.querySelectorAll("#matrix tbody tr"), (r) => r.cells[%d].textContent.trim())`, at)
	}
	heads := eval[[]string](p, `Array.from(document.querySelectorAll("#matrix thead th"), (h) => h.textContent)`)
	for i, head := range heads {
		before := column(i)
		selector := fmt.Sprintf("#matrix thead th:nth-child(%d)", i+1)
		p.click(selector + " button")
		if got := eval[string](p, `document.querySelector(%q).getAttribute("aria-sort")`, selector); got != "ascending" {
			t.Errorf("%s: aria-sort is %q", head, got)
		}
		up := column(i)
		p.click(selector + " button")
		down := column(i)
		if len(up) != len(before) || up[0] == down[0] && up[0] != up[len(up)-1] {
			t.Errorf("%s is sorted up %q and down %q", head, up, down)
		}
		switch head {
		case "Verdict":
			if up[0] != "exposed" || down[0] != "sealed" {
				t.Errorf("verdicts are sorted from %q, and down from %q", up[0], down[0])
			}
		case "Severity":
			if up[0] != "critical" || down[0] != "none" {
				t.Errorf("severities are sorted from %q, and down from %q", up[0], down[0])
			}
		case "Name":
			for k := 1; k < len(up); k++ {
				if strings.HasPrefix(up[k], "site-") && strings.HasPrefix(up[k-1], "site-") && up[k] < up[k-1] {
					t.Errorf("%q stands behind %q", up[k], up[k-1])
				}
			}
		}
	}
	if n := eval[int](p, `document.querySelectorAll("#matrix [aria-sort]").length`); n != 1 {
		t.Errorf("%d columns say that they are sorted", n)
	}
	p.quiet()
}

func themeInABrowser(t *testing.T, b *browser) {
	for _, dark := range []bool{false, true} {
		p := b.open(t, htmlOf(t, layeredEvents()), tabOptions{width: 1280, height: 900, dark: dark})
		ground := func() string { return eval[string](p, `getComputedStyle(document.body).backgroundColor`) }
		pressed := func() string { return eval[string](p, `document.getElementById("theme").getAttribute("aria-pressed")`) }
		if got := pressed(); got != fmt.Sprint(dark) {
			t.Errorf("dark %t: the button is pressed: %s", dark, got)
		}
		was := ground()
		p.click("#theme")
		if got := ground(); got == was || pressed() != fmt.Sprint(!dark) {
			t.Errorf("dark %t: after the click the ground is %s, was %s, and the button pressed: %s", dark, got, was, pressed())
		}
		p.click("#theme")
		if got := ground(); got != was {
			t.Errorf("dark %t: after two clicks the ground is %s, was %s", dark, got, was)
		}
		p.quiet()
	}
}

func linksInABrowser(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, layeredEvents()), tabOptions{width: 1280, height: 900})
	target := eval[string](p, `document.querySelector("#matrix a").hash.slice(1)`)
	p.click("#matrix a")
	p.until(func() bool { return eval[bool](p, `document.getElementById(%q).open`, target) })
	rule := eval[string](p, `document.querySelector("#" + %q + " section a").hash.slice(1)`, target)
	p.click("#" + target + " section a")
	p.until(func() bool {
		return eval[bool](p, `(() => { const e = document.getElementById(%q), r = e.getBoundingClientRect(); return e.open && r.top >= 0 && r.top < innerHeight; })()`, rule)
	})
	p.click("button[data-open]")
	if shut := eval[int](p, `document.querySelectorAll("#list details:not([open])").length`); shut != 0 {
		t.Errorf("%d sections are shut after all were opened", shut)
	}
	p.quiet()
}

func printInABrowser(t *testing.T, b *browser) {
	document := htmlOf(t, layeredEvents())
	for _, scripts := range []bool{true, false} {
		p := b.open(t, document, tabOptions{width: 800, height: 1000, print: true, noScripts: !scripts, dark: true})
		if scripts {
			eval[bool](p, `dispatchEvent(new Event("beforeprint"))`)
		}
		// A paper is white whatever the screen is, and all is open on it.
		if got := eval[string](p, `getComputedStyle(document.body).backgroundColor`); got != "rgb(255, 255, 255)" {
			t.Errorf("scripts %t: paper is %s", scripts, got)
		}
		if hidden := eval[int](p, `Array.from(document.querySelectorAll("#list h4")).filter((e) => !e.getBoundingClientRect().height).length`); hidden > 0 {
			t.Errorf("scripts %t: %d findings are not on paper", scripts, hidden)
		}
		if seen := eval[int](p, `Array.from(document.querySelectorAll("button,form,nav")).filter((e) => e.getClientRects().length && !e.closest("th")).length`); seen > 0 {
			t.Errorf("scripts %t: %d controls are on paper", scripts, seen)
		}
		var pdf struct{ Data string }
		p.call("Page.printToPDF", map[string]any{"printBackground": false}, &pdf)
		if !strings.HasPrefix(pdf.Data, "JVBERi0") {
			t.Errorf("scripts %t: no PDF came", scripts)
		}
		keepPDF(t, fmt.Sprintf("print-scripts-%t.pdf", scripts), pdf.Data)
		if scripts {
			eval[bool](p, `dispatchEvent(new Event("afterprint"))`)
			if open := eval[int](p, `document.querySelectorAll("details[open]").length`); open != 0 {
				t.Errorf("%d sections stay open after printing", open)
			}
		}
	}
}

// narrowedOnPaper looks whether paper says that rows are missing.
func narrowedOnPaper(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, layeredEvents()), tabOptions{width: 800, height: 1000, print: true})
	seen := func() bool {
		return eval[bool](p, `!!document.querySelector(".filter output").getClientRects().length`)
	}
	if seen() {
		t.Error("all rows are there, and the filter is on paper")
	}
	eval[bool](p, `(() => { const f = document.querySelector("input[type=search]"); f.value = "evil"; f.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`)
	if all, shown := eval[int](p, `document.querySelectorAll("#matrix tbody tr").length`), len(p.rows()); shown >= all || !seen() {
		t.Errorf("%d of %d rows are on paper, and it does not say so", shown, all)
	}
	if eval[bool](p, `!!document.querySelector(".filter input").getClientRects().length`) {
		t.Error("there are controls on paper")
	}
}

func withoutScripts(t *testing.T, b *browser) {
	p := b.open(t, htmlOf(t, auditEvents()), tabOptions{width: 1280, height: 1400, noScripts: true})
	p.picture("no-scripts", 1280, 1400)
	if n := eval[int](p, `Array.from(document.querySelectorAll("button,input,select")).filter((e) => e.getClientRects().length).length`); n != 0 {
		t.Errorf("%d controls are shown that do nothing", n)
	}
	section := eval[string](p, `document.querySelector("#matrix a").hash.slice(1)`)
	p.click("#" + section + " > summary")
	if !eval[bool](p, `document.getElementById(%q).open && document.querySelector("#" + %q + " h4").getClientRects().length > 0`, section, section) {
		t.Error("a section does not open")
	}
	p.quiet()
}

// largeInABrowser tells how long a large report takes to open, and bounds how much of it
// is laid out before anybody scrolls.
func largeInABrowser(t *testing.T, b *browser) {
	// A quarter under the race detector, which takes most of the time there.
	document := htmlOf(t, largeRun(browsedWorkloads))
	p := b.open(t, document, tabOptions{width: 1280, height: 900})
	times := eval[map[string]float64](p, `(() => { const n = performance.getEntriesByType("navigation")[0], paint = performance.getEntriesByName("first-contentful-paint")[0];
		return {interactive: n.domInteractive, loaded: n.loadEventEnd, painted: paint ? paint.startTime : 0}; })()`)
	var metrics struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	p.call("Performance.getMetrics", nil, &metrics)
	cpu := map[string]float64{}
	for _, m := range metrics.Metrics {
		cpu[m.Name] = 1000 * m.Value
	}
	t.Logf("the main thread has worked for %.0f ms: styles %.0f, layout %.0f, scripts %.0f", cpu["TaskDuration"], cpu["RecalcStyleDuration"], cpu["LayoutDuration"], cpu["ScriptDuration"])
	narrowed := eval[float64](p, `(() => { const f = document.querySelector("input[type=search]"), at = performance.now(); f.value = "service-0007"; f.dispatchEvent(new Event("input", {bubbles: true})); document.body.offsetHeight; return performance.now() - at; })()`)
	again := eval[float64](p, `(() => { const f = document.querySelector("input[type=search]"), at = performance.now(); f.value = "service-00"; f.dispatchEvent(new Event("input", {bubbles: true})); document.body.offsetHeight; return performance.now() - at; })()`)
	t.Logf("%d bytes: interactive after %.0f ms, painted after %.0f ms, loaded after %.0f ms; a first search takes %.0f ms, the next one %.0f ms",
		len(document), times["interactive"], times["painted"], times["loaded"], narrowed, again)
	if got := len(p.rows()); got != 100 {
		t.Errorf("the search shows %d rows, want 100", got)
	}
	p.quiet()
}

// keepPDF writes a printed document where pictures are kept.
func keepPDF(t *testing.T, name, data string) {
	t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	pdf, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), pdf, 0o600); err != nil {
		t.Fatal(err)
	}
}
