package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Explain writes a rule for a person at a terminal: what it means, how it is
// used, what would have to be stopped at run time, how to mend it and where to
// read on. Lines are wrapped to width cells, at most 100, for longer ones are
// hard to read; with width 0 every paragraph is one line.
func Explain(w io.Writer, r scan.Rule, width int) error {
	e := explanation{width: width}
	if width > 0 {
		e.width = min(max(width, 20), 100)
	}
	e.text(0, Clean(r.ID)+": "+Clean(r.Title))
	e.text(0, ruleFacts(r))
	e.section("", r.Description)
	if r.Aggravates {
		e.section("", aggravationNote)
	}
	e.section(attackHeading(r), r.Attack)
	if len(r.Steps) > 0 {
		e.heading("Steps at run time")
		for _, s := range r.Steps {
			e.text(2, fmt.Sprintf("%-10s  %s", Clean(string(s.Kind)), Clean(s.Name)))
		}
	} else if r.Category == scan.CategoryEscape && !r.Aggravates {
		e.section("Steps at run time", noStepsNote)
	}
	e.section(fixHeading(r), r.Remediation)
	if links := ruleLinks(r); len(links) > 0 {
		e.heading("References")
		for _, l := range links {
			e.text(2, strings.TrimSpace(l.text+" "+l.url))
		}
	}
	_, err := w.Write(e.out.Bytes())
	return err
}

// What a page says where a rule's record has nothing.
const (
	aggravationNote = "It is no way out by itself: it makes another one easier, and is reported only beside one that is open."
	noStepsNote     = "None: the spec alone gives the host away, so there is nothing that a policy at run time could stop."
)

// explanation is the text of a rule in the making.
type explanation struct {
	out   bytes.Buffer
	width int
}

// section writes paragraphs below a heading, which may be empty, and nothing
// when there is no text.
func (e *explanation) section(heading, text string) {
	if text == "" {
		return
	}
	indent := 0
	if heading != "" {
		e.heading(heading)
		indent = 2
	} else {
		e.out.WriteByte('\n')
	}
	for line := range strings.Lines(prose(text)) {
		e.text(indent, strings.TrimRight(line, "\n"))
	}
}

func (e *explanation) heading(s string) {
	e.out.WriteByte('\n')
	e.text(0, s)
}

// text writes one line of clean text, wrapped.
func (e *explanation) text(indent int, s string) {
	for {
		head, rest := s, ""
		if e.width > 0 {
			head, rest = cut(s, e.width-indent)
		}
		e.out.WriteString(strings.TrimRight(strings.Repeat(" ", indent)+head, " ") + "\n")
		if s = rest; s == "" {
			return
		}
	}
}

// ruleFacts is how bad a rule is and which table it stands in.
func ruleFacts(r scan.Rule) string {
	return fmt.Sprintf("%s (%s), %s", Clean(string(r.Severity)), securitySeverity(r), tableName(r))
}

// attackHeading is above what a rule's record says of attackers: what does not bite
// and what does not enforce is no attack of its own.
func attackHeading(r scan.Rule) string {
	if r.Category == scan.CategoryPolicy || r.Category == scan.CategoryKernel {
		return "What it leaves to an attacker"
	}
	return "What an attacker does"
}

// fixHeading is above the remediation.
func fixHeading(r scan.Rule) string {
	switch r.Category {
	case scan.CategoryPolicy:
		return "How to make it bite"
	case scan.CategoryKernel:
		return "How to make the node enforce"
	default:
		return "How to fix it"
	}
}

// tableName is the table that a rule stands in, for people.
func tableName(r scan.Rule) string {
	switch r.Category {
	case scan.CategoryEscape:
		if r.Aggravates {
			return "escape path, aggravation"
		}
		return "escape path"
	case scan.CategoryPSS:
		return Clean("Pod Security Standards, " + cmp.Or(r.Level, "any level"))
	case scan.CategoryException:
		return "exceptions"
	case scan.CategoryPolicy:
		return "policies that do not bite"
	case scan.CategoryKernel:
		return "kernels of the nodes"
	}
	return Clean(string(r.Category))
}

// ruleLink is one thing to read on; url is empty where there is no page for it.
type ruleLink struct{ text, url string }

// moreLink is the text of the link to a rule's page.
const moreLink = "More"

// ruleLinks are the references of a rule with their addresses.
func ruleLinks(r scan.Rule) []ruleLink {
	var links []ruleLink
	for _, id := range r.MITRE {
		links = append(links, ruleLink{"MITRE ATT&CK " + Clean(id), mitreURL(id)})
	}
	if r.KubeHound != "" {
		links = append(links, ruleLink{"KubeHound " + Clean(r.KubeHound),
			"https://kubehound.io/reference/attacks/" + Clean(r.KubeHound) + "/"})
	}
	for _, c := range r.CIS {
		links = append(links, ruleLink{Clean("CIS Kubernetes Benchmark " + c.Version + ", " + c.ID), ""})
	}
	for _, n := range r.CWE {
		links = append(links, ruleLink{fmt.Sprintf("CWE-%d", n),
			fmt.Sprintf("https://cwe.mitre.org/data/definitions/%d.html", n)})
	}
	for _, l := range links {
		if l.url == r.HelpURL {
			return links
		}
	}
	if r.HelpURL != "" {
		links = append(links, ruleLink{moreLink, Clean(r.HelpURL)})
	}
	return links
}

// mitreURL is the page of a technique. Sub-techniques have a folder of their own:
// T1552.005 is T1552/005.
func mitreURL(id string) string {
	return "https://attack.mitre.org/techniques/" + strings.ReplaceAll(Clean(id), ".", "/") + "/"
}
