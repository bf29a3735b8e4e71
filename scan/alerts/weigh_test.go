package alerts_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// asks is a blocked request for a capability.
func asks(capability, process, parent string) armor.Alert {
	return armor.Alert{
		Node: "node1", Namespace: "shop", Pod: "p", Container: "web", Type: "MatchedPolicy", Operation: "Capabilities", Policy: "mine",
		Action: "Block", Result: "Permission denied", Enforcer: "BPFLSM", Resource: "CAP_" + capability, Process: process, Parent: parent,
	}
}

// runs is a blocked program.
func runs(process, line string) armor.Alert {
	a := asks("", process, "/usr/bin/dash")
	a.Operation, a.Resource = "Process", line
	return a
}

// opens is a blocked file.
func opens(process, file string) armor.Alert {
	a := runs(process, file)
	a.Operation = "File"
	return a
}

// passed is the same deed where it was only told of.
func passed(a armor.Alert) armor.Alert {
	a.Action, a.Result, a.Enforcer = "Audit", "Passed", "eBPF Monitor"
	return a
}

func in(a armor.Alert, container string) armor.Alert {
	a.Container = container
	return a
}

// places are those of the recordings' workloads by name, and some that are made of them:
// NAME/VERDICT is NAME with that verdict, NAME/new has none yet, NAME/gone has no pod.
func places(tb testing.TB, w *world, name string) *scan.Place {
	tb.Helper()
	if name == "nowhere" {
		return nil
	}
	name, as, _ := strings.Cut(name, "/")
	for pod := range w.pods {
		if pod.Namespace != "shop" || pod.Name != name && !strings.HasPrefix(pod.Name, name+"-") {
			continue
		}
		p, ok := w.place("shop", pod.Name)
		if !ok {
			continue
		}
		switch as {
		case "":
		case "new":
			p.Verdict, p.Findings = nil, nil
		case "gone":
			p.Pod = nil
		default:
			v := *p.Verdict
			v.Verdict = scan.Verdict(as)
			p.Verdict = &v
		}
		return &p
	}
	tb.Fatalf("no place %s", name)
	return nil
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	const note, incident = false, true
	find := asks("SYS_ADMIN", "/usr/bin/find", "/usr/bin/dash")
	nsenter := asks("SYS_ADMIN", "/usr/bin/nsenter", "/usr/bin/dash")
	curl := runs("/usr/bin/curl", "/usr/bin/curl http://x")
	chroot := runs("/usr/sbin/chroot", "/usr/sbin/chroot /host")
	runc := asks("SYS_ADMIN", "/runc", "")
	host := armor.Alert{Node: "node1", Type: "MatchedHostPolicy", Operation: "Process", Process: "/usr/bin/nsenter", Action: "Block", Result: "Permission denied", Enforcer: "BPFLSM"}
	hostApt := host
	hostApt.Process = "/usr/bin/apt"
	fromRuntime := curl
	fromRuntime.Parent = "/runc"
	named := func(a armor.Alert, command string) armor.Alert {
		a.Command = command
		return a
	}
	for _, test := range []struct {
		name     string
		alert    armor.Alert
		place    string
		incident bool
		severity scan.Severity
		rule     string
	}{
		// A capability alert alone is no incident.
		{"probing where it cannot be held", find, "plain", note, "low", "capability-noise"},
		{"probing on an exposed workload that cannot hold it", in(find, "c"), "hostroot", note, "low", "capability-noise"},
		{"a default capability", asks("DAC_OVERRIDE", "/usr/bin/cat", "/usr/bin/dash"), "plain", note, "low", "capability-beside-the-path"},
		{"probing in a sealed workload", find, "plain/sealed", note, "low", "capability-noise"},
		{"the pod is gone and nothing was open", find, "plain/gone", note, "low", "capability-noise"},
		// What is not known makes nothing calm.
		{"probing, and the pod is not known", find, "nowhere", note, "medium", "capability-somewhere"},
		{"probing, and the verdict is not there yet", find, "plain/new", note, "low", "capability-noise"},
		{"held, and the verdict is not there yet", find, "caps/new", incident, "high", "capability-on-open-path"},
		{"held, and the verdict is unknown", find, "caps/unknown", incident, "high", "capability-on-open-path"},
		{"the pod is gone and something is open", find, "priv/gone", incident, "high", "capability-on-open-path"},
		{"nsenter, and the pod is not known", nsenter, "nowhere", incident, "high", "stepper-somewhere"},
		{"chroot, and the pod is not known", chroot, "nowhere", incident, "high", "step-somewhere"},
		{"chroot, and the verdict is not there yet", chroot, "plain/new", incident, "high", "step-somewhere"},
		{"curl, and the pod is not known", curl, "nowhere", note, "medium", "tool-somewhere"},
		{"curl, and the verdict is unknown beside an open path", curl, "priv/unknown", incident, "medium", "tool-with-way-out"},
		{"a container that the pod has not", in(find, "other"), "plain", note, "low", "capability-noise"},
		{"a container that the pod has not, by its spec alone", in(find, "other"), "plain/new", note, "medium", "capability-somewhere"},
		// Steps of what is open.
		{"a capability on an exposed workload", find, "priv", incident, "high", "capability-on-open-path"},
		{"the same, not stopped", passed(find), "priv", incident, "critical", "capability-on-open-path"},
		{"nsenter on an exposed workload", nsenter, "priv", incident, "critical", "stepper-on-open-path"},
		{"a step of a guarded path", find, "caps", incident, "high", "capability-on-guarded-path"},
		{"the policy of a guarded path did not stop it", passed(find), "caps", incident, "critical", "capability-on-guarded-path"},
		{"a capability beside the guarded path", asks("DAC_OVERRIDE", "/usr/bin/cat", "/bin/sh"), "caps", note, "low", "capability-beside-the-path"},
		{"Shocker", in(asks("DAC_READ_SEARCH", "/usr/bin/perl", "/usr/bin/dash"), "c"), "shocker", incident, "high", "capability-on-open-path"},
		{"chroot into the host's root", in(chroot, "c"), "hostroot", incident, "high", "step-on-open-path"},
		{"the same, not stopped", in(passed(chroot), "c"), "hostroot", incident, "critical", "step-on-open-path"},
		{"chroot where nothing is open", chroot, "plain", incident, "medium", "step-without-path"},
		{"chroot where nothing is open, not stopped", passed(chroot), "plain/sealed", incident, "high", "step-without-path"},
		// Tools.
		{"curl on a closed workload", curl, "plain", note, "low", "tool-note"},
		{"curl on a sealed workload", curl, "plain/sealed", note, "low", "tool-note"},
		{"curl on a guarded workload", curl, "caps", note, "low", "tool-note"},
		{"curl on an exposed workload", curl, "priv", incident, "medium", "tool-with-way-out"},
		{"curl on an exposed workload, not stopped", passed(curl), "priv", incident, "high", "tool-with-way-out"},
		{"curl as a probe on an exposed workload", fromRuntime, "priv", note, "medium", "tool-from-outside"},
		// An attacker who would look like noise.
		{"the runtime joins", runc, "plain", note, "low", "runtime-noise"},
		{"the runtime joins a container that may hold it", runc, "priv", note, "medium", "runtime-or-alike"},
		{"the runtime, and the pod is not known", runc, "nowhere", note, "medium", "runtime-or-alike"},
		{"a /runc of the container's own", asks("SYS_ADMIN", "/runc", "/usr/bin/dash"), "priv", incident, "critical", "stepper-on-open-path"},
		{"a /runc that was let through", passed(runc), "priv", incident, "critical", "stepper-on-open-path"},
		{"a /runc that loads a module", asks("SYS_MODULE", "/runc", ""), "priv", incident, "critical", "stepper-on-open-path"},
		{"a runc elsewhere", asks("SYS_ADMIN", "/usr/local/bin/runc", ""), "priv", incident, "critical", "stepper-on-open-path"},
		{"a program of the attacker's in /tmp", asks("SYS_ADMIN", "/tmp/find", "/usr/bin/dash"), "plain", incident, "medium", "stepper-without-path"},
		{"a program without a file", asks("SYS_ADMIN", "/memfd:x", "/usr/bin/dash"), "plain", incident, "medium", "stepper-without-path"},
		{"a program whose file is gone", asks("SYS_ADMIN", "/opt/x (deleted)", "/usr/bin/dash"), "plain", incident, "medium", "stepper-without-path"},
		{"an honest program in /tmp that reads files", asks("DAC_OVERRIDE", "/tmp/setup", "/usr/bin/dash"), "plain", note, "low", "capability-beside-the-path"},
		{"unshare -Urm where nothing is held", asks("SYS_ADMIN", "/usr/bin/unshare", "/usr/bin/dash"), "plain", incident, "medium", "stepper-without-path"},
		{"the same of a BusyBox", named(asks("SYS_ADMIN", "/bin/busybox", "/bin/busybox"), "unshare"), "plain", incident, "medium", "stepper-without-path"},
		{"find of a BusyBox", named(asks("SYS_ADMIN", "/bin/busybox", "/bin/busybox"), "find"), "plain", note, "low", "capability-noise"},
		{"a module where nothing is held", asks("SYS_MODULE", "/usr/bin/perl", "/usr/bin/dash"), "plain", incident, "medium", "capability-not-its-own"},
		{"chroot of a BusyBox", runs("/bin/busybox", "/usr/sbin/chroot /host"), "plain", incident, "medium", "step-without-path"},
		{"busybox chroot", runs("/bin/busybox", "busybox chroot /host"), "plain", incident, "medium", "step-without-path"},
		{"by the loader", runs("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2 /tmp/nsenter -t 1"), "plain", incident, "medium", "step-without-path"},
		// Steps of other policies.
		{"core_pattern below a mount", in(opens("/usr/bin/dash", "/hostproc/sys/kernel/core_pattern"), "c"), "shocker", incident, "high", "step-on-open-path"},
		{"core_pattern where nothing is open", opens("/usr/bin/dash", "/proc/sys/kernel/core_pattern"), "plain", incident, "medium", "step-without-path"},
		{"the node's disk", passed(opens("/usr/bin/head", "/dev/vda")), "priv", incident, "critical", "step-on-open-path"},
		{"a file of the host by its mount", in(opens("/usr/bin/dash", "/host/root/pwn"), "c"), "hostroot", incident, "high", "step-on-open-path"},
		{"a file of the container beside the mount", in(opens("/usr/bin/dash", "/hosts/x"), "c"), "hostroot", note, "low", "other-note"},
		{"the runtime's socket below a mount", in(opens("/usr/bin/perl", "/host/run/containerd/containerd.sock"), "c"), "hostroot", incident, "high", "step-on-open-path"},
		{"a docker of its own", runs("/usr/bin/docker", "docker ps"), "plain", note, "low", "step-of-two-uses-closed"},
		{"nsenter by a policy of its own", runs("/usr/bin/nsenter", "nsenter -t 1"), "plain", incident, "medium", "step-without-path"},
		{"insmod", runs("/usr/bin/kmod", "insmod x.ko"), "priv", incident, "high", "step-on-open-path"},
		{"mount listed", passed(runs("/usr/bin/mount", "mount")), "plain", note, "low", "step-of-two-uses-closed"},
		{"mount on an exposed workload", runs("/usr/bin/mount", "mount /dev/vda /x"), "priv", incident, "high", "step-on-open-path"},
		{"a file that means nothing", opens("/usr/bin/cat", "/etc/passwd"), "plain", note, "low", "other-note"},
		{"a file that means nothing, and the pod is not known", passed(opens("/usr/bin/cat", "/etc/passwd")), "nowhere", note, "medium", "other"},
		// Policies of the host.
		{"on the node", host, "nowhere", note, "medium", "node-step"},
		{"a tool on the node", hostApt, "nowhere", note, "low", "node-other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := alerts.Weigh(&test.alert, places(t, w, test.place))
			if got.Incident != test.incident || got.Severity != test.severity || got.Rule != test.rule {
				t.Errorf("incident %v, %s, by %s: want %v, %s, by %s\n%s", got.Incident, got.Severity, got.Rule, test.incident, test.severity, test.rule, got.Reason)
			}
		})
	}
}

