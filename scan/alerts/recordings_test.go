package alerts_test

import (
	"path"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
)

// attempt is a line of the scripts that the recordings were made with.
type attempt struct {
	name string
	// escape: it is a step out. Why says why it is none.
	escape bool
	why    string
}

const (
	ownFiles = "it reads and writes files of the container's own"
	toolOnly = "a tool asks for its version: forbidden by the set, and no step out"
)

// attemptOf finds the line that raised an alert by what was run: by the command line that
// KubeArmor has beside the alert, which the package under test does not read.
func attemptOf(a *recorded) (attempt, bool) {
	line := a.source
	if a.Operation == "Process" {
		line = a.Process
	}
	program, rest, _ := strings.Cut(line, " ")
	program = path.Base(program)
	if program == "exe" || program == "busybox" {
		program = a.Command
	}
	switch program {
	case "chroot", "mount", "umount", "unshare", "nsenter", "mknod":
		return attempt{name: program, escape: true}, true
	case "hostname":
		return attempt{name: "sethostname", escape: true}, true
	case "perl":
		switch {
		case strings.Contains(rest, "syscall(175"):
			return attempt{name: "init_module", escape: true}, true
		case strings.Contains(rest, "syscall(304"):
			return attempt{name: "open_by_handle", escape: true}, true
		}
	case "apt", "apt-get", "dpkg", "make", "curl", "wget":
		return attempt{name: program, why: toolOnly}, true
	case "cat", "dash", "sh", "mkdir":
		return attempt{name: "dac-" + program, why: ownFiles}, true
	}
	return attempt{}, false
}

// Every attempt to get out that raised an alert is an incident, each alert of it.
func TestEveryRecordedEscapeIsAnIncident(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	// How many alerts the attempts raised, by the pods' workloads.
	for name, want := range map[string]map[string]int{
		"block-nothrottle": {
			"plain chroot": 4, "caps chroot": 4, "priv chroot": 4,
			"priv mount": 2, "caps mount": 2, "busy mount": 1, "priv umount": 2, "caps umount": 2, "busy umount": 1,
			"priv unshare": 1, "caps unshare": 1, "busy unshare": 1, "priv nsenter": 2, "caps nsenter": 2, "busy nsenter": 1,
			"priv sethostname": 1, "caps sethostname": 1, "busy sethostname": 1,
			"priv init_module": 1, "priv open_by_handle": 1,
			"priv mknod": 1, "caps mknod": 1, "plain mknod": 1, "busy mknod": 1,
		},
		"escape-block": {
			"plain chroot": 2, "caps chroot": 2, "priv chroot": 2, "hostroot chroot": 2, "shocker chroot": 2,
			"priv mount": 2, "caps mount": 2, "priv umount": 2, "caps umount": 2, "priv nsenter": 10, "caps nsenter": 10,
			"priv unshare": 1, "caps unshare": 1, "plain unshare": 1, "hostroot unshare": 1, "shocker unshare": 1,
			"priv init_module": 1, "shocker init_module": 1, "shocker open_by_handle": 1,
		},
		"audit": {"priv chroot": 3}, "burst": {"priv chroot": 11}, "smoke": {"plain chroot": 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]int{}
			for _, a := range read(t, name) {
				if a.Lost() {
					continue
				}
				try, ok := attemptOf(&a)
				if !ok {
					t.Fatalf("no attempt is known that raises %+v", a.Alert)
				}
				weight := alerts.Weigh(&a.Alert, mustPlace(t, w, &a))
				who, _, _ := strings.Cut(a.Pod, "-")
				if !try.escape {
					if try.why == toolOnly && who == "plain" && weight.Incident {
						t.Errorf("%s in %s is an incident: %s", try.name, a.Pod, weight.Reason)
					}
					continue
				}
				got[who+" "+try.name]++
				if !weight.Incident || !weight.Severity.AtLeast(scan.SeverityMedium) {
					t.Errorf("%s in %s is no incident, by %s: %s", try.name, a.Pod, weight.Rule, weight.Reason)
				}
			}
			for key, n := range want {
				if got[key] != n {
					t.Errorf("%s: %d alerts, want %d", key, got[key], n)
				}
			}
			for key := range got {
				if want[key] == 0 {
					t.Errorf("%s raised alerts and is not listed", key)
				}
			}
		})
	}
}

func mustPlace(tb testing.TB, w *world, a *recorded) *scan.Place {
	tb.Helper()
	p, ok := w.place(a.Namespace, a.Pod)
	if !ok {
		tb.Fatalf("nothing is known of pod %s", a.Pod)
	}
	return &p
}

// Of what honest software raises at most one in a hundred is called an incident: in the
// pod that it ran in, and where nothing is known of it.
func TestHonestSoftwareIsNoIncident(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	all := read(t, "legit-block")
	if len(all) != 499 {
		t.Fatalf("%d alerts", len(all))
	}
	for _, known := range []bool{true, false} {
		incidents := 0
		for i := range all {
			a := &all[i]
			place := mustPlace(t, w, a)
			want := scan.SeverityLow
			if !known {
				place, want = nil, scan.SeverityMedium
			}
			weight := alerts.Weigh(&a.Alert, place)
			if weight.Incident {
				incidents++
			}
			if weight.Severity != want {
				t.Errorf("known %v: %s is %s, by %s: %s", known, a.source, weight.Severity, weight.Rule, weight.Reason)
			}
		}
		if incidents*100 > len(all) {
			t.Errorf("known %v: %d incidents of %d alerts", known, incidents, len(all))
		}
	}
}

// The classes are those of the experiments: each policy of the set names one.
func TestClassesOfTheRecordings(t *testing.T) {
	t.Parallel()
	classes := map[string]scan.AlertClass{
		"escape-caps": scan.ClassCapability, "escape-chroot": scan.ClassChroot, "escape-pkg": scan.ClassTool, "entrypoint": scan.ClassOther,
	}
	for _, name := range []string{"legit-block", "block-nothrottle", "escape-block", "audit", "entrypoint", "burst", "smoke"} {
		for _, a := range read(t, name) {
			if a.Lost() {
				continue
			}
			// What was done says it, under whatever name the policy goes.
			for _, policy := range []string{a.Policy, "a-policy-of-mine", ""} {
				renamed := a.Alert
				renamed.Policy = policy
				class, techniques, blocked := alerts.Classify(&renamed)
				if class != classes[a.Policy] {
					t.Errorf("%s: %s is %s, want %s", name, a.Process, class, classes[a.Policy])
				}
				if blocked != (name != "audit") {
					t.Errorf("%s: %s blocked %v", name, a.Process, blocked)
				}
				if class != scan.ClassOther && len(techniques) == 0 {
					t.Errorf("%s: %s has no technique", name, a.Process)
				}
			}
		}
	}
}
