package scan

import "time"

const (
	// goneFor is how long a pod that has gone is remembered, and maxGone how many are:
	// an alert may come after its pod.
	goneFor = 10 * time.Minute
	maxGone = 10_000
)

// gonePods remembers in which rows pods stood that are gone.
type gonePods struct {
	by map[PodName]gonePod
	// order are their names and times, the oldest first, from head on.
	order []goneAt
	head  int
}

type gonePod struct {
	row *trackedRow
	at  time.Time
}

type goneAt struct {
	name PodName
	at   time.Time
}

func newGonePods() gonePods { return gonePods{by: map[PodName]gonePod{}} }

// add remembers a pod, unless it had no row yet.
func (g *gonePods) add(name PodName, row *trackedRow, at time.Time) {
	if row == nil {
		return
	}
	g.by[name] = gonePod{row, at}
	g.order = append(g.order, goneAt{name, at})
	for g.head < len(g.order) && (len(g.order)-g.head > maxGone || at.Sub(g.order[g.head].at) > goneFor) {
		oldest := g.order[g.head]
		g.head++
		// A pod may have come and gone again since.
		if g.by[oldest.name].at.Equal(oldest.at) {
			delete(g.by, oldest.name)
		}
	}
	if g.head > len(g.order)/2 {
		g.order = append([]goneAt(nil), g.order[g.head:]...)
		g.head = 0
	}
}

// Place is the pod with what was told of its workload. A pod that is gone is known for
// ten minutes more. It is unknown where its workload was not judged yet.
func (t *Tracker) Place(namespace, pod string) (Place, bool) {
	name := PodName{namespace, pod}
	var row *trackedRow
	var p *Pod
	if known := t.pods[name]; known != nil {
		row = known.group.row
		if now := t.mirror.Pod(namespace, pod); now != nil {
			whole := t.judge.facts.pod(now)
			p = &whole
		}
	} else if gone, ok := t.gone.by[name]; ok && t.opts.Now().Sub(gone.at) <= goneFor {
		row = gone.row
	}
	if row == nil || row.told.verdict == nil {
		return Place{}, false
	}
	place := Place{Workload: row.ref.Workload, Claims: row.ref.Claims, Verdict: row.told.verdict, Pod: p}
	for _, n := range row.told.findings {
		place.Findings = append(place.Findings, n.finding)
	}
	return place, true
}
