package alerts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// BenchmarkAdd takes in the alerts of the recordings, over and over.
func BenchmarkAdd(b *testing.B) {
	var all []armor.Alert
	for _, name := range []string{"legit-block", "block-nothrottle"} {
		for _, a := range read(b, name) {
			all = append(all, a.Alert)
		}
	}
	f := alerts.NewFolder(alerts.Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Add(all[i%len(all)], noon)
	}
}

// BenchmarkAddVaried takes in alerts of one attacker who varies every field that he can,
// and BenchmarkAddForged those of a node that forges all of them.
func BenchmarkAddVaried(b *testing.B) {
	var all []armor.Alert
	for i := range 10_000 {
		all = append(all, opens(fmt.Sprintf("/tmp/%d/x", i), fmt.Sprintf("/srv/%d", i)))
	}
	f := alerts.NewFolder(alerts.Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Add(all[i%len(all)], noon)
	}
}

func BenchmarkAddForged(b *testing.B) {
	var all []armor.Alert
	for i := range 100_000 {
		a := asks("SYS_ADMIN", fmt.Sprintf("/usr/bin/%d", i), "/bin/sh")
		a.Pod, a.Container = fmt.Sprint(i), fmt.Sprint(i)
		all = append(all, a)
	}
	f := alerts.NewFolder(alerts.Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Add(all[i%len(all)], noon)
		if i%10_000 == 0 {
			if err := f.Flush(noon, nil, func(scan.Event) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkFlush tells ten thousand folds.
func BenchmarkFlush(b *testing.B) {
	w := recordedWorld(b)
	p, _ := w.place("shop", "plain-66ff6989d4-vgdqc")
	place := func(string, string) (scan.Place, bool) { return p, true }
	f := alerts.NewFolder(alerts.Options{})
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Minute)
		for i := range 10_000 {
			a := asks("SYS_ADMIN", "/usr/bin/find", "/bin/sh")
			a.Pod = fmt.Sprint(i)
			f.Add(a, now)
		}
		if err := f.Flush(now, place, func(scan.Event) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
