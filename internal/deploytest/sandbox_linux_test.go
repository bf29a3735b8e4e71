package deploytest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// sandboxRequest is the variable by which this test binary is told to be the container
// that it holds, and not to test anything.
const sandboxRequest = "DEPLOYTEST_SANDBOX"

// sandbox is a container as a node makes it: a root that cannot be written to, the
// volumes, a user and the capabilities that are added. Network and processes are those
// of the machine.
type sandbox struct {
	// Root is an empty folder for the container's root to be mounted at.
	Root   string
	Mounts []sandboxMount
	// Path is the program in the container.
	Path string
	Args []string
	Env  []string
	UID  int
	// Hostname is the pod's name.
	Hostname string
	// NoNewPrivileges is what allowPrivilegeEscalation: false does.
	NoNewPrivileges bool
}

// sandboxMount shows a file or a folder of the machine in the container.
type sandboxMount struct {
	Source, Target string
	ReadOnly       bool
}

const (
	capSetPCap   = 8
	capSysAdmin  = 21
	prCapAmbient = 47
	clearAll     = 4
	prDropBound  = 24
	prNoNewPrivs = 38
)

// command is the command that becomes the container's program.
func (s *sandbox) command() (*exec.Cmd, error) {
	request, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{sandboxRequest + "=" + string(request)}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: s.UID, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: s.UID, HostID: os.Getgid(), Size: 1}},
		// Any user but root loses its capabilities when it runs a program, but for these.
		AmbientCaps: []uintptr{capSetPCap, capSysAdmin},
	}
	return cmd, nil
}

// enterSandbox becomes the container's program, where that was asked for. It returns
// only what went wrong.
func enterSandbox() error {
	request := os.Getenv(sandboxRequest)
	if request == "" {
		return nil
	}
	// Capabilities belong to a thread.
	runtime.LockOSThread()
	var s sandbox
	if err := json.Unmarshal([]byte(request), &s); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := s.mount(); err != nil {
		return err
	}
	if err := s.dropPrivileges(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", s.Path, syscall.Exec(s.Path, append([]string{s.Path}, s.Args...), s.Env))
}

// mount makes the root and goes there.
func (s *sandbox) mount() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", s.Root, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	for _, m := range append([]sandboxMount{{Source: "/proc", Target: "/proc"}}, s.Mounts...) {
		if err := m.bind(s.Root); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	if err := syscall.Mount("", s.Root, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	if err := os.Chdir(s.Root); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's root: %w", err)
	}
	return os.Chdir("/")
}

func (m sandboxMount) bind(root string) error {
	target := filepath.Join(root, m.Target)
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := syscall.Mount(m.Source, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	// What the machine forbids there (set-user-ID programs, devices) has to stay forbidden.
	var fs syscall.Statfs_t
	if err := syscall.Statfs(target, &fs); err != nil {
		return err
	}
	kept := uintptr(fs.Flags) & (syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_NODIRATIME | syscall.MS_RELATIME)
	return syscall.Mount("", target, "", kept|syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, "")
}

// dropPrivileges drops all capabilities, root's too.
func (s *sandbox) dropPrivileges() error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, clearAll, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("drop ambient capabilities: %w", errno)
	}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return err
	}
	var n uintptr
	if _, err := fmt.Sscan(strings.TrimSpace(string(last)), &n); err != nil {
		return err
	}
	for c := uintptr(0); c <= n; c++ {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prDropBound, c, 0); errno != 0 {
			return fmt.Errorf("drop capability %d: %w", c, errno)
		}
	}
	if !s.NoNewPrivileges {
		return nil
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("no new privileges: %w", errno)
	}
	return nil
}
