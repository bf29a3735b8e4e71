package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// What this machine's report must say follows from what the machine says by other
// ways, whatever machine it is.
func TestThisMachine(t *testing.T) {
	m := Check(t.Context(), Options{Load: true}, now)
	var uname syscall.Utsname
	if err := syscall.Uname(&uname); err != nil {
		t.Fatal(err)
	}
	if release := text(uname.Release[:]); m.Kernel != release {
		t.Errorf("kernel %q, uname says %q", m.Kernel, release)
	}
	if name, err := os.Hostname(); err == nil && m.Node != name {
		t.Errorf("node %q, want %q", m.Node, name)
	}
	if file, err := os.ReadFile(fileLSMs); err == nil {
		if m.LSMs.Value != strings.TrimSpace(string(file)) || m.LSMs.Source != fileLSMs {
			t.Errorf("modules %+v, the file says %q", m.LSMs, file)
		}
	} else if m.LSMs.Error == "" && !strings.HasPrefix(m.LSMs.Source, "lsm_list_modules(2)") {
		t.Errorf("modules %+v, though %v", m.LSMs, err)
	}
	if info, err := os.Stat("/sys/kernel/btf/vmlinux"); (err == nil && info.Size() > 0) != (m.BTF.Value == kernel.Present) {
		t.Errorf("BTF %+v, but %v", m.BTF, err)
	}
	checkLoad(t, m)
}

// checkLoad compares what became of the program with what the library's own test of
// the kernel finds, and with the rights of this process.
func checkLoad(t *testing.T, m *kernel.Machine) {
	t.Helper()
	t.Logf("%s: loads %s, called %s: %+v; %s: %s", m.LSMs.Value, m.Loads, m.Called, m.Load, m.Conclusion, m.Reason)
	if why := mayNotLoad(); why != "" {
		if m.Loads != kernel.Unknown || !strings.Contains(m.Load.Error, why) {
			t.Errorf("%s; but it says %s, %+v", why, m.Loads, m.Load)
		}
		return
	}
	err := features.HaveProgramType(ebpf.LSM)
	switch {
	case m.Loads == kernel.Yes && err != nil:
		t.Errorf("loaded, but a probe of the library says %v", err)
	case m.Loads == kernel.No && err == nil && m.Lockdown.Value != kernel.Confidentiality && !strings.Contains(m.Load.Value, "does not attach"):
		t.Errorf("%s, but a probe of the library loads", m.Load.Value)
	case m.Loads == kernel.Unknown && m.Load.Error == "":
		t.Error("unknown without a reason")
	case m.Loads == kernel.No && m.Conclusion != kernel.No:
		t.Errorf("refused, but concluded %s", m.Conclusion)
	case m.Called == kernel.Yes && m.BPFListed == kernel.No:
		t.Errorf("called, though not among %s", m.LSMs.Value)
	case m.Called == kernel.No && m.BPFListed == kernel.Yes:
		t.Errorf("never called, though among %s", m.LSMs.Value)
	}
}

// text is a string of C, whose bytes have a sign on some architectures.
func text[T int8 | uint8](s []T) string {
	var b []byte
	for _, c := range s {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}

// The program does not stay: nothing of its name is loaded afterwards.
func TestNothingStaysLoaded(t *testing.T) {
	if why := mayNotLoad(); why != "" {
		t.Skip(why)
	}
	Check(t.Context(), Options{Load: true}, now)
	var names []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Skip("the loaded programs cannot be listed:", err)
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // It was unloaded meanwhile.
		}
		if info, err := program.Info(); err == nil {
			names = append(names, info.Name)
		}
		if err := program.Close(); err != nil {
			t.Error(err)
		}
	}
	if slices.Contains(names, "escape_scanner") {
		t.Errorf("still loaded among %q", names)
	}
}

// The program says that it was called, and allows: run here as a program of another
// type, which kernels take that refuse those of type LSM.
func TestInstructions(t *testing.T) {
	if why := mayNotLoad(); why != "" {
		t.Skip(why)
	}
	called, err := ebpf.NewMap(calledMap())
	if err != nil {
		t.Skip("this machine lets this process make no maps:", err)
	}
	defer called.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: license, Instructions: instructions(called)})
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this machine lets this process load no programs at all:", err)
	}
	if err != nil {
		t.Fatalf("the verifier refuses them: %+v", err)
	}
	defer program.Close()
	result, err := program.Run(&ebpf.RunOptions{})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("this kernel runs no programs for tests:", err)
	}
	var hits uint32
	if lookup := called.Lookup(uint32(0), &hits); err != nil || lookup != nil {
		t.Fatal(err, lookup)
	}
	if result != 0 || hits != 1 {
		t.Errorf("returned %d and noted %d, want 0 and 1", result, hits)
	}
}

