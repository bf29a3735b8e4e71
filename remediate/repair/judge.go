package repair

import (
	"time"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// NewJudge is the judge that a Repairer asks: the rules of an engine, by the spec
// alone, with what the exceptions cover marked.
func NewJudge(engine *scan.Engine, exceptions []scan.Exception, now time.Time) func(*manifest.Document) []scan.Finding {
	return func(d *manifest.Document) []scan.Finding {
		var findings []scan.Finding
		h := scan.Except(exceptions, now, scan.HandlerFunc(func(e scan.Event) error {
			if e.Finding != nil {
				findings = append(findings, *e.Finding)
			}
			return nil
		}))
		j := engine.Judge(scan.Pod{Meta: d.Meta, Spec: d.Spec}, scan.Facts{})
		for _, e := range scan.DocumentEvents(d.Workload, j, d) {
			// Neither the stage nor the handler above fails.
			_ = h.Handle(e)
		}
		return findings
	}
}
