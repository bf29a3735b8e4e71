package node

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// system is the kernel that this process runs on.
func system() platform {
	return platform{own: "/", release: release, hostname: os.Hostname, modules: activeModules, fstype: fstype, load: loadNoop}
}

func release() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(data)), err
}

func fstype(f *os.File) (int64, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var stat syscall.Statfs_t
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Fstatfs(int(fd), &stat) })
	if err == nil {
		err = failed
	}
	// The number has 32 bits; on some architectures it comes with a sign.
	return int64(uint32(stat.Type)), err
}

// lsmListModules is the number of lsm_list_modules(2), the same on every architecture
// that Linux has got since numbers are shared.
const lsmListModules = 461

// moduleName is the name of a security module by its number in linux/lsm.h.
func moduleName(id uint64) string {
	switch id {
	case 100:
		return "capability"
	case 101:
		return "selinux"
	case 102:
		return "smack"
	case 103:
		return "tomoyo"
	case 104:
		return "apparmor"
	case 105:
		return "yama"
	case 106:
		return "loadpin"
	case 107:
		return "safesetid"
	case 108:
		return "lockdown"
	case 109:
		return "bpf"
	case 110:
		return "landlock"
	case 111:
		return "ima"
	case 112:
		return "evm"
	case 113:
		return "ipe"
	}
	return "module-" + strconv.FormatUint(id, 10)
}

// activeModules asks the kernel for its active security modules.
func activeModules() ([]string, error) {
	var ids [64]uint64
	size := uint32(unsafe.Sizeof(ids))
	n, _, errno := syscall.Syscall(lsmListModules, uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	var names []string
	for _, id := range ids[:min(int(n), len(ids))] {
		names = append(names, moduleName(id))
	}
	return names, nil
}