// What is open in one container of a pod is not open in the other.
func TestPathsAreThoseOfTheContainer(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	p := *places(t, w, "priv")
	spec := p.Pod.Spec.DeepCopy()
	second := spec.Containers[0].DeepCopy()
	second.Name, second.SecurityContext = "second", nil
	spec.Containers = append(spec.Containers, *second)
	p.Pod = &scan.Pod{Meta: p.Pod.Meta, Spec: spec}
	a := in(asks("SYS_ADMIN", "/usr/bin/find", "/bin/sh"), "second")
	if got := alerts.Weigh(&a, &p); got.Incident || len(got.Paths) > 0 {
		t.Errorf("incident %v by %v: %s", got.Incident, got.Paths, got.Reason)
	}
	a.Container = "web"
	if got := alerts.Weigh(&a, &p); !got.Incident || !slices.Equal(got.Paths, []string{"escape-privileged"}) {
		t.Errorf("incident %v by %v: %s", got.Incident, got.Paths, got.Reason)
	}
}

// Knowing less never makes it calmer than the worst that may be there, short of calling
// it an incident, for which there must be a sign.
func TestUnknownIsNeverCalmer(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	for _, a := range []armor.Alert{
		asks("SYS_ADMIN", "/usr/bin/find", "/bin/sh"), asks("SYS_ADMIN", "/usr/bin/nsenter", "/bin/sh"), asks("SYS_ADMIN", "/runc", ""),
		asks("SYS_MODULE", "/usr/bin/perl", "/bin/sh"), asks("DAC_OVERRIDE", "/usr/bin/cat", "/bin/sh"),
		runs("/usr/sbin/chroot", ""), runs("/usr/bin/curl", ""), runs("/usr/bin/mount", ""), opens("/bin/sh", "/proc/sys/kernel/core_pattern"), opens("/bin/sh", "/x"),
	} {
		for _, a := range []armor.Alert{a, passed(a)} {
			settled := alerts.Weigh(&a, places(t, w, "plain"))
			for _, less := range []string{"plain/unknown", "plain/new", "nowhere"} {
				got := alerts.Weigh(&a, places(t, w, less))
				if got.Severity.Rank() < settled.Severity.Rank() || settled.Incident && !got.Incident {
					t.Errorf("%s %s %s: %s (incident %v) at %s, and %s (%v) where all is known", a.Operation, a.Process, a.Resource,
						got.Severity, got.Incident, less, settled.Severity, settled.Incident)
				}
			}
			// A verdict that is unknown beside open paths is as bad as exposed.
			exposed, doubt := alerts.Weigh(&a, places(t, w, "priv")), alerts.Weigh(&a, places(t, w, "priv/unknown"))
			if doubt.Severity.Rank() < exposed.Severity.Rank() || doubt.Incident != exposed.Incident {
				t.Errorf("%s %s: %s (incident %v) where the verdict is unknown, %s (%v) where it is exposed", a.Operation, a.Process,
					doubt.Severity, doubt.Incident, exposed.Severity, exposed.Incident)
			}
		}
	}
}
