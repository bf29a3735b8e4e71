package report

import (
	"github.com/escape-scanner/escape-scanner/scan"
)

// alertLog keeps alerts and gaps by their IDs, in the order in which they first came: a
// later event about the same takes the place of the one before.
type alertLog struct {
	alerts  []*scan.Alert
	lost    []*scan.Lost
	alertAt map[string]int
	lostAt  map[string]int
}

// keep takes in an event of either kind.
func (l *alertLog) keep(e scan.Event) {
	switch {
	case e.Alert != nil:
		l.alerts, l.alertAt = keepLatest(l.alerts, l.alertAt, e.Alert.ID, e.Alert)
	case e.Lost != nil:
		l.lost, l.lostAt = keepLatest(l.lost, l.lostAt, e.Lost.ID, e.Lost)
	}
}

func keepLatest[T any](list []T, at map[string]int, id string, t T) ([]T, map[string]int) {
	if at == nil {
		at = map[string]int{}
	}
	if i, known := at[id]; known {
		list[i] = t
		return list, at
	}
	at[id] = len(list)
	return append(list, t), at
}

// heard reports whether anybody listened.
func (l *alertLog) heard(s *scan.Start) bool {
	return s != nil && s.Alerts || len(l.alerts) > 0 || len(l.lost) > 0
}

// arrays are what was kept: nil where nobody listened, else never nil.
func (l *alertLog) arrays(s *scan.Start) ([]*scan.Alert, []*scan.Lost) {
	if !l.heard(s) {
		return nil, nil
	}
	return append([]*scan.Alert{}, l.alerts...), append([]*scan.Lost{}, l.lost...)
}
