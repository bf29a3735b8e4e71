package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/owenrumney/go-sarif/v2/sarif"

	"github.com/escape-scanner/escape-scanner/scan"
)

// What GitHub code scanning takes of a rule.
const (
	maxText = 1024
	maxTags = 20
)

// ruleTable holds the rules that have results, sorted by ID, and where each is.
type ruleTable struct {
	descriptors []*sarif.ReportingDescriptor
	index       map[string]int
}

func newRuleTable(opts *SARIFOptions, findings []*scan.Finding) *ruleTable {
	rules := opts.Rules
	records := make(map[string]scan.Rule, len(rules))
	for _, r := range rules {
		records[r.ID] = r
	}
	t := &ruleTable{descriptors: []*sarif.ReportingDescriptor{}, index: map[string]int{}}
	var used []scan.Rule
	for _, f := range findings {
		if _, ok := t.index[f.Rule]; ok {
			continue
		}
		t.index[f.Rule] = -1
		record, ok := records[f.Rule]
		if !ok {
			record = strangeRule(f, opts.InformationURI)
		}
		used = append(used, record)
	}
	slices.SortFunc(used, func(a, b scan.Rule) int { return cmp.Compare(a.ID, b.ID) })
	for i, r := range used {
		t.index[r.ID] = i
		t.descriptors = append(t.descriptors, descriptor(r))
	}
	return t
}

// strangeRule makes a record for a rule of which only a finding is known, as in
// a stream of another version. It leads to the tool's page.
func strangeRule(f *scan.Finding, page string) scan.Rule {
	return scan.Rule{
		ID: f.Rule, Category: f.Category, Level: f.Level, Title: f.Title,
		Description: f.Title, Severity: f.Severity, HelpURL: page,
	}
}

func descriptor(r scan.Rule) *sarif.ReportingDescriptor {
	title := cmp.Or(Clean(r.Title), Clean(r.ID))
	d := sarif.NewRule(Clean(r.ID)).
		WithName(ruleName(r)).
		WithShortDescription(sarif.NewMultiformatMessageString(limitRunes(title, maxText))).
		WithFullDescription(sarif.NewMultiformatMessageString(limitRunes(cmp.Or(prose(r.Description), title), maxText))).
		WithTextHelp(cmp.Or(helpText(r), title)).
		WithMarkdownHelp(helpMarkdown(r, title))
	if r.HelpURL != "" {
		d.WithHelpURI(r.HelpURL)
	}
	d.DefaultConfiguration = sarif.NewReportingConfiguration().WithLevel(level(r.Severity))
	d.Properties = sarif.Properties{
		"tags":              tags(r),
		"precision":         "high",
		"security-severity": securitySeverity(r),
	}
	return d
}

// ruleName is the title in PascalCase. It must not equal the ID.
func ruleName(r scan.Rule) string {
	var b strings.Builder
	title := strings.ReplaceAll(r.Title, "'", "")
	for _, word := range strings.FieldsFunc(title, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c)
	}) {
		first, rest := []rune(word)[:1], []rune(word)[1:]
		b.WriteString(string(unicode.ToUpper(first[0])) + string(rest))
	}
	name := limitRunes(cmp.Or(b.String(), "Rule"), 255)
	if name == r.ID {
		name += "Rule"
	}
	return name
}

func helpText(r scan.Rule) string {
	var parts []string
	for _, part := range []string{r.Description, r.Attack, r.Remediation} {
		if part != "" {
			parts = append(parts, prose(part))
		}
	}
	return strings.Join(parts, "\n\n")
}

func helpMarkdown(r scan.Rule, title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", title)
	for _, part := range []struct{ heading, text string }{
		{"", r.Description},
		{attackHeading(r), r.Attack},
		{fixHeading(r), r.Remediation},
	} {
		if part.text == "" {
			continue
		}
		if part.heading != "" {
			fmt.Fprintf(&b, "\n## %s\n", part.heading)
		}
		fmt.Fprintf(&b, "\n%s\n", prose(part.text))
	}
	if refs := references(r); len(refs) > 0 {
		fmt.Fprintf(&b, "\n## References\n\n- %s\n", strings.Join(refs, "\n- "))
	}
	return b.String()
}

// prose cleans text that has paragraphs.
func prose(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	return strings.Join(lines, "\n")
}

func references(r scan.Rule) []string {
	var refs []string
	for _, id := range r.MITRE {
		refs = append(refs, "MITRE ATT&CK "+Clean(id))
	}
	if r.KubeHound != "" {
		refs = append(refs, "KubeHound "+Clean(r.KubeHound))
	}
	for _, c := range r.CIS {
		refs = append(refs, Clean("CIS Kubernetes Benchmark "+c.Version+", "+c.ID))
	}
	for _, n := range r.CWE {
		refs = append(refs, fmt.Sprintf("CWE-%d", n))
	}
	if r.HelpURL != "" {
		refs = append(refs, "<"+Clean(r.HelpURL)+">")
	}
	return refs
}

// tags are at most maxTags, those that tools look for first.
func tags(r scan.Rule) []string {
	list := []string{"security", "kubernetes"}
	for _, n := range r.CWE {
		list = appendNew(list, fmt.Sprintf("external/cwe/cwe-%03d", n))
	}
	for _, id := range r.MITRE {
		list = appendNew(list, Clean("external/mitre/"+id))
	}
	for _, c := range r.CIS {
		list = appendNew(list, Clean("external/cis-kubernetes-"+c.Version+"/"+c.ID))
	}
	if r.KubeHound != "" {
		list = appendNew(list, Clean("external/kubehound/"+r.KubeHound))
	}
	list = appendNew(list, Clean(string(r.Category)))
	if r.Level != "" {
		list = appendNew(list, Clean("pss-"+r.Level))
	}
	return list[:min(len(list), maxTags)]
}

// level maps a severity to the levels of SARIF.
func level(s scan.Severity) string {
	switch s {
	case scan.SeverityCritical, scan.SeverityHigh:
		return "error"
	case scan.SeverityMedium:
		return "warning"
	case scan.SeverityLow:
		return "note"
	case scan.SeverityNone:
		return "none"
	}
	return "warning"
}

// securitySeverity is the rule's score, or the middle of its severity's band.
func securitySeverity(r scan.Rule) string {
	score := r.SecuritySeverity
	if score <= 0 || score > 10 {
		switch r.Severity {
		case scan.SeverityCritical:
			score = 9.5
		case scan.SeverityHigh:
			score = 8.0
		case scan.SeverityMedium:
			score = 5.5
		case scan.SeverityLow, scan.SeverityNone:
			score = 2.5
		default:
			score = 5.5
		}
	}
	return fmt.Sprintf("%.1f", score)
}
