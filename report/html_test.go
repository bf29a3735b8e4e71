package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/escape-scanner/escape-scanner/scan"
)

// markup are texts that would be more than texts in a document, or on a terminal.
var markup = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'><svg onload=alert(1)>", "</style><script>alert(1)</script>", "</title></script><iframe src=https://evil.example>",
	"javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "https://evil.example/\x1b[31m", "-->{{.}}${alert(1)}`", "\x1b]8;;https://evil.example\a click \x1b]8;;\a", " onclick=alert(1) x=", evil,
}

// markupEvents are runs of each of these, joined to one.
func markupEvents() []scan.Event {
	var events []scan.Event
	var end scan.Event
	for i, s := range markup {
		for _, e := range hostileEvents(s) {
			switch {
			case e.End != nil:
				end = e
			case e.Start == nil || i == 0:
				events = append(events, e)
			}
		}
	}
	return append(events, end)
}

// TestHTMLIsSound parses each report as browsers do and looks at what came of it.
func TestHTMLIsSound(t *testing.T) {
	t.Parallel()
	for name, events := range htmlSamples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := string(htmlOf(t, events))
			for _, r := range out {
				if r != '\n' && hidden(r) {
					t.Fatalf("%U is in the document", r)
				}
			}
			doc, err := html.Parse(strings.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			checkDocument(t, doc)
		})
	}
}

// elements are all that a report is made of.
var reportElements = strings.Fields(`html head meta title link style script body a header div svg path span button p h1 h2 h3 h4 dl dt dd b main section nav ul ol li
	code br wbr i details summary table caption thead tbody tr th td form label input select option fieldset legend output footer abbr circle rect line text g defs pattern del ins`)

func checkDocument(t *testing.T, doc *html.Node) {
	t.Helper()
	ids, links := map[string]bool{}, map[string]bool{}
	level := 0
	counts := map[string]int{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Namespace == "" {
			counts[n.Data]++
		}
		if !slices.Contains(reportElements, n.Data) {
			t.Errorf("there is a <%s>", n.Data)
		}
		if id := attribute(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("two elements are called %q", id)
			}
			ids[id] = true
		}
		for _, a := range n.Attr {
			checkAttribute(t, n, a, links)
		}
		if n.Data == "th" && attribute(n, "scope") == "" {
			t.Errorf("a th has no scope: %s", textOf(n))
		}
		if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
			next := int(n.Data[1] - '0')
			if next > level+1 {
				t.Errorf("<%s>%s</%s> follows a heading of level %d", n.Data, textOf(n), n.Data, level)
			}
			level = next
		}
		if n.Data == "svg" && attribute(n, "aria-hidden") == "" && (attribute(n, "role") != "img" || attribute(n, "aria-label") == "") {
			t.Error("a drawing has no words")
		}
	}
	for link := range links {
		if !ids[link] {
			t.Errorf("a link leads to %q, which is nowhere", link)
		}
	}
	for _, one := range []string{"h1", "main", "title", "script", "style", "header", "footer"} {
		if counts[one] != 1 {
			t.Errorf("there are %d <%s>, want one", counts[one], one)
		}
	}
}

func checkAttribute(t *testing.T, n *html.Node, a html.Attribute, links map[string]bool) {
	t.Helper()
	switch key := strings.ToLower(a.Key); {
	case key == "style", strings.HasPrefix(key, "on"), key == "src", key == "srcdoc", key == "action", key == "formaction":
		t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
	case key == "href" && strings.HasPrefix(a.Val, "#"):
		links[a.Val[1:]] = true
	case key == "href" && n.Data == "link":
	case key == "href" && (n.Data != "a" || !strings.HasPrefix(a.Val, "https://")):
		t.Errorf("<%s> leads to %q", n.Data, a.Val)
	case key == "for", key == "aria-labelledby":
		links[a.Val] = true
	}
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// document is the text of a whole report.
func documentText(t *testing.T, events []scan.Event) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(string(htmlOf(t, events))))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Data == "body" {
			return textOf(n)
		}
	}
	return ""
}

// TestHTMLHasEverything looks for each fact of a run in the text of its report.
func TestHTMLHasEverything(t *testing.T) {
	t.Parallel()
	for name, events := range htmlSamples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := documentText(t, events)
			told := map[string]bool{}
			wants := func(what string, s string) {
				s = strings.Join(strings.Fields(Clean(s)), " ")
				if s != "" && !told[s] && !strings.Contains(text, s) {
					told[s] = true
					t.Errorf("%s is not in it: %q", what, s)
				}
			}
			for _, e := range events {
				everything(e, wants)
			}
		})
	}
}

