package scan

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkFleetOfSlowServers scans four clusters whose servers take their time for each
// page, one after another and side by side. The ratio is how much sooner the second is
// done.
func BenchmarkFleetOfSlowServers(b *testing.B) {
	const pages, each = 20, 20 * time.Millisecond
	members := make([]Member, 4)
	for i := range members {
		m := web()
		m.pageSize = 1
		for range pages {
			m.runs(1, "lab", fmt.Sprintf("p%d", len(m.pods)), "", "", plain())
		}
		m.onPage = func(int) { <-time.After(each) }
		members[i] = member(fmt.Sprint(i), m)
	}
	took := map[int]time.Duration{}
	for b.Loop() {
		for _, parallel := range []int{1, len(members)} {
			began := time.Now()
			err := ScanFleet(b.Context(), FleetOptions{Parallel: parallel}, members, HandlerFunc(func(Event) error { return nil }))
			if err != nil {
				b.Fatal(err)
			}
			took[parallel] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[len(members)]), "ratio")
}
