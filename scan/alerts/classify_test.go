package alerts_test

import (
	"slices"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	called := func(a armor.Alert, command string) armor.Alert {
		a.Command = command
		return a
	}
	under := func(a armor.Alert, policy string) armor.Alert {
		a.Policy = policy
		return a
	}
	as := func(a armor.Alert, operation string) armor.Alert {
		a.Operation = operation
		return a
	}
	for _, test := range []struct {
		name       string
		alert      armor.Alert
		class      scan.AlertClass
		techniques []string
	}{
		{"a capability", asks("SYS_ADMIN", "/usr/bin/find", "/bin/sh"), scan.ClassCapability, []string{"T1611"}},
		{"a module", asks("SYS_MODULE", "/usr/bin/perl", "/bin/sh"), scan.ClassCapability, []string{"T1611", "T1547.006"}},
		{"a default capability", asks("DAC_OVERRIDE", "/usr/bin/cat", "/bin/sh"), scan.ClassCapability, []string{"T1548"}},
		{"the runtime", asks("SYS_ADMIN", "/runc", ""), scan.ClassCapability, []string{"T1609"}},
		{"a capability by a tool", asks("SYS_ADMIN", "/usr/bin/apt", "/bin/sh"), scan.ClassCapability, []string{"T1611"}},
		{"chroot", runs("/usr/sbin/chroot", "chroot /"), scan.ClassChroot, []string{"T1611"}},
		{"chroot of Ubuntu's Rust coreutils", runs("/usr/lib/cargo/bin/coreutils/chroot", ""), scan.ClassChroot, []string{"T1611"}},
		{"a copy of chroot", runs("/dev/shm/chroot", ""), scan.ClassChroot, []string{"T1611"}},
		{"pivot_root", runs("/usr/sbin/pivot_root", ""), scan.ClassChroot, []string{"T1611"}},
		{"curl", runs("/usr/bin/curl", "curl x"), scan.ClassTool, []string{"T1105"}},
		{"Fedora's wget", runs("/usr/bin/wget2", ""), scan.ClassTool, []string{"T1105"}},
		{"make", runs("/usr/bin/make", ""), scan.ClassTool, []string{"T1027.004"}},
		{"nsenter", runs("/usr/bin/nsenter", ""), scan.ClassEscape, []string{"T1611"}},
		{"a runtime's client", runs("/usr/local/bin/ctr", ""), scan.ClassEscape, []string{"T1611", "T1610"}},
		{"modprobe is kmod", runs("/usr/bin/kmod", "/sbin/modprobe x"), scan.ClassEscape, []string{"T1611", "T1547.006"}},
		{"a shell", runs("/usr/bin/dash", "sh -c x"), scan.ClassOther, []string{"T1059.004"}},
		{"anything", runs("/usr/bin/sleep", "sleep 1"), scan.ClassOther, nil},
		{"no program", runs("", ""), scan.ClassOther, nil},
		// Many names for one file.
		{"busybox wget", runs("/bin/busybox", "/bin/wget http://x"), scan.ClassTool, []string{"T1105"}},
		{"busybox with its own name first", runs("/bin/busybox", "busybox chroot /"), scan.ClassChroot, []string{"T1611"}},
		{"busybox by the process's name", called(runs("/bin/busybox", "/proc/self/exe -m x"), "nsenter"), scan.ClassEscape, []string{"T1611"}},
		{"busybox by the policy", under(runs("/bin/busybox", ""), "no-chroot"), scan.ClassChroot, []string{"T1611"}},
		{"a policy's name alone says nothing", under(runs("/usr/bin/sleep", ""), "no-chroot"), scan.ClassOther, nil},
		{"busybox sh", called(runs("/bin/busybox", "sh"), "sh"), scan.ClassOther, []string{"T1059.004"}},
		{"ld.so curl", runs("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2 /usr/bin/curl"), scan.ClassTool, []string{"T1105"}},
		// Files.
		{"core_pattern", opens("/bin/sh", "/proc/sys/kernel/core_pattern"), scan.ClassEscape, []string{"T1611"}},
		{"the runtime's socket", opens("/usr/bin/python3", "/var/run/docker.sock"), scan.ClassEscape, []string{"T1611", "T1610"}},
		{"the root of another process", opens("/bin/cat", "/proc/1/root/etc/shadow"), scan.ClassEscape, []string{"T1611"}},
		{"one's own processes", opens("/bin/ps", "/proc/1/stat"), scan.ClassOther, nil},
		{"a folder that is called root", opens("/bin/cat", "/srv/root/x"), scan.ClassOther, nil},
		{"a disk", opens("/bin/dd", "/dev/nvme0n1"), scan.ClassEscape, []string{"T1611"}},
		{"no disk", opens("/bin/dd", "/dev/null"), scan.ClassOther, nil},
		{"a static pod", opens("/bin/sh", "/host/etc/kubernetes/manifests/x.yaml"), scan.ClassEscape, []string{"T1611", "T1610"}},
		{"a tool that opens a file was not run", opens("/usr/bin/apt", "/etc/apt/sources.list"), scan.ClassOther, nil},
		{"nsenter opens a file", opens("/usr/bin/nsenter", "/etc/passwd"), scan.ClassEscape, []string{"T1611"}},
		// Other operations.
		{"curl on the network", as(runs("/usr/bin/curl", "domain=AF_INET"), "Network"), scan.ClassOther, nil},
		{"insmod in a system call", as(runs("/usr/sbin/insmod", ""), "Syscall"), scan.ClassEscape, []string{"T1611", "T1547.006"}},
		{"an operation to come", as(runs("/usr/bin/sleep", ""), "Levitation"), scan.ClassOther, nil},
	} {
		class, techniques, _ := alerts.Classify(&test.alert)
		if class != test.class || !slices.Equal(techniques, test.techniques) {
			t.Errorf("%s: %s %v, want %s %v", test.name, class, techniques, test.class, test.techniques)
		}
	}
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		action, result, enforcer string
		want                     bool
	}{
		{"Block", "Permission denied", "BPFLSM", true},
		{"Block", "Permission denied", "AppArmor", true},
		{"Block", "Operation not permitted", "BPFLSM", true},
		{"Audit", "Passed", "eBPF Monitor", false},
		{"Audit (Block)", "Passed", "eBPF Monitor", false},
		// Where these disagree it counts as done.
		{"Block", "Passed", "BPFLSM", false},
		{"Block", "", "BPFLSM", false},
		{"Audit (Block)", "Permission denied", "BPFLSM", false},
		{"Block", "Permission denied", "eBPF Monitor", false},
		{"", "", "", false},
	} {
		a := armor.Alert{Operation: "Process", Action: test.action, Result: test.result, Enforcer: test.enforcer}
		if _, _, got := alerts.Classify(&a); got != test.want {
			t.Errorf("%+v: blocked %v", test, got)
		}
	}
}