func everything(e scan.Event, wants func(what, s string)) {
	switch {
	case e.Start != nil:
		s := e.Start
		for _, fact := range append([]string{s.Cluster, s.ServerVersion, s.Level, s.PSSVersion, s.Version, s.Selector}, append(s.Namespaces, s.Notes...)...) {
			wants("a fact of the run", fact)
		}
	case e.Failure != nil:
		f := e.Failure
		wants("a failure", f.Subject)
		wants("a failure's message", f.Message)
		wants("what a failure affects", f.Affects)
		wants("the place of a failure", place(f.Location))
	case e.Finding != nil:
		findingFacts(e.Finding, wants)
	case e.Verdict != nil:
		v := e.Verdict
		wants("a workload", v.Workload.String())
		wants("a verdict's reason", v.Reason)
		wants("a claim", v.Claims)
		if v.Layers == nil {
			return
		}
		for _, c := range LayerCells(v.Layers) {
			wants("a layer", c.Text)
		}
		for i := range v.Layers.Paths {
			p := &v.Layers.Paths[i]
			for _, c := range []*scan.Cell{&p.Admission, &p.Runtime, &p.Kernel} {
				wants("the reason of a cell", c.Reason)
				wants("who decides", strings.Join(c.By, ", "))
			}
		}
	case e.Policy != nil:
		wants("a policy", e.Policy.Name)
		for _, r := range e.Policy.Reasons {
			wants("why a policy does not bite", r)
		}
	case e.Node != nil:
		nodeFacts(e.Node, wants)
	case e.Alert != nil:
		a := e.Alert
		for _, fact := range []string{a.Reason, a.Resource, a.Pod, a.Container, a.Policy, strings.Join(a.Techniques, ", ")} {
			wants("a fact of an alert", fact)
		}
	case e.Lost != nil:
		wants("a gap", e.Lost.Message)
	}
}

func findingFacts(f *scan.Finding, wants func(what, s string)) {
	wants("a rule", f.Rule)
	if says(f) {
		wants("a message", f.Message)
	}
	if f.Location != nil {
		wants("a place", f.Location.File)
		wants("a line", fmt.Sprint(f.Location.Line))
	}
	wants("a mend", f.Mend)
	for _, p := range f.Policies {
		wants("a policy that does not bite", p)
	}
	for _, l := range f.Lowered {
		wants("what lowers a finding", l.By)
	}
	if f.Excepted != nil {
		wants("an exception", f.Excepted.Reason)
	}
	switch f.Category {
	case scan.CategoryException, scan.CategoryPolicy, scan.CategoryKernel:
		return
	case scan.CategoryEscape, scan.CategoryPSS:
	}
	for _, fact := range []string{f.Field, f.Container, f.Image, value(f.Now)} {
		if fact != "unset" {
			wants("a fact of a finding", fact)
		}
	}
	if f.Fix != nil {
		if f.Fix.Op == scan.FixSet {
			wants("a fix", value(f.Fix.Value))
		}
		wants("what a fix may break", f.Fix.Note)
	}
}

func nodeFacts(n *scan.Node, wants func(what, s string)) {
	for _, fact := range []string{n.Name, n.KernelVersion, n.OSImage} {
		wants("a fact of a node", fact)
	}
	if n.Enforcement == nil {
		return
	}
	wants("why a node enforces", n.Enforcement.Reason)
	for _, ev := range n.Enforcement.Evidence {
		wants("evidence", ev.Source)
		wants("what follows from evidence", ev.Meaning)
		wants("what stood there", ev.Value)
	}
	for _, c := range n.Enforcement.Contradictions {
		wants("a contradiction", c)
	}
	if on := n.Enforcement.TurnOn; on != nil {
		for _, step := range on.Steps {
			wants("a step", step)
		}
	}
}

func TestHTMLLinksOnlyToTheWeb(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address string
		leads   bool
	}{
		{"https://example.com/a?b=c#d", true}, {"http://example.com/", true}, {"javascript:alert(1)", false}, {"JaVaScRiPt:alert(1)", false}, {" https://example.com", false},
		{"data:text/html,x", false}, {"//example.com", false}, {"https://user:pw@example.com", false}, {"https://example.com/\u202e", false}, {"file:///etc/passwd", false}, {"", false}, {"https:", false},
	} {
		if got := linkTo("text", tt.address); (got.URL != "") != tt.leads {
			t.Errorf("%q leads to %q", tt.address, got.URL)
		}
	}
}

