package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// escapePathsIntro says what holds for all paths.
const escapePathsIntro = `# Escape paths

Every way out of a container that escape-scanner knows: what opens it, how it is used, and
which layer can stand in the way. A pod's spec opens them; whether a layer really bites is
asked cluster by cluster ([how verdicts are made](verdicts.md)). Each section links the page
of its rule, with the steps that an attacker takes at run time and all references;
` + "`escape-scanner rules explain ID`" + ` prints the same.

- **Admission** names the controls of the
  [Pod Security Standards](https://kubernetes.io/docs/concepts/security/pod-security-standards/)
  that refuse the path, and the lowest level that refuses every instance of it. They read the
  pod: a path of the host that comes through a persistent volume claim passes all of them.
- **Runtime** names the capabilities that a KubeArmor policy has to block, as many of them as
  the container holds, on a node that enforces it. *Nothing* means that some known way along
  the path asks for nothing that such a policy can name: only admission keeps these pods out.
- **Weaker with** is what takes from the path in the pod itself.
`

// EscapePaths writes the page on all escape paths in Markdown: a table, then a section
// for each, the worst first, and last what only makes others worse.
func EscapePaths(w io.Writer, rules []scan.Rule) error {
	rules = slices.DeleteFunc(slices.Clone(rules), func(r scan.Rule) bool { return r.Category != scan.CategoryEscape })
	slices.SortFunc(rules, func(a, b scan.Rule) int {
		if a.Aggravates != b.Aggravates {
			if a.Aggravates {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.ID, b.ID))
	})
	var b bytes.Buffer
	b.WriteString(generatedNote + escapePathsIntro)
	b.WriteString("\n| Escape path | Severity | Admission | Runtime | ATT&CK |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range rules {
		admission, runtime := "-", "-"
		if d, ok := scan.DefenceOf(r.ID); ok {
			admission, runtime = d.Level, "nothing"
			if len(d.Gates) > 0 {
				runtime = strings.Join(d.Gates, ", ")
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s |\n", Clean(r.ID), Clean(r.ID),
			markdownCell(string(r.Severity)), markdownCell(admission), markdownCell(runtime), techniques(r))
	}
	for _, r := range rules {
		escapePath(&b, r)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// escapePath writes the section of one path.
func escapePath(b *bytes.Buffer, r scan.Rule) {
	fmt.Fprintf(b, "\n## %s\n\n**%s**, %s. [The rule's page](rules/%s)\n", Clean(r.ID), markdown(r.Title), Clean(string(r.Severity)), RulePageName(r))
	fmt.Fprintf(b, "\n%s\n", paragraph(r.Description))
	if r.Aggravates {
		fmt.Fprintf(b, "\n%s\n", aggravationNote)
	}
	fmt.Fprintf(b, "\n- **Used so:** %s\n", paragraph(r.Attack))
	if d, ok := scan.DefenceOf(r.ID); ok {
		fmt.Fprintf(b, "- **Admission:** %s (%s)\n", codes(d.Controls), Clean(d.Level))
		if len(d.Gates) > 0 {
			fmt.Fprintf(b, "- **Runtime:** a KubeArmor policy that blocks %s\n", codes(d.Gates))
		} else {
			fmt.Fprintf(b, "- **Runtime:** nothing; %s\n", paragraph(d.Ungated))
		}
		for _, l := range d.Lowered {
			becomes := "closed"
			if !l.Closes {
				becomes = string(l.To)
			}
			fmt.Fprintf(b, "- **Weaker with** %s: %s; %s\n", markdown(l.By), Clean(becomes), paragraph(l.Reason))
		}
	}
	fmt.Fprintf(b, "- **Fix:** %s\n", paragraph(r.Remediation))
	fmt.Fprintf(b, "- **ATT&CK:** %s\n", techniques(r))
}

// paragraph is text on one line of Markdown.
func paragraph(s string) string { return markdown(strings.Join(strings.Fields(s), " ")) }

func codes(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, n := range names {
		quoted = append(quoted, "`"+Clean(n)+"`")
	}
	return strings.Join(quoted, ", ")
}

func techniques(r scan.Rule) string {
	links := make([]string, 0, len(r.MITRE))
	for _, id := range r.MITRE {
		links = append(links, fmt.Sprintf("[%s](%s)", Clean(id), mitreURL(id)))
	}
	return strings.Join(links, ", ")
}