// The system call and the file name the same modules, where a machine has both.
func TestModulesBySystemCallAndByFile(t *testing.T) {
	report := inChild(t, "securityfs", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS})
	if report.LSMs.Source != fileLSMs || report.LSMs.Error != "" {
		t.Fatalf("with securityfs mounted: %+v", report.LSMs)
	}
	if report.Lockdown.Error != "" {
		t.Errorf("with securityfs mounted: lockdown %+v", report.Lockdown)
	}
	modules, err := activeModules()
	if err != nil {
		t.Skip("this kernel does not list its modules by a system call:", err)
	}
	file := kernel.LSMList(report.LSMs.Value)
	for _, name := range modules {
		if !strings.HasPrefix(name, "module-") && !slices.Contains(file, name) {
			t.Errorf("%s is listed by the system call and not by the file, %s", name, report.LSMs.Value)
		}
	}
	if slices.Contains(modules, "bpf") != slices.Contains(file, "bpf") {
		t.Errorf("bpf: the system call says %v, the file %v", modules, file)
	}
	checkLoad(t, report)
}

// Root of a user namespace has every capability there and none that counts.
func TestUserNamespaceIsUnknown(t *testing.T) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	report := inChild(t, "check", &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids,
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	})
	if report.Loads != kernel.Unknown || !strings.Contains(report.Load.Error, "user namespace") {
		t.Errorf("%s: %+v", report.Loads, report.Load)
	}
	if report.Conclusion == kernel.Yes {
		t.Error("concluded without trying")
	}
}

// childTask tells a child of this test what to do.
const childTask = "ESCAPE_SCANNER_NODE_TEST"

// inChild has a process with other rights or other mounts check this machine.
func inChild(t *testing.T, task string, attributes *syscall.SysProcAttr) *kernel.Machine {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.SysProcAttr = attributes
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output() // The report comes by stderr, which the test's own words stay out of.
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) || strings.Contains(string(out), "cannot mount") {
		t.Skipf("this process may not do that: %v %s", err, out)
	}
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var report kernel.Machine
	if err := json.Unmarshal([]byte(stderr.String()), &report); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return &report
}

func TestChild(t *testing.T) {
	switch os.Getenv(childTask) {
	case "":
		t.Skip("not a child")
	case "securityfs":
		if err := errors.Join(
			syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
			syscall.Mount("securityfs", "/sys/kernel/security", "securityfs", syscall.MS_RDONLY, ""),
		); err != nil && !errors.Is(err, syscall.EBUSY) {
			t.Fatalf("cannot mount: %v", err)
		}
	}
	if err := json.NewEncoder(os.Stderr).Encode(Check(context.Background(), Options{Load: true}, now)); err != nil {
		t.Fatal(err)
	}
}

func TestLacks(t *testing.T) {
	const initial = "         0          0 4294967295\n"
	for _, test := range []struct{ name, caps, uids, want string }{
		{"root", "000001ffffffffff", initial, ""},
		{"SYS_ADMIN alone", "0000000000200000", initial, ""},
		{"BPF and PERFMON", "000000c000000000", initial, ""},
		{"BPF without PERFMON", "0000008000000000", initial, "which this process lacks"},
		{"nothing", "0000000000000000", initial, "which this process lacks"},
		{"root of a user namespace", "000001ffffffffff", "         0       1000          1\n", "user namespace"},
		{"no map", "000001ffffffffff", "", "user namespace"},
		{"a status that cannot be read", "zz", initial, "are not known"},
	} {
		got := lacks("Name:\tx\nCapEff:\t"+test.caps+"\nCapBnd:\t000001ffffffffff\n", test.uids)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if lacks("", initial) == "" {
		t.Error("a status without capabilities is not known to have them")
	}
}

func TestClassify(t *testing.T) {
	if why := mayNotLoad(); why != "" {
		t.Skip(why)
	}
	if err := loadOther(); err != nil {
		t.Skip("this machine lets this process load no programs at all:", err)
	}
	for _, test := range []struct {
		err   error
		loads kernel.Answer
		says  string
	}{
		{syscall.EPERM, kernel.No, "operation not permitted (EPERM), while a program of another type loads"},
		{ebpf.ErrNotSupported, kernel.No, "no hooks for LSM programs"},
		{syscall.EACCES, kernel.No, "permission denied (EACCES)"},
		{syscall.EINVAL, kernel.No, "invalid argument (EINVAL)"},
		{syscall.Errno(524), kernel.No, "(ENOTSUPP)"},
		{&ebpf.VerifierError{Cause: syscall.EACCES, Log: []string{"unknown func bpf_probe_read_kernel#113"}}, kernel.No, "refused by the verifier: "},
		{syscall.ENOMEM, kernel.Unknown, "cannot allocate memory (ENOMEM)"},
		{syscall.ENOSYS, kernel.Unknown, "function not implemented (ENOSYS)"},
	} {
		a := classify(test.err)
		said := a.reading.Value
		if a.loads == kernel.Unknown {
			said = a.reading.Error
		}
		if a.loads != test.loads || !strings.Contains(said, test.says) {
			t.Errorf("%v: %s, %+v", test.err, a.loads, a.reading)
		}
	}
}

// Whoever opens a pipe waits for its other end.
func TestPipeDoesNotHang(t *testing.T) {
	files := debian()
	delete(files, "/proc/cmdline")
	root := hostDir(t, files)
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "proc", "cmdline"), 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	m := check(t.Context(), Options{Root: root}, now, fake(works))
	if m.CommandLine.Error != "/proc/cmdline: not a file" {
		t.Errorf("%+v", m.CommandLine)
	}
}
