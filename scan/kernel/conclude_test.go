package kernel

import (
	"strings"
	"testing"
)

func TestConclude(t *testing.T) {
	failed := Reading{Error: "securityfs is not mounted"}
	list := func(s string) Reading { return Reading{Value: s} }
	for _, test := range []struct {
		name   string
		m      Machine
		listed Answer
		want   Answer
		reason string
	}{
		{"called by the kernel", Machine{LSMs: list(withBPF), Loads: Yes, Called: Yes}, Yes, Yes, "was called by the kernel"},
		{"called, and the list is not readable", Machine{LSMs: failed, Loads: Yes, Called: Yes}, Unknown, Yes, "was called by the kernel"},
		{"called beats a list that a wrong root gave", Machine{LSMs: list(withoutBPF), Loads: Yes, Called: Yes}, No, Yes, "was called by the kernel"},
		{"loads and is listed", Machine{LSMs: list(withBPF), Loads: Yes}, Yes, Yes, "loaded and attached"},
		{"loads and is not listed: the kernel would never call it", Machine{LSMs: list(withoutBPF), Loads: Yes}, No, No, "bpf is not among"},
		{"loads and is never called", Machine{LSMs: list(withoutBPF), Loads: Yes, Called: No}, No, No, "never called it: bpf is not among"},
		{"listed and never called", Machine{LSMs: list(withBPF), Loads: Yes, Called: No}, Yes, No, "never called it"},
		{"loads, and nobody knows the list", Machine{LSMs: failed, Loads: Yes}, Unknown, Unknown, "whether the kernel ever calls it is not known: securityfs is not mounted"},
		{"listed and refused", Machine{LSMs: list(withBPF), Loads: No, Load: Reading{Value: "load: EPERM"}}, Yes, No, "refuses LSM programs: load: EPERM"},
		{"listed and not tried", Machine{LSMs: list(withBPF), Load: Reading{Error: "needs CAP_BPF"}}, Yes, Unknown, "whether the kernel takes programs is not known: needs CAP_BPF"},
		{"not listed", Machine{LSMs: list(withoutBPF)}, No, No, "bpf is not among the active security modules (" + withoutBPF + ")"},
		{"a module with bpf in its name is not bpf", Machine{LSMs: list("capability,bpfish,notbpf")}, No, No, "bpf is not among"},
		{"spaces and a newline in the list", Machine{LSMs: list("capability, bpf\n"), Loads: Yes, Called: Yes}, Yes, Yes, ""},
		{"an empty list says nothing", Machine{}, Unknown, Unknown, "the active security modules are not known"},
		{"an error beats a value", Machine{LSMs: Reading{Value: withoutBPF, Error: "short read"}}, Unknown, Unknown, "short read"},
		{"compiled out", Machine{LSMs: failed, Config: Reading{Value: NotSet}}, Unknown, No, "built without BPF-LSM (CONFIG_BPF_LSM is not set)"},
		{"compiled in is not active", Machine{LSMs: failed, Config: Reading{Value: "y"}}, Unknown, Unknown, "securityfs is not mounted; a no-op LSM program: not tried"},
		{"locked down for confidentiality", Machine{LSMs: list(withBPF), Lockdown: Reading{Value: Confidentiality}}, Yes, No, "locked down for confidentiality"},
		{"locked down for integrity", Machine{LSMs: list(withBPF), Lockdown: Reading{Value: "integrity"}}, Yes, Unknown, "it was not tried"},
		{"no BTF", Machine{LSMs: list(withBPF), BTF: Reading{Value: Absent}}, Yes, No, "does not describe its types"},
		{"BTF not readable", Machine{LSMs: list(withBPF), BTF: Reading{Error: "permission denied"}}, Yes, Unknown, "it was not tried"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := test.m
			Conclude(&m)
			if m.BPFListed != test.listed || m.Conclusion != test.want || !strings.Contains(m.Reason, test.reason) || m.Reason == "" {
				t.Errorf("listed %s, conclusion %s: %s\nwant %s, %s: %s", m.BPFListed, m.Conclusion, m.Reason, test.listed, test.want, test.reason)
			}
			if m.Loads == "" || m.Called == "" {
				t.Error("answers are left empty")
			}
		})
	}
}

func TestTooOld(t *testing.T) {
	for _, test := range []struct {
		version, architecture string
		old                   bool
		least                 string
	}{
		{"5.6.19", "amd64", true, "5.7"},
		{"5.7.0", "amd64", false, "5.7"},
		{"5.15.0-139-generic", "amd64", false, "5.7"},
		{"4.18.0-553.el8_10.x86_64", "amd64", true, "5.7"},
		{"6.3.9", "arm64", true, "6.4"},
		{"6.4.0", "arm64", false, "6.4"},
		{"6.12", "arm64", false, "6.4"},
		{"6.1.0", "riscv64", false, ""},
		{"", "amd64", false, ""},
		{"6", "amd64", false, ""},
		{"six.one", "amd64", false, ""},
		{"6.99999999999999999999", "amd64", false, ""},
	} {
		old, least := tooOld(test.version, test.architecture)
		if old != test.old || least != test.least {
			t.Errorf("%s on %s: %t, %q, want %t, %q", test.version, test.architecture, old, least, test.old, test.least)
		}
	}
}