// Honest software that the recordings do not have, in a closed workload: none of it is an
// incident, whether the pod is known or not.
func TestMoreHonestSoftware(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	for _, a := range []armor.Alert{
		asks("DAC_OVERRIDE", "/usr/sbin/nginx", "/usr/bin/dash"), asks("DAC_READ_SEARCH", "/usr/lib/postgresql/17/bin/postgres", "/usr/local/bin/gosu"),
		asks("SYS_ADMIN", "/opt/java/openjdk/bin/java", "/usr/bin/tini"), asks("SYS_ADMIN", "/opt/google/chrome/chrome", "/opt/google/chrome/chrome"),
		asks("SYS_PTRACE", "/usr/bin/ps", "/usr/bin/dash"), asks("SYS_ADMIN", "/app/server", ""), asks("NET_RAW", "/usr/bin/ping", "/usr/bin/dash"),
		asks("SYS_ADMIN", "/usr/bin/python3.12", "/usr/bin/dash"), asks("FOWNER", "/usr/bin/chmod", "/usr/bin/dash"), asks("SYS_ADMIN", "/usr/bin/dpkg", "/usr/bin/apt-get"),
		asks("SYS_RESOURCE", "/runc", ""), asks("SYS_ADMIN", "", ""), asks("DAC_OVERRIDE", "/tmp/go-build1/exe/main", "/usr/local/go/bin/go"),
		runs("/usr/bin/curl", "curl -fsS localhost/healthz"), runs("/usr/bin/apt-get", "apt-get update"), runs("/usr/bin/git", "git pull"),
		runs("/usr/bin/gcc", "gcc x.c"), runs("/usr/bin/mount", "mount"), runs("/usr/bin/strace", "strace x"), opens("/usr/bin/cat", "/etc/passwd"),
	} {
		for _, place := range []string{"plain", "plain/sealed", "nowhere"} {
			if got := alerts.Weigh(&a, places(t, w, place)); got.Incident {
				t.Errorf("%s: an incident, by %s: %s", place, got.Rule, got.Reason)
			}
		}
	}
}
