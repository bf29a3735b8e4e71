package report

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// htmlRule is a rule that the report speaks of, explained once.
type htmlRule struct {
	ID, Anchor, Title, Facts string
	Severity                 scan.Severity
	Description              []string
	Aggravates               bool
	AttackHeading            string
	Attack                   []string
	Steps                    []scan.Step
	NoSteps                  bool
	FixHeading               string
	Fix                      []string
	Links                    []htmlLink
	// Findings is how often it was found, Known whether there is a record of it.
	Findings int
	Known    bool
}

// htmlLink is text that leads somewhere; URL is empty where it does not.
type htmlLink struct{ Text, URL string }

// ruleBook gathers the rules that are spoken of.
type ruleBook struct {
	records map[string]*scan.Rule
	rules   map[string]*htmlRule
}

func newRuleBook(records map[string]*scan.Rule) *ruleBook {
	return &ruleBook{records: records, rules: map[string]*htmlRule{}}
}

// of is the entry of a rule, made when it is first spoken of.
func (b *ruleBook) of(id string) *htmlRule {
	if r := b.rules[id]; r != nil {
		return r
	}
	r := &htmlRule{ID: id, Anchor: ruleAnchor(id)}
	b.rules[id] = r
	if record := b.records[id]; record != nil {
		r.fill(record)
	}
	return r
}

// ruleAnchor names the place of a rule in the document.
func ruleAnchor(id string) string {
	if plainWord(id) {
		return "r-" + id
	}
	// One that is no word comes from a file of events: any name does that is its own.
	return fmt.Sprintf("r.%x", sha256.Sum256([]byte(id)))
}

// cite counts a finding of a rule.
func (b *ruleBook) cite(f *scan.Finding) *htmlRule {
	r := b.of(f.Rule)
	r.Findings++
	if !r.Known && r.Title == "" {
		r.Title, r.Severity = f.Title, f.Severity
	}
	return r
}

// pages are the rules, the worst first.
func (b *ruleBook) pages() []*htmlRule {
	var list []*htmlRule
	for _, r := range b.rules {
		r.Title = cmp.Or(r.Title, r.ID)
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *htmlRule) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (r *htmlRule) fill(record *scan.Rule) {
	r.Known, r.Title, r.Severity, r.Aggravates, r.Steps = true, record.Title, record.Severity, record.Aggravates, record.Steps
	r.Facts = ruleFacts(*record)
	r.Description, r.Attack, r.Fix = paragraphs(record.Description), paragraphs(record.Attack), paragraphs(record.Remediation)
	r.AttackHeading, r.FixHeading = attackHeading(*record), fixHeading(*record)
	r.NoSteps = len(record.Steps) == 0 && record.Category == scan.CategoryEscape && !record.Aggravates
	for _, l := range ruleLinks(*record) {
		text := l.text
		if text == moreLink {
			// Many links of one name lead nowhere for who hears them, and none on paper.
			text = ""
		}
		r.Links = append(r.Links, linkTo(text, l.url))
	}
}

// paragraphs are the lines of prose.
func paragraphs(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// linkTo leads to an address of the web. Any other is shown and leads nowhere.
func linkTo(text, address string) htmlLink {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || Clean(address) != address {
		return htmlLink{Text: joined(" ", text, address)}
	}
	return htmlLink{Text: cmp.Or(text, address), URL: address}
}

// plainWord reports whether a text can name a place in a document as it is.
func plainWord(s string) bool { return s != "" && shellSafe(s) && !strings.Contains(s, "/") }
