package report

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

func watchLogs() map[string]WatchTextOptions {
	return map[string]WatchTextOptions{
		"log-120.txt":   {Width: 120},
		"log-80.txt":    {Width: 80},
		"log-40.txt":    {Width: 40},
		"log-color.txt": {Width: 100, Color: true, Location: time.FixedZone("CET", 3600)},
		"log-pipe.txt":  {},
		"log-all.txt":   {Width: 100, AllAlerts: true, Burst: 3},
	}
}

func TestGoldenWatch(t *testing.T) {
	t.Parallel()
	s := watchStory()
	table := format{"table-120.txt", func(w io.Writer) scan.Handler { return Picture(NewTable(w, TableOptions{Width: 120})) }}
	for _, f := range []format{{"events.jsonl", NewJSONL}, table} {
		t.Run(f.name, func(t *testing.T) {
			compareGolden(t, "watch-"+f.name, write(t, f, s.events))
		})
	}
	for name, opts := range watchLogs() {
		t.Run(name, func(t *testing.T) {
			compareGolden(t, "watch-"+name, []byte(watchLog(t, opts, s)))
		})
	}
}

// Somebody listened, and there was nothing: that is said, and not the same as that
// nobody listened.
func TestNoAlertsAreNotNobodyListening(t *testing.T) {
	t.Parallel()
	quiet := []scan.Event{{Start: &scan.Start{Schema: 1, Alerts: true}}, {End: &scan.End{}}}
	deaf := []scan.Event{{Start: &scan.Start{Schema: 1}}, {End: &scan.End{}}}
	for _, tc := range []struct {
		f    format
		want string
	}{
		{format{"run.json", NewJSON}, `"alerts": [],`},
		{format{"run.json", NewJSON}, `"lost": [],`},
		{format{"table-pipe.txt", func(w io.Writer) scan.Handler { return NewTable(w, TableOptions{}) }}, "none was reported"},
		{format{"run.sarif", func(w io.Writer) scan.Handler { return NewSARIF(w, SARIFOptions{}) }}, `"incidents":0`},
	} {
		if out := write(t, tc.f, quiet); !bytes.Contains(out, []byte(tc.want)) {
			t.Errorf("%s: no %s in\n%s", tc.f.name, tc.want, out)
		}
		if out := write(t, tc.f, deaf); bytes.Contains(out, []byte(tc.want)) {
			t.Errorf("%s: nobody listened, and it says %s", tc.f.name, tc.want)
		}
	}
}