// TestHTMLRulesOfOthers gives records of rules that lead to a script.
func TestHTMLRulesOfOthers(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	h := NewHTML(&out, HTMLOptions{Rules: []scan.Rule{{ID: "escape-privileged", Title: markup[0], HelpURL: "javascript:alert(1)", Description: strings.Join(markup, "\n")}}})
	for _, e := range largeRun(5) {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := html.Parse(strings.NewReader(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	checkDocument(t, doc)
}

func TestHTMLSaysWhatIsNotKnownFirst(t *testing.T) {
	t.Parallel()
	text := documentText(t, layeredEvents())
	unread, summary := strings.Index(text, "Not everything could be read"), strings.Index(text, "leave a way out")
	if unread < 0 || summary < 0 || unread > summary {
		t.Errorf("what could not be read stands at %d, the summary at %d", unread, summary)
	}
}

func TestHTMLNeverSoundsBetterThanItIs(t *testing.T) {
	t.Parallel()
	count := func(v ...scan.Verdict) map[scan.Verdict]int {
		m := map[scan.Verdict]int{}
		for _, v := range v {
			m[v]++
		}
		return m
	}
	for _, tt := range []struct {
		end   scan.End
		class string
	}{
		{scan.End{}, "unknown"},
		{scan.End{Workloads: 1, Verdicts: count(scan.VerdictClosed)}, "closed"},
		{scan.End{Workloads: 1, Verdicts: count(scan.VerdictClosed), Incomplete: true}, "unknown"},
		{scan.End{Workloads: 1, Verdicts: count(scan.VerdictSealed), Interrupted: true}, "unknown"},
		{scan.End{Workloads: 2, Verdicts: count(scan.VerdictGuarded, scan.VerdictSealed)}, "guarded"},
		{scan.End{Workloads: 2, Verdicts: count(scan.VerdictUnknown, scan.VerdictSealed)}, "unknown"},
		{scan.End{Workloads: 2, Verdicts: count(scan.VerdictExposed, scan.VerdictUnknown)}, "exposed"},
		{scan.End{Workloads: 2, Verdicts: count(scan.VerdictClosed)}, "unknown"},
		{scan.End{Workloads: 1, Verdicts: count("fine")}, "unknown"},
	} {
		if got := headline(&tt.end, 0); got.Class != tt.class || got.Text == "" {
			t.Errorf("%+v is %+v, want %s", tt.end, got, tt.class)
		}
	}
}

func TestHTMLDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	t.Parallel()
	events := layeredEvents()
	want := htmlOf(t, events)
	last := len(events) - 1
	slices.Reverse(events[1:last])
	if got := htmlOf(t, events); string(got) != string(want) {
		t.Errorf("other events first: %s", firstDifference(got, want))
	}
}

func TestHTMLCountsAlertsWithoutARow(t *testing.T) {
	t.Parallel()
	events := []scan.Event{auditEvents()[0]}
	for i := range mostHTMLAlerts + 7 {
		events = append(events, scan.Event{Alert: watchAlert(fmt.Sprintf("many-%d", i))})
	}
	text := documentText(t, append(events, scan.Event{End: &scan.End{}}))
	for _, want := range []string{"7 more alerts have no row here", fmt.Sprintf("%d incidents", mostHTMLAlerts+7), fmt.Sprintf("%d more alerts are not drawn", mostHTMLAlerts+7-mostMarks)} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// Where not all could be heard, that nothing was is no good news.
func TestHTMLDoesNotPassOffDeafnessAsQuiet(t *testing.T) {
	t.Parallel()
	start := *auditEvents()[0].Start
	start.Alerts = true
	quiet := []scan.Event{{Start: &start}, {End: &scan.End{}}}
	deaf := []scan.Event{{Start: &start}, {Failure: &scan.Failure{Subject: "alerts of 10.0.0.1:32767", Reason: scan.FailureUnreachable}}, {End: &scan.End{Failures: 1, Incomplete: true}}}
	const doubt = "not all could be heard"
	if text := documentText(t, quiet); strings.Contains(text, doubt) || !strings.Contains(text, "No incident.") {
		t.Error("of a quiet time it is not said that nothing happened")
	}
	if text := documentText(t, deaf); !strings.Contains(text, doubt) || strings.Contains(text, "No incident.") {
		t.Error("nobody could listen, and it reads as if nothing had happened")
	}
}

// Ways out that have no line are counted, and bars are as long as what is shown asks for.
func TestHTMLCountsWaysWithoutALine(t *testing.T) {
	t.Parallel()
	events := []scan.Event{layeredEvents()[0]}
	for i := range maxListed + 2 {
		w := sampleWorkload("shop", "Deployment", fmt.Sprintf("w%d", i))
		severity := scan.SeverityCritical
		paths := []string{fmt.Sprintf("escape-%d", i), "escape-low"}
		for _, id := range paths {
			events = append(events, scan.Event{Finding: &scan.Finding{Rule: id, Category: scan.CategoryEscape, Workload: w, Severity: severity, Open: true}})
			severity = scan.SeverityLow
		}
		events = append(events, scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Paths: paths}})
	}
	events = append(events, scan.Event{End: &scan.End{Workloads: maxListed + 2}})
	h := NewHTML(io.Discard, HTMLOptions{}).(*htmlReport)
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	ways, more := h.htmlWays(newRuleBook(nil))
	if len(ways) != maxListed || more != 3 || ways[0].Bar.Parts[0].Len != "100" {
		t.Errorf("%d ways, %d more, the first %s long", len(ways), more, ways[0].Bar.Parts[0].Len)
	}
	if text := documentText(t, events); !strings.Contains(text, "And 3 other ways out") {
		t.Error("the ways that are left out are not counted")
	}
}

func FuzzHTML(f *testing.F) {
	seeds(f)
	for _, s := range markup {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		doc, err := html.Parse(strings.NewReader(string(htmlOf(t, hostileEvents(s)))))
		if err != nil {
			t.Fatal(err)
		}
		checkDocument(t, doc)
	})
}
