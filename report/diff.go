package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Comparison is a Diff with what a reader has to know of it.
type Comparison struct {
	Tool, Version string
	Time          time.Time
	// OldFile and NewFile are what the runs were read from.
	OldFile, NewFile string
	Diff             *scan.Diff
}

// notes are what makes a difference doubtful as a whole.
func (c *Comparison) notes() []string {
	var notes []string
	if c.Diff.Swapped() {
		notes = append(notes, "the old run is later than the new one: are they swapped?")
	}
	for _, d := range c.Diff.Differences {
		notes = append(notes, fmt.Sprintf("the runs differ in %s: %s, then %s; a change may be due to that alone",
			d.What, diffOrNone(d.Old), diffOrNone(d.New)))
	}
	return notes
}

func diffOrNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// diffSide is one of the runs, with the word for it.
type diffSide struct {
	word, file string
	*scan.DiffSide
}

func (c *Comparison) sides() [2]diffSide {
	return [2]diffSide{{"old", c.OldFile, c.Diff.Old}, {"new", c.NewFile, c.Diff.New}}
}

// diffCount is one number of both runs.
type diffCount struct {
	group, name string
	old, new    int
}

// change is by how much it grew, with its sign; empty where it did not.
func (c diffCount) change() string {
	if c.old == c.new {
		return ""
	}
	return fmt.Sprintf("%+d", c.new-c.old)
}

// counts are the tallies of both runs beside each other.
func (c *Comparison) counts() []diffCount {
	old, new := endOf(c.Diff.Old), endOf(c.Diff.New)
	list := []diffCount{{"", "workloads", old.Workloads, new.Workloads}, {"", "pods", old.Pods, new.Pods}}
	for _, v := range scan.Verdicts() {
		list = append(list, diffCount{"verdicts", string(v), old.Verdicts[v], new.Verdicts[v]})
	}
	for _, s := range scan.Severities() {
		list = append(list, diffCount{"findings", string(s), old.Findings[s], new.Findings[s]})
	}
	return append(list, diffCount{"findings", "excepted", old.Excepted, new.Excepted}, diffCount{"", "could not be read", old.Failures, new.Failures})
}

func endOf(s *scan.DiffSide) *scan.End {
	if end := s.End(); end != nil {
		return end
	}
	return &scan.End{}
}

// diffTally is how much there is of one kind of change.
type diffTally struct {
	id string
	// one and many are the words for it.
	one, many string
	n         int
	style     style
}

func (t diffTally) text() string {
	if t.n == 1 {
		return "1 " + t.one
	}
	return fmt.Sprintf("%d %s", t.n, t.many)
}

// tallies count the changes, in the order in which they are told.
func (c *Comparison) tallies() []diffTally {
	d := c.Diff
	n := &d.NotKnown
	worse, better := 0, 0
	for i := range d.Verdicts {
		switch d.Verdicts[i].Turn {
		case scan.TurnWorse:
			worse++
		case scan.TurnBetter:
			better++
		case scan.TurnUnknown:
		}
	}
	return []diffTally{
		{"verdicts", "verdict worse", "verdicts worse", worse, alarm},
		{"verdicts", "verdict unknown now", "verdicts unknown now", len(d.Verdicts) - worse - better, doubtful},
		{"verdicts", "verdict better", "verdicts better", better, green},
		{"opened", "finding opened", "findings opened", len(d.Opened), red},
		{"closed", "finding closed", "findings closed", len(d.Closed), green},
		{"excepted", "finding excepted", "findings excepted", len(d.Excepted), yellow},
		{"unexcepted", "finding excepted no more", "findings excepted no more", len(d.Unexcepted), red},
		{"severities", "finding of another severity", "findings of another severity", len(d.Severities), yellow},
		{"workloads", "workload came", "workloads came", len(d.Came), plain},
		{"workloads", "workload went", "workloads went", len(d.Went), plain},
		{"policies", "policy changed", "policies changed", len(d.Policies), plain},
		{"nodes", "node changed", "nodes changed", len(d.Nodes), plain},
		{"unread", "thing not read any more", "things not read any more", len(d.Unread), alarm},
		{"unread", "thing can be read now", "things can be read now", len(d.Readable), green},
		{"unknown", "not known", "not known", len(n.Findings) + len(n.Workloads) + len(n.Policies) + len(n.Nodes) + len(n.Failures), doubtful},
	}
}

// The words for what became of a policy, a node or a workload.
const (
	wordCame  = "came"
	wordWent  = "went"
	wordOther = "changed"
)

// diffBecame is what became of something.
func diffBecame[T any](p *scan.Pair[T]) string {
	switch {
	case p.Was == nil:
		return wordCame
	case p.Now == nil:
		return wordWent
	}
	return wordOther
}

// diffPolicyTurn is what became of a policy.
func diffPolicyTurn(p *scan.Pair[scan.Policy]) string {
	switch word := diffBecame(p); {
	case word != wordOther:
		return word
	case p.Now.Bites == scan.BitesYes:
		return "bites now"
	case p.Now.Bites == scan.BitesUnknown:
		return "may not bite"
	case p.Now.Bites == scan.BitesNo:
		return "ceased to bite"
	case p.Was.Bites == scan.BitesYes:
		return "bites less"
	}
	return "bites partly"
}

func diffPolicyName(p *scan.Policy) string {
	w := scan.Workload{Namespace: p.Namespace, Kind: p.Kind, Name: p.Name}
	return w.String()
}

// diffEnforcementText is in a few words what a node enforces.
func diffEnforcementText(n *scan.Node) string {
	if n == nil || n.Enforcement == nil {
		return "not looked at"
	}
	text := enforcementSpans(n.Enforcement)[0].text
	if n.Enforcement.Agent == kernel.No {
		text += ", no KubeArmor ready"
	}
	return text
}

func diffExceptedText(x *scan.Excepted) string {
	if x == nil {
		return ""
	}
	text := x.Reason
	if x.Expires != "" {
		text = strings.TrimSpace(text + " (until " + x.Expires + ")")
	}
	return text
}

// doubtMark marks on a terminal what diffDoubt is said of.
const doubtMark = "may be no change"

// diffDoubt says why something may only not have been seen as it was.
func diffDoubt(doubt string) string { return labelled(doubtMark+":", doubt) }
