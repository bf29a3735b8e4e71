package alerts_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// fields is an alert as a text, a field a line, and back.
func fields(a *armor.Alert) string {
	return strings.Join([]string{
		a.Node, a.Namespace, a.Pod, a.Container, a.OwnerKind, a.OwnerName, a.Type, a.Operation,
		a.Policy, a.Action, a.Result, a.Enforcer, a.Resource, a.Process, a.Parent, a.Command,
	}, "\n")
}

func alertOf(text string, at int64) armor.Alert {
	a := armor.Alert{Time: time.Unix(0, at)}
	for _, field := range []*string{
		&a.Node, &a.Namespace, &a.Pod, &a.Container, &a.OwnerKind, &a.OwnerName, &a.Type, &a.Operation,
		&a.Policy, &a.Action, &a.Result, &a.Enforcer, &a.Resource, &a.Process, &a.Parent, &a.Command,
	} {
		*field, text, _ = strings.Cut(text, "\n")
	}
	return a
}

// Whatever an alert says, it has a class, a severity and a reason, and is counted.
func FuzzAlerts(f *testing.F) {
	for _, name := range []string{"smoke", "burst", "escape-block"} {
		for _, a := range read(f, name)[:1] {
			f.Add(fields(&a.Alert), a.Time.UnixNano(), uint8(0), uint8(3))
		}
	}
	threshold := read(f, "burst")
	for _, a := range threshold {
		if a.Lost() {
			f.Add(fields(&a.Alert), int64(0), uint8(1), uint8(1))
		}
	}
	for _, a := range []armor.Alert{opens("/memfd:x", "/proc/1/root/x"), runs("/bin/busybox", "busybox  chroot"), asks("", "", ""), runs("\xff", strings.Repeat("\xf0\x9f", 300))} {
		f.Add(fields(&a), int64(-1), uint8(2), uint8(200))
	}
	w := recordedWorld(f)
	names := []string{"plain", "priv", "hostroot", "shocker", "caps/unknown", "plain/new", "priv/gone", "nowhere"}
	known := make([]*scan.Place, len(names))
	for i, name := range names {
		known[i] = places(f, w, name)
	}
	f.Fuzz(func(t *testing.T, text string, at int64, where, times uint8) {
		a := alertOf(text, at)
		place := known[int(where)%len(known)]
		class, _, blocked := alerts.Classify(&a)
		weight := alerts.Weigh(&a, place)
		if class == "" || weight.Severity.Rank() < 1 || weight.Severity.Rank() > 4 || weight.Reason == "" || weight.Rule == "" {
			t.Errorf("class %q, weight %+v", class, weight)
		}
		if weight.Incident && weight.Severity == scan.SeverityLow || blocked && strings.HasPrefix(a.Action, "Audit") {
			t.Errorf("blocked %v, weight %+v", blocked, weight)
		}
		folder, s := alerts.NewFolder(alerts.Options{Most: 4, PerContainer: 2}), newSink()
		for i := range int(times) {
			varied := a
			if i%3 == 1 {
				varied.Process += string(rune(i))
			}
			if i%5 == 1 {
				varied.Pod += string(rune(i))
			}
			folder.Add(varied, noon)
			if i%7 == 0 {
				must(t, folder.Flush(noon.Add(time.Duration(i)*time.Second), nil, s.emit))
			}
			sums(t, folder, nil)
		}
		must(t, folder.Close(noon.Add(time.Hour), func(string, string) (scan.Place, bool) {
			if place == nil {
				return scan.Place{}, false
			}
			return *place, true
		}, s.emit))
		if c := sums(t, folder, s); c.Raised+c.Thresholds != uint64(times) || c.Waiting != 0 || s.missing() != c.Dropped {
			t.Errorf("%d alerts: %+v, %d missing", times, c, s.missing())
		}
		for _, told := range s.alerts {
			if !utf8.ValidString(told.Reason+told.Process+told.Resource+told.Pod) || len(told.Reason) > 2000 {
				t.Errorf("told %+v", told)
			}
			if told.First.After(told.Last) {
				t.Errorf("from %s to %s", told.First, told.Last)
			}
		}
	})
}
