package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

var now = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// hostDir makes a machine's root directory of files by their paths. A value that
// begins with "->" is a symbolic link.
func hostDir(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, file)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(file, 0o755)
		} else {
			err = os.WriteFile(file, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// debian is a machine as Debian 12 boots it.
func debian() map[string]string {
	return map[string]string{
		"/etc/os-release":               "->../usr/lib/os-release",
		"/usr/lib/os-release":           "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"/sys/kernel/security/lsm":      "lockdown,capability,landlock,yama,apparmor,tomoyo,bpf",
		"/sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
		"/sys/kernel/btf/vmlinux":       "types",
		"/sys/fs/bpf/":                  "",
		"/proc/cmdline":                 "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet apparmor=1 lsm=capability,bpf\n",
		"/boot/config-6.1.0":            "#\n# Automatically generated\n#\nCONFIG_BPF=y\nCONFIG_BPF_LSM=y\nCONFIG_LSM=\"landlock,lockdown,yama,bpf\"\n",
	}
}

// fake is a kernel that says what a test wants.
func fake(a attempt) platform {
	return platform{
		release:  func() (string, error) { return "6.1.0", nil },
		hostname: func() (string, error) { return "host-1", nil },
		modules:  func() ([]string, error) { return nil, errors.New("function not implemented") },
		fstype: func(f *os.File) (int64, error) {
			if strings.HasSuffix(f.Name(), "bpf") {
				return magicBPFFS, nil
			}
			return 0x01021994, nil
		},
		load: func(context.Context) attempt { return a },
	}
}

var works = attempt{kernel.Yes, kernel.Yes, kernel.Reading{Value: "loaded, attached, called and detached"}}

func TestCheck(t *testing.T) {
	root := hostDir(t, debian())
	m := check(t.Context(), Options{Root: root, Load: true, Name: "node-1"}, now, fake(works))
	for _, test := range []struct{ what, got, want string }{
		{"node", m.Node, "node-1"},
		{"kernel", m.Kernel, "6.1.0"},
		{"OS image", m.OSImage, "Debian GNU/Linux 12 (bookworm)"},
		{"modules", m.LSMs.Value, "lockdown,capability,landlock,yama,apparmor,tomoyo,bpf"},
		{"lockdown", m.Lockdown.Value, "none"},
		{"BTF", m.BTF.Value, "present"},
		{"bpffs", m.BPFFS.Value, "present"},
		{"CONFIG_BPF_LSM", m.Config.Value, "y"},
		{"where it stands", m.Config.Source, "/boot/config-6.1.0"},
		{"CONFIG_LSM", m.ConfigLSM.Value, "landlock,lockdown,yama,bpf"},
		{"command line", m.CommandLine.Value, "apparmor=1 lsm=capability,bpf"},
		{"load", m.Load.Value, "loaded, attached, called and detached"},
		{"listed", string(m.BPFListed), "yes"},
		{"conclusion", string(m.Conclusion), "yes"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", test.what, test.got, test.want)
		}
	}
	if !m.Time.Equal(now) {
		t.Errorf("time %s", m.Time)
	}
}

// Each reading that is strange or missing says so, and never counts as good.
func TestReadings(t *testing.T) {
	const lsm = "/sys/kernel/security/lsm"
	for _, test := range []struct {
		name  string
		tweak func(files map[string]string)
		got   func(m *kernel.Machine) kernel.Reading
		want  kernel.Reading
	}{
		{
			"securityfs is not mounted",
			func(f map[string]string) {
				delete(f, lsm)
				delete(f, "/sys/kernel/security/lockdown")
				f["/sys/kernel/security/"] = ""
			},
			func(m *kernel.Machine) kernel.Reading { return m.LSMs },
			kernel.Reading{Source: lsm, Error: "securityfs is not mounted on /sys/kernel/security"},
		},
		{
			"lockdown is not known either then",
			func(f map[string]string) { delete(f, lsm); delete(f, "/sys/kernel/security/lockdown") },
			func(m *kernel.Machine) kernel.Reading { return m.Lockdown },
			kernel.Reading{Source: "/sys/kernel/security/lockdown", Error: "securityfs is not mounted on /sys/kernel/security"},
		},
		{
			"an empty list is no list",
			func(f map[string]string) { f[lsm] = "\n" },
			func(m *kernel.Machine) kernel.Reading { return m.LSMs },
			kernel.Reading{Source: lsm, Error: lsm + ": empty"},
		},
		{
			"a list without end",
			func(f map[string]string) { f[lsm] = strings.Repeat("x", maxSmall+1) },
			func(m *kernel.Machine) kernel.Reading { return m.LSMs },
			kernel.Reading{Source: lsm, Error: lsm + ": larger than 64 KiB"},
		},
		{
			"a directory in place of the list",
			func(f map[string]string) { delete(f, lsm); f[lsm+"/"] = "" },
			func(m *kernel.Machine) kernel.Reading { return m.LSMs },
			kernel.Reading{Source: lsm, Error: lsm + ": not a file"},
		},
		{
			"a kernel without lockdown is not locked down",
			func(f map[string]string) { delete(f, "/sys/kernel/security/lockdown") },
			func(m *kernel.Machine) kernel.Reading { return m.Lockdown },
			kernel.Reading{Source: "/sys/kernel/security/lockdown", Value: "none"},
		},
		{
			"locked down",
			func(f map[string]string) {
				f["/sys/kernel/security/lockdown"] = "none integrity [confidentiality]\n"
			},
			func(m *kernel.Machine) kernel.Reading { return m.Lockdown },
			kernel.Reading{Source: "/sys/kernel/security/lockdown", Value: "confidentiality"},
		},
		{
			"lockdown without a mode",
			func(f map[string]string) { f["/sys/kernel/security/lockdown"] = "none integrity\n" },
			func(m *kernel.Machine) kernel.Reading { return m.Lockdown },
			kernel.Reading{Source: "/sys/kernel/security/lockdown", Error: `/sys/kernel/security/lockdown: no mode is in brackets: "none integrity"`},
		},
		{
			"no types",
			func(f map[string]string) { delete(f, "/sys/kernel/btf/vmlinux") },
			func(m *kernel.Machine) kernel.Reading { return m.BTF },
			kernel.Reading{Source: "/sys/kernel/btf/vmlinux", Value: "absent"},
		},
		{
			"no sysfs, so nobody knows of types",
			func(f map[string]string) {
				for name := range f {
					if strings.HasPrefix(name, "/sys/") {
						delete(f, name)
					}
				}
			},
			func(m *kernel.Machine) kernel.Reading { return m.BTF },
			kernel.Reading{Source: "/sys/kernel/btf/vmlinux", Error: "sysfs is not mounted on /sys"},
		},
		{
			"no bpf file system",
			func(f map[string]string) { delete(f, "/sys/fs/bpf/") },
			func(m *kernel.Machine) kernel.Reading { return m.BPFFS },
			kernel.Reading{Source: "/sys/fs/bpf", Value: "absent"},
		},
		{
			"the kernel's own configuration beats a file",
			func(f map[string]string) {
				f["/proc/config.gz"] = zipped(t, "CONFIG_BPF=y\n# CONFIG_BPF_LSM is not set\n")
			},
			func(m *kernel.Machine) kernel.Reading { return m.Config },
			kernel.Reading{Source: "/proc/config.gz", Value: "not set"},
		},
		{
			"a configuration below lib/modules, through the link of a merged /usr",
			func(f map[string]string) {
				delete(f, "/boot/config-6.1.0")
				f["/lib"] = "->usr/lib"
				f["/usr/lib/modules/6.1.0/config"] = "CONFIG_BPF_LSM=y\n"
			},
			func(m *kernel.Machine) kernel.Reading { return m.Config },
			kernel.Reading{Source: "/lib/modules/6.1.0/config", Value: "y"},
		},
		{
			"a configuration of another kernel does not count",
			func(f map[string]string) {
				f["/boot/config-5.15.0"] = f["/boot/config-6.1.0"]
				delete(f, "/boot/config-6.1.0")
				f["/proc/config.gz"] = "->/nowhere"
			},
			func(m *kernel.Machine) kernel.Reading { return m.Config },
			kernel.Reading{Error: "none of /proc/config.gz, /boot/config-6.1.0, /lib/modules/6.1.0/config, /usr/lib/modules/6.1.0/config, /usr/lib/kernel/config-6.1.0 is there"},
		},
		{
			"what is not a configuration is not one without the option",
			func(f map[string]string) { f["/proc/config.gz"] = zipped(t, "<html>\n") },
			func(m *kernel.Machine) kernel.Reading { return m.Config },
			kernel.Reading{Source: "/proc/config.gz", Error: "/proc/config.gz: not a kernel configuration"},
		},
		{
			"nothing on the command line",
			func(f map[string]string) { f["/proc/cmdline"] = "ro quiet\n" },
			func(m *kernel.Machine) kernel.Reading { return m.CommandLine },
			kernel.Reading{Source: "/proc/cmdline", Value: "nothing about security modules"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := debian()
			test.tweak(files)
			m := check(t.Context(), Options{Root: hostDir(t, files)}, now, fake(works))
			got := test.got(m)
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestConfigurationThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"not gzip":        "CONFIG_BPF_LSM=y\n",
		"cut off":         zipped(t, strings.Repeat("CONFIG_BPF_LSM=y\n", 100))[:30],
		"a bomb":          zipped(t, strings.Repeat("x", maxConfig+1)),
		"an empty one":    zipped(t, ""),
		"an empty stream": "",
	} {
		files := debian()
		files["/proc/config.gz"] = content
		delete(files, "/boot/config-6.1.0")
		m := check(t.Context(), Options{Root: hostDir(t, files)}, now, fake(works))
		if m.Config.Value != "" || !strings.HasPrefix(m.Config.Error, "/proc/config.gz: ") {
			t.Errorf("%s: %+v", name, m.Config)
		}
	}
}

// A link on the machine leads where it leads on the machine, never out of its root.
func TestLinksStayInside(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "lsm")
	if err := os.WriteFile(outside, []byte("secret,bpf"), 0o600); err != nil {
		t.Fatal(err)
	}
	const lsm = "/sys/kernel/security/lsm"
	for _, test := range []struct{ name, link, value, err string }{
		{"an absolute link starts at the machine's root", "->/etc/modules", "capability,bpf", ""},
		{"so does one that climbs too high", "->../../../../../../../../etc/modules", "capability,bpf", ""},
		{"a link through a link", "->/etc/again", "capability,bpf", ""},
		{"a link to a file outside", "->" + outside, "", "securityfs is not mounted on /sys/kernel/security"},
		{"a link to itself", "->lsm", "", lsm + ": too many symbolic links"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := debian()
			files["/etc/modules"] = "capability,bpf"
			files["/etc/again"] = "->/etc/modules"
			files[lsm] = test.link
			m := check(t.Context(), Options{Root: hostDir(t, files)}, now, fake(works))
			if m.LSMs.Value != test.value || m.LSMs.Error != test.err {
				t.Errorf("%+v, want %q, %q", m.LSMs, test.value, test.err)
			}
		})
	}
}

func TestModulesAreAskedForWhereTheFileIsMissing(t *testing.T) {
	files := debian()
	delete(files, "/sys/kernel/security/lsm")
	p := fake(works)
	p.modules = func() ([]string, error) { return []string{"capability", "yama", "bpf"}, nil }
	m := check(t.Context(), Options{Root: hostDir(t, files)}, now, p)
	if m.LSMs.Value != "capability,yama,bpf" || m.LSMs.Error != "" || m.BPFListed != kernel.Yes || !strings.Contains(m.LSMs.Source, "lsm_list_modules(2)") {
		t.Errorf("%+v, listed %s", m.LSMs, m.BPFListed)
	}
	// A file that is there is what counts.
	m = check(t.Context(), Options{Root: hostDir(t, debian())}, now, p)
	if m.LSMs.Source != "/sys/kernel/security/lsm" {
		t.Errorf("%+v", m.LSMs)
	}
}

func TestLoadIsTriedOnlyWhenAskedFor(t *testing.T) {
	root := hostDir(t, debian())
	p := fake(works)
	tried := 0
	p.load = func(context.Context) attempt { tried++; return works }
	m := check(t.Context(), Options{Root: root}, now, p)
	if tried != 0 || m.Loads != kernel.Unknown || m.Conclusion != kernel.Unknown || m.Load.Error == "" {
		t.Errorf("tried %d times: %+v", tried, m)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if m := check(stopped, Options{Root: root, Load: true}, now, p); tried != 0 || m.Loads != kernel.Unknown || !strings.Contains(m.Load.Error, "canceled") {
		t.Errorf("tried %d times after an interrupt: %+v", tried, m.Load)
	}
	if m := check(t.Context(), Options{Root: root, Load: true}, now, p); tried != 1 || m.Conclusion != kernel.Yes {
		t.Errorf("tried %d times: %+v", tried, m)
	}
}

func TestNoSuchRoot(t *testing.T) {
	m := check(t.Context(), Options{Root: filepath.Join(t.TempDir(), "none"), Load: true}, now, fake(refused("load: EPERM")))
	for name, r := range map[string]kernel.Reading{"modules": m.LSMs, "lockdown": m.Lockdown, "BTF": m.BTF, "bpffs": m.BPFFS, "config": m.Config, "CONFIG_LSM": m.ConfigLSM, "command line": m.CommandLine} {
		if r.Error == "" || r.Value != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if m.Node != "host-1" || m.Conclusion != kernel.No {
		t.Errorf("the kernel itself can be asked without files: %+v", m)
	}
}

// A container has the kernel of its machine, and so its /proc, when that of the
// machine is not mounted. Nothing else of the container's is read.
func TestOwnProcStandsIn(t *testing.T) {
	files := debian()
	delete(files, "/proc/cmdline")
	delete(files, "/sys/kernel/security/lsm")
	delete(files, "/boot/config-6.1.0")
	p := fake(works)
	p.own = hostDir(t, map[string]string{
		"/proc/cmdline":            "lsm=capability,yama",
		"/proc/config.gz":          zipped(t, "CONFIG_BPF_LSM=y\n"),
		"/sys/kernel/security/lsm": "capability,bpf",
	})
	m := check(t.Context(), Options{Root: hostDir(t, files)}, now, p)
	if m.CommandLine.Value != "lsm=capability,yama" || m.Config.Value != "y" {
		t.Errorf("/proc: %+v, %+v", m.CommandLine, m.Config)
	}
	if m.LSMs.Value != "" {
		t.Errorf("/sys of the container was read: %+v", m.LSMs)
	}
	// What the machine has itself counts.
	m = check(t.Context(), Options{Root: hostDir(t, debian())}, now, p)
	if m.CommandLine.Value != "apparmor=1 lsm=capability,bpf" {
		t.Errorf("%+v", m.CommandLine)
	}
}
