package report

import (
	"io"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// DiffSchemaVersion is the version of the document of diff. Fields are added under the
// same number and never renamed.
const DiffSchemaVersion = 1

// diffJSON is the document of diff; its keys stand in this order.
type diffJSON struct {
	Schema  int       `json:"schema"`
	Tool    string    `json:"tool"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	// Changed is false where nothing is other.
	Changed     bool               `json:"changed"`
	Old         diffRunJSON        `json:"old"`
	New         diffRunJSON        `json:"new"`
	Swapped     bool               `json:"swapped,omitempty"`
	Differences []scan.Difference  `json:"differences"`
	Verdicts    []diffVerdictJSON  `json:"verdicts"`
	Opened      []diffFindingJSON  `json:"opened"`
	Closed      []diffFindingJSON  `json:"closed"`
	Excepted    []diffFindingJSON  `json:"excepted"`
	Unexcepted  []diffFindingJSON  `json:"unexcepted"`
	Severities  []diffFindingJSON  `json:"severities"`
	Came        []diffWorkloadJSON `json:"came"`
	Went        []diffWorkloadJSON `json:"went"`
	Policies    []diffPolicyJSON   `json:"policies"`
	Nodes       []diffNodeJSON     `json:"nodes"`
	Unread      []*scan.Failure    `json:"unread"`
	Readable    []*scan.Failure    `json:"readable"`
	NotKnown    diffNotKnownJSON   `json:"notKnown"`
}

// diffRunJSON is one of the runs.
type diffRunJSON struct {
	File     string          `json:"file"`
	Start    *scan.Start     `json:"start"`
	Failures []*scan.Failure `json:"failures"`
	End      *scan.End       `json:"end"`
}

// diffFindingJSON is a finding of one of the runs, or of both.
type diffFindingJSON struct {
	Was   *findingJSON `json:"was,omitempty"`
	Now   *findingJSON `json:"now,omitempty"`
	With  bool         `json:"withWorkload,omitempty"`
	Doubt string       `json:"doubt,omitempty"`
}

type diffVerdictJSON struct {
	Turn     scan.Turn             `json:"turn"`
	Was      *scan.WorkloadVerdict `json:"was"`
	Now      *scan.WorkloadVerdict `json:"now"`
	Excepted bool                  `json:"excepted,omitempty"`
	Doubt    string                `json:"doubt,omitempty"`
}

type diffWorkloadJSON struct {
	Verdict *scan.WorkloadVerdict `json:"verdict"`
	Doubt   string                `json:"doubt,omitempty"`
}

type diffPolicyJSON struct {
	Was   *scan.Policy `json:"was,omitempty"`
	Now   *scan.Policy `json:"now,omitempty"`
	Doubt string       `json:"doubt,omitempty"`
}

type diffNodeJSON struct {
	Was   *scan.Node `json:"was,omitempty"`
	Now   *scan.Node `json:"now,omitempty"`
	Doubt string     `json:"doubt,omitempty"`
}

type diffFailureJSON struct {
	Failure *scan.Failure `json:"failure"`
	Doubt   string        `json:"doubt"`
}

type diffNotKnownJSON struct {
	Findings  []diffFindingJSON  `json:"findings"`
	Workloads []diffWorkloadJSON `json:"workloads"`
	Policies  []diffPolicyJSON   `json:"policies"`
	Nodes     []diffNodeJSON     `json:"nodes"`
	Failures  []diffFailureJSON  `json:"failures"`
}

// WriteDiffJSON writes a comparison as one document.
func WriteDiffJSON(w io.Writer, c *Comparison) error {
	d := c.Diff
	sides := c.sides()
	doc := diffJSON{
		Schema: DiffSchemaVersion, Tool: c.Tool, Version: c.Version, Time: c.Time.UTC(), Changed: !d.Empty(), Swapped: d.Swapped(),
		Old: diffRun(sides[0]), New: diffRun(sides[1]), Differences: orEmpty(d.Differences),
		Verdicts: diffEach(d.Verdicts, func(p *scan.VerdictPair) diffVerdictJSON {
			return diffVerdictJSON{p.Turn, p.Was, p.Now, p.Excepted, p.Doubt}
		}),
		Opened: diffEach(d.Opened, diffFinding), Closed: diffEach(d.Closed, diffFinding),
		Excepted: diffEach(d.Excepted, diffFinding), Unexcepted: diffEach(d.Unexcepted, diffFinding), Severities: diffEach(d.Severities, diffFinding),
		Came: diffEach(d.Came, diffWorkload), Went: diffEach(d.Went, diffWorkload),
		Policies: diffEach(d.Policies, diffPolicy), Nodes: diffEach(d.Nodes, diffNode),
		Unread: orEmpty(d.Unread), Readable: orEmpty(d.Readable),
		NotKnown: diffNotKnownJSON{
			Findings: diffEach(d.NotKnown.Findings, diffFinding), Workloads: diffEach(d.NotKnown.Workloads, diffWorkload),
			Policies: diffEach(d.NotKnown.Policies, diffPolicy), Nodes: diffEach(d.NotKnown.Nodes, diffNode),
			Failures: diffEach(d.NotKnown.Failures, func(p *scan.Pair[scan.Failure]) diffFailureJSON { return diffFailureJSON{p.Was, p.Doubt} }),
		},
	}
	return writeDocument(w, "diff", doc)
}

// diffEach makes of every element of a list another, and an empty list of none.
func diffEach[A, B any](list []A, f func(*A) B) []B {
	out := make([]B, len(list))
	for i := range list {
		out[i] = f(&list[i])
	}
	return out
}

func diffRun(s diffSide) diffRunJSON {
	return diffRunJSON{File: s.file, Start: s.Start(), Failures: orEmpty(s.Failures()), End: endOf(s.DiffSide)}
}

func diffFinding(p *scan.FindingPair) diffFindingJSON {
	one := func(f *scan.Finding) *findingJSON {
		if f == nil {
			return nil
		}
		return newFindingJSON(f)
	}
	return diffFindingJSON{one(p.Was), one(p.Now), p.With, p.Doubt}
}

func diffWorkload(p *scan.Pair[scan.WorkloadVerdict]) diffWorkloadJSON {
	return diffWorkloadJSON{p.Either(), p.Doubt}
}

func diffPolicy(p *scan.Pair[scan.Policy]) diffPolicyJSON {
	return diffPolicyJSON{p.Was, p.Now, p.Doubt}
}

func diffNode(p *scan.Pair[scan.Node]) diffNodeJSON { return diffNodeJSON{p.Was, p.Now, p.Doubt} }
