package report

import (
	"fmt"

	"github.com/owenrumney/go-sarif/v2/sarif"
)

// alertProperties say how many alerts there were. They are no results: a result is a
// place in code that can be mended, and an alert is something that was done.
func (p *sarifPart) alertProperties(props sarif.Properties) {
	if !p.told.heard(p.start) {
		return
	}
	h := heardOf(p.told.alerts)
	props["incidents"], props["otherAlerts"], props["evidenceLost"] = h.incidents, h.deeds, len(p.told.lost)
}

// alertNotes say in words that there was something, so that it is not overlooked.
func (p *sarifPart) alertNotes(inv *sarif.Invocation) {
	incidents, stopped := 0, 0
	for _, a := range p.told.alerts {
		if !a.Incident {
			continue
		}
		incidents++
		if a.Blocked {
			stopped++
		}
	}
	if incidents > 0 {
		notify(inv, "warning", fmt.Sprintf("KubeArmor reported %s, %d of them stopped. What was done is no result of this file: the other formats have it.",
			plural(incidents, "incident"), stopped), nil)
	}
	if n := len(p.told.lost); n > 0 {
		notify(inv, "warning", fmt.Sprintf("Evidence was lost %s: what happened then is not known.", plural(n, "time")), nil)
	}
}
