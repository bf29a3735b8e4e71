package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The values of readings that other code compares with.
const (
	// Present and Absent are the values of the readings BTF and BPFFS.
	Present = "present"
	Absent  = "absent"
	// NotSet is the value of an option that the kernel's configuration leaves out.
	NotSet = "not set"
	// Confidentiality is the mode of lockdown in which no program may read the
	// kernel's memory, which KubeArmor's have to.
	Confidentiality = "confidentiality"
)

// LSMList splits the list of active security modules.
func LSMList(value string) []string {
	var list []string
	for name := range strings.SplitSeq(value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			list = append(list, name)
		}
	}
	return list
}

// Conclude fills in BPFListed, Conclusion and Reason from the readings.
//
// That a program was called is the best proof there is, and that one was refused the
// next. A program that loads and attaches proves nothing by itself: a kernel that is
// booted without BPF-LSM takes programs, too, and never calls them. So does the list
// of active modules: a kernel may list bpf and refuse every program.
func Conclude(m *Machine) {
	m.BPFListed = Unknown
	if m.LSMs.Error == "" && m.LSMs.Value != "" {
		m.BPFListed = No
		if slices.Contains(LSMList(m.LSMs.Value), "bpf") {
			m.BPFListed = Yes
		}
	}
	m.Loads, m.Called = cmp.Or(m.Loads, Unknown), cmp.Or(m.Called, Unknown)
	m.Conclusion, m.Reason = conclusion(m)
}

func conclusion(m *Machine) (Answer, string) {
	switch {
	case m.Loads == Yes && m.Called == Yes:
		return Yes, "a no-op LSM program loaded, attached and was called by the kernel"
	case m.Loads == No:
		return No, "the kernel refuses LSM programs: " + cmp.Or(m.Load.Value, m.Load.Error, "no reason is known")
	case m.Loads == Yes && m.Called == No:
		return No, "a no-op LSM program loaded and attached, but the kernel never called it" + notListed(m)
	case m.BPFListed == No:
		return No, "bpf is not among the active security modules (" + m.LSMs.Value + ")"
	case m.Config.Error == "" && m.Config.Value != "" && m.Config.Value != "y":
		return No, "the kernel is built without BPF-LSM (CONFIG_BPF_LSM is " + m.Config.Value + ")"
	case m.Lockdown.Value == Confidentiality:
		return No, "the kernel is locked down for confidentiality: KubeArmor's programs read the kernel's memory, and such programs are refused"
	case m.BTF.Value == Absent && m.Loads != Yes:
		return No, "the kernel does not describe its types (BTF), without which no LSM program can be loaded"
	case m.Loads == Yes && m.BPFListed == Yes:
		return Yes, "bpf is an active security module, and a no-op LSM program loaded and attached"
	case m.Loads == Yes:
		return Unknown, "a no-op LSM program loaded and attached, but whether the kernel ever calls it is not known: " + cmp.Or(m.LSMs.Error, "the active security modules could not be read")
	case m.BPFListed == Yes:
		return Unknown, "bpf is an active security module, but whether the kernel takes programs is not known: " + cmp.Or(m.Load.Error, "it was not tried")
	}
	return Unknown, "the active security modules are not known: " + cmp.Or(m.LSMs.Error, "they could not be read") +
		fmt.Sprintf("; a no-op LSM program: %s", cmp.Or(m.Load.Error, "not tried"))
}

func notListed(m *Machine) string {
	switch m.BPFListed {
	case No:
		return ": bpf is not among the active security modules (" + m.LSMs.Value + ")"
	case Yes, Unknown:
	}
	return ""
}
