package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// The hook that the program is attached to, and that getpgid(2) reaches: hardly
// anything else calls it, so attaching there costs the machine nothing.
const hook = "task_getpgid"

// license says that the program may use what the kernel keeps for programs under the
// GPL, without which the kernel takes none of this type.
const license = "Dual MIT/GPL"

// loadNoop loads a program of type LSM that allows everything, attaches it, reaches
// its hook once, and takes it away again.
//
// As KubeArmor's programs do, it reads the kernel's memory, which a locked-down kernel
// refuses. And it notes that it was called: a kernel that is built with BPF-LSM but
// booted without it takes such programs, attaches them, and never calls one.
func loadNoop(ctx context.Context) attempt {
	if why := mayNotLoad(); why != "" {
		return untried("not tried: %s", why)
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return untried("not tried: this process cannot see the kernel's types: %v", err)
	}
	called, err := ebpf.NewMap(calledMap())
	if err != nil {
		return untried("no map for a program could be made: %s", words(err))
	}
	defer called.Close()
	program, err := loadProgram(called)
	if err != nil {
		return classify(err)
	}
	defer program.Close()
	if ctx.Err() != nil {
		return untried("not attached: %v", context.Cause(ctx))
	}
	return attach(program, called)
}

// loadProgram loads the program. Kernels before 5.11 count its memory as locked
// memory, of which there may be too little: then it tries again with more.
func loadProgram(called *ebpf.Map) (*ebpf.Program, error) {
	spec := &ebpf.ProgramSpec{
		Name: "escape_scanner", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, License: license,
		Instructions: instructions(called),
	}
	program, err := ebpf.NewProgram(spec)
	if !errors.Is(err, syscall.EPERM) {
		return program, err
	}
	restore, raised := moreLockedMemory()
	if !raised {
		return nil, err
	}
	defer restore()
	return ebpf.NewProgram(spec)
}

// calledMap holds whether the program was called.
func calledMap() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "escape_scanner", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
}

// instructions note in the map that they ran, read the kernel's memory, and allow.
func instructions(called *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, called.FD(), 0),
		asm.StoreImm(asm.R1, 0, 1, asm.Word),
		// Reading from address 0 fails and changes nothing.
		asm.Mov.Reg(asm.R1, asm.R10),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, 8),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnProbeReadKernel.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
}

// rlimitMemlock has this number on every architecture that Kubernetes runs on.
const rlimitMemlock = 8

func moreLockedMemory() (restore func(), raised bool) {
	var old syscall.Rlimit
	if syscall.Getrlimit(rlimitMemlock, &old) != nil {
		return nil, false
	}
	for _, more := range []syscall.Rlimit{{Cur: ^uint64(0), Max: ^uint64(0)}, {Cur: old.Max, Max: old.Max}} {
		if more.Cur > old.Cur && syscall.Setrlimit(rlimitMemlock, &more) == nil {
			return func() { _ = syscall.Setrlimit(rlimitMemlock, &old) }, true
		}
	}
	return nil, false
}

// classify tells what it means that the program did not load: that the kernel takes
// none of its type, or that this process may load none at all.
func classify(err error) attempt {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return refused("load: the kernel has no hooks for LSM programs: %s", words(err))
	case errors.Is(err, syscall.EPERM):
		if other := loadOther(); other != nil {
			return untried("this process may load no programs at all (seccomp, or too little locked memory): %s", words(other))
		}
		return refused("load: %s, while a program of another type loads", words(err))
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ENOSYS):
		return untried("load: %s", words(err))
	}
	if verifier, ok := errors.AsType[*ebpf.VerifierError](err); ok && len(verifier.Log) > 0 {
		return refused("load: refused by the verifier: %s", words(err))
	}
	return refused("load: %s", words(err))
}

// loadOther loads a program of another type that asks for the same rights.
func loadOther() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "escape_scanner", Type: ebpf.Kprobe, License: license,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return program.Close()
}

func attach(program *ebpf.Program, called *ebpf.Map) attempt {
	attached, err := link.AttachLSM(link.LSMOptions{Program: program})
	switch {
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.ENOMEM):
		return untried("attach: %s", words(err))
	case err != nil:
		return refused("it loads and does not attach: %s", words(err))
	}
	_, reached := syscall.Getpgid(os.Getpid())
	var hits uint32
	looked := called.Lookup(uint32(0), &hits)
	a := attempt{loads: kernel.Yes, called: kernel.Unknown, reading: kernel.Reading{Source: sourceLoad}}
	detached := ""
	if err := attached.Close(); err != nil {
		detached = "; to detach it failed: " + words(err)
	}
	switch {
	case hits > 0:
		a.called = kernel.Yes
		a.reading.Value = "loaded, attached, called and detached"
	case reached != nil || looked != nil:
		a.reading.Value = "loaded and attached; whether it was called could not be seen: " + words(errors.Join(reached, looked))
	default:
		a.called = kernel.No
		a.reading.Value = "loaded and attached, and never called"
	}
	a.reading.Value += detached
	return a
}

// The capabilities that loading takes, by their bits.
const (
	capSysAdmin = 21
	capPerfmon  = 38
	capBPF      = 39
)

// mayNotLoad is why this process can load no programs, empty when it may try. What
// is tried without the rights only tells that they are missing.
func mayNotLoad() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Sprintf("the rights of this process are not known: %v", err)
	}
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Sprintf("the user namespace of this process is not known: %v", err)
	}
	return lacks(string(status), string(uids))
}

// lacks is what a process with this status and this map of user IDs lacks.
func lacks(status, uids string) string {
	caps, ok := uint64(0), false
	for line := range strings.Lines(status) {
		if value, found := strings.CutPrefix(line, "CapEff:"); found {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			caps, ok = n, err == nil
		}
	}
	has := func(bit int) bool { return caps&(1<<bit) != 0 }
	switch {
	case !ok:
		return "the capabilities of this process are not known"
	case !has(capSysAdmin) && (!has(capBPF) || !has(capPerfmon)):
		return "it takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which this process lacks: run it as root, or in a privileged container"
	case !slices.Equal(strings.Fields(uids), []string{"0", "0", "4294967295"}):
		return "this process runs in a user namespace, from which nobody may load programs: run it as root of the machine"
	}
	return ""
}

// words is an error with the name of its number.
func words(err error) string {
	s := strings.TrimPrefix(err.Error(), "load program: ")
	// The library guesses at a reason that loadProgram has ruled out.
	s = strings.TrimSuffix(s, " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	number, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return s
	}
	return s + " (" + errnoName(number) + ")"
}

func errnoName(e syscall.Errno) string {
	switch e {
	case syscall.EPERM:
		return "EPERM"
	case syscall.EACCES:
		return "EACCES"
	case syscall.EINVAL:
		return "EINVAL"
	case syscall.ENOSYS:
		return "ENOSYS"
	case syscall.EBUSY:
		return "EBUSY"
	case syscall.E2BIG:
		return "E2BIG"
	case syscall.ENOMEM:
		return "ENOMEM"
	case syscall.ENOSPC:
		return "ENOSPC"
	case syscall.ENOENT:
		return "ENOENT"
	case syscall.EOPNOTSUPP:
		return "EOPNOTSUPP"
	case 524:
		return "ENOTSUPP"
	default:
		return "errno " + strconv.Itoa(int(e))
	}
}
