package scan

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRuleRecords: what people and SARIF read of a rule is whole.
func TestRuleRecords(t *testing.T) {
	technique := regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)
	kubeHound := []string{
		"", "CE_MODULE_LOAD", "CE_NSENTER", "CE_PRIV_MOUNT", "CE_SYS_PTRACE", "CE_UMH_CORE_PATTERN", "CE_VAR_LOG_SYMLINK",
		"EXPLOIT_HOST_READ", "EXPLOIT_HOST_WRITE", "EXPLOIT_HOST_TRAVERSE", "EXPLOIT_CONTAINERD_SOCK",
	}
	cisIDs := []string{"5.2.2", "5.2.3", "5.2.4", "5.2.5", "5.2.6", "5.2.7", "5.2.8", "5.2.9", "5.2.10", "5.2.11", "5.2.12", "5.2.13", "5.6.2"}
	ids, titles := map[string]bool{}, map[string]string{}
	for _, r := range Rules() {
		if ids[r.ID] {
			t.Errorf("%s: there are two", r.ID)
		}
		ids[r.ID] = true
		if r.Category == CategoryEscape {
			if other, ok := titles[r.Title]; ok {
				t.Errorf("%s has the title of %s", r.ID, other)
			}
			titles[r.Title] = r.ID
		}
		if r.Title == "" || r.Title == r.ID || strings.HasSuffix(r.Title, ".") {
			t.Errorf("%s: title %q", r.ID, r.Title)
		}
		for name, text := range map[string]string{"description": r.Description, "attack": r.Attack, "remediation": r.Remediation} {
			if !strings.HasSuffix(text, ".") || len(text) > 1024 || strings.Contains(text, "  ") {
				t.Errorf("%s: %s %q", r.ID, name, text)
			}
		}
		if r.Category == CategoryException {
			continue
		}
		if len(r.MITRE) == 0 || !slices.Contains(r.MITRE, "T1611") && r.Category == CategoryEscape {
			t.Errorf("%s: techniques %v", r.ID, r.MITRE)
		}
		for _, id := range r.MITRE {
			if !technique.MatchString(id) {
				t.Errorf("%s: technique %q", r.ID, id)
			}
		}
		if !slices.Contains(kubeHound, r.KubeHound) {
			t.Errorf("%s: KubeHound has no %q", r.ID, r.KubeHound)
		}
		for _, ref := range r.CIS {
			if ref.Version != "1.11" || !slices.Contains(cisIDs, ref.ID) {
				t.Errorf("%s: CIS %+v", r.ID, ref)
			}
		}
		for _, id := range r.CWE {
			if !slices.Contains([]int{250, 269, 668, 693}, id) {
				t.Errorf("%s: CWE-%d", r.ID, id)
			}
		}
		if len(r.CWE) == 0 || !strings.HasPrefix(r.HelpURL, "https://") {
			t.Errorf("%s: CWE %v, help %q", r.ID, r.CWE, r.HelpURL)
		}
	}
}

// TestHostPathOf: the same place under other names.
func TestHostPathOf(t *testing.T) {
	for _, test := range []struct{ volume, subPath, want string }{
		{"/", "", "/"},
		{"", "", "/"},
		{"//", "", "/"},
		{"/var/../", "", "/"},
		{"/etc/", "", "/etc"},
		{"/./etc//cron.d/.", "", "/etc/cron.d"},
		{"/var/run", "", "/run"},
		{"/var/run/", "docker.sock", "/run/docker.sock"},
		{"/var", "run/docker.sock", "/run/docker.sock"},
		{"/var/running", "", "/var/running"},
		{"/srv", "../../etc", "/srv/etc"},
		{"/srv", "/abs", "/srv/abs"},
		{"/proc/1/root", "", "/"},
		{"/proc/1/root/etc", "shadow", "/etc/shadow"},
		{"/proc/self/root/var/run", "", "/run"},
		{"/proc/1/root/proc/1/root/boot", "", "/boot"},
		{"/proc/1/cwd", "", "/"},
		{"/proc", "1/root/etc", "/etc"},
		{"/proc/1/rootfs", "", "/proc/1/rootfs"},
		{"/proc/sys/root", "", "/proc/sys/root"},
		{`C:\`, "", "/"},
		{`c:/Windows`, "", "/windows"},
		{`C:\ProgramData\docker`, "", "/programdata/docker"},
		{`\\.\pipe\docker_engine`, "", "/pipe/docker_engine"},
		{"//./pipe/docker_engine", "", "/pipe/docker_engine"},
		{"data", "", "/data"},
	} {
		if got, _ := hostPathOf(test.volume, test.subPath); got != test.want {
			t.Errorf("%s + %s: %s, want %s", test.volume, test.subPath, got, test.want)
		}
	}
}

// TestPlacesAboveOneDistribution: a folder that lies on every node says nothing of
// what one distribution keeps below it.
func TestPlacesAboveOneDistribution(t *testing.T) {
	for path, want := range map[string]bool{
		"/var": false, "/var/lib": false, "/var/snap": true, "/var/snap/microk8s": true, "/var/snap/microk8s/common/run": true,
		"/var/snap/microk8s/current": false, "/run": true, "/run/containerd": true, "/": false,
	} {
		m := hostMount{path: path}
		if got := m.shows(runtimeSockets()); got != want {
			t.Errorf("%s shows a socket: %v", path, got)
		}
	}
}
