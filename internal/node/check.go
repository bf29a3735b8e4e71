// Package node checks the machine that it runs on: whether its kernel can enforce
// BPF-LSM programs, read from its files and tried with a program that does nothing.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Options say what to check.
type Options struct {
	// Root is where the machine's root directory is mounted, "" for "/". In a
	// container the host's files stand elsewhere; the kernel is the same.
	Root string
	// Load tries whether the kernel takes a no-op program of type LSM. It is attached
	// for the blink of an eye to the hook of getpgid(2), and allows everything.
	Load bool
	// Name is the machine's name, "" for its host name.
	Name string
}

// platform is what a check asks the kernel itself.
type platform struct {
	// own is the root directory of this process, whose /proc is about the same kernel.
	own      string
	release  func() (string, error)
	hostname func() (string, error)
	// modules lists the active security modules by a system call.
	modules func() ([]string, error)
	// fstype is the magic number of the file system that an open file is on.
	fstype func(*os.File) (int64, error)
	// load tries a no-op program.
	load func(context.Context) attempt
}

// attempt is what became of a no-op program.
type attempt struct {
	loads, called kernel.Answer
	reading       kernel.Reading
}

// sourceLoad is where an attempt's reading comes from.
const sourceLoad = "bpf(2)"

// untried is an attempt that says nothing about the kernel.
func untried(format string, args ...any) attempt {
	return attempt{kernel.Unknown, kernel.Unknown, kernel.Reading{Source: sourceLoad, Error: fmt.Sprintf(format, args...)}}
}

// refused is an attempt in which the kernel said no.
func refused(format string, args ...any) attempt {
	return attempt{kernel.No, kernel.Unknown, kernel.Reading{Source: sourceLoad, Value: fmt.Sprintf(format, args...)}}
}

// Check reads the machine that it runs on and concludes. It never fails: what cannot
// be read says so in the report.
func Check(ctx context.Context, o Options, now time.Time) *kernel.Machine {
	return check(ctx, o, now, system())
}

func check(ctx context.Context, o Options, now time.Time, p platform) *kernel.Machine {
	m := &kernel.Machine{
		Node: o.Name, Time: now.UTC(), Architecture: runtime.GOARCH,
		Loads: kernel.Unknown, Called: kernel.Unknown,
	}
	if m.Node == "" {
		m.Node, _ = p.hostname() // A machine without a name is checked all the same.
	}
	m.Kernel, _ = p.release() // Without it the configuration's file cannot be named, which then says so.
	h, err := openHost(o.Root, p.own)
	if err != nil {
		m.LSMs, m.Lockdown, m.BTF, m.BPFFS = unread(err), unread(err), unread(err), unread(err)
		m.Config, m.ConfigLSM, m.CommandLine = unread(err), unread(err), unread(err)
		h = nil
	} else {
		defer h.close()
		readHost(h, m, p)
	}
	if m.LSMs.Error != "" {
		askModules(m, p)
	}
	switch {
	case !o.Load:
		m.Load = untried("not tried: it was not asked for").reading
	case ctx.Err() != nil:
		m.Load = untried("not tried: %v", context.Cause(ctx)).reading
	default:
		a := p.load(ctx)
		m.Loads, m.Called, m.Load = a.loads, a.called, a.reading
	}
	kernel.Conclude(m)
	return m
}

func unread(err error) kernel.Reading { return kernel.Reading{Error: err.Error()} }

func readHost(h *host, m *kernel.Machine, p platform) {
	m.OSImage = osImage(h)
	m.LSMs = readLSMs(h, p)
	m.Lockdown = readLockdown(h, m.LSMs.Error == "")
	m.BTF = readBTF(h)
	m.BPFFS = readBPFFS(h, p)
	m.Config, m.ConfigLSM = readConfig(h, m.Kernel)
	m.CommandLine = readCommandLine(h)
}

const fileLSMs = "/sys/kernel/security/lsm"

// readLSMs reads the list of active security modules.
func readLSMs(h *host, p platform) kernel.Reading {
	r := kernel.Reading{Source: fileLSMs}
	data, err := h.read(fileLSMs, maxSmall)
	if err == nil {
		if r.Value = strings.TrimSpace(string(data)); r.Value == "" {
			r.Error = fileLSMs + ": empty"
		}
		return r
	}
	r.Error = err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		r.Error = "securityfs is not mounted on /sys/kernel/security"
		if magic, err := h.fstype("/sys/kernel/security", p); err == nil && magic == magicSecurityFS {
			r.Error = "securityfs has no file lsm: the kernel is older than 4.20, or builds no list"
		}
	}
	return r
}

// askModules takes the list of active security modules from the kernel itself, since
// their file cannot be read. Kernels from 6.8 on answer.
func askModules(m *kernel.Machine, p platform) {
	modules, err := p.modules()
	if err != nil || len(modules) == 0 {
		return
	}
	m.LSMs = kernel.Reading{Value: strings.Join(modules, ","), Source: "lsm_list_modules(2), since " + m.LSMs.Error}
}

// readLockdown reads the active mode of kernel lockdown: the one in brackets.
func readLockdown(h *host, securityFS bool) kernel.Reading {
	r := kernel.Reading{Source: "/sys/kernel/security/lockdown"}
	data, err := h.read(r.Source, maxSmall)
	switch {
	case errors.Is(err, fs.ErrNotExist) && securityFS:
		r.Value = "none"
		return r
	case errors.Is(err, fs.ErrNotExist):
		r.Error = "securityfs is not mounted on /sys/kernel/security"
		return r
	case err != nil:
		r.Error = err.Error()
		return r
	}
	_, rest, _ := strings.Cut(string(data), "[")
	mode, _, ok := strings.Cut(rest, "]")
	if !ok {
		r.Error = fmt.Sprintf("%s: no mode is in brackets: %q", r.Source, strings.TrimSpace(string(data)))
		return r
	}
	r.Value = mode
	return r
}

// readBTF tells whether the kernel describes its types.
func readBTF(h *host) kernel.Reading {
	r := kernel.Reading{Source: "/sys/kernel/btf/vmlinux"}
	info, err := h.stat(r.Source)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() > 0:
		r.Value = kernel.Present
	case err == nil:
		r.Error = r.Source + ": not a file with something in it"
	case errors.Is(err, fs.ErrNotExist):
		// Where there is no sysfs, its absence says nothing.
		if _, err := h.stat("/sys/kernel"); err != nil {
			r.Error = "sysfs is not mounted on /sys"
			break
		}
		r.Value = kernel.Absent
	default:
		r.Error = err.Error()
	}
	return r
}

// readBPFFS tells whether the bpf file system is mounted, which KubeArmor needs.
func readBPFFS(h *host, p platform) kernel.Reading {
	r := kernel.Reading{Source: "/sys/fs/bpf"}
	magic, err := h.fstype(r.Source, p)
	switch {
	case err == nil && magic == magicBPFFS:
		r.Value = kernel.Present
	case err == nil, errors.Is(err, fs.ErrNotExist):
		r.Value = kernel.Absent
	default:
		r.Error = err.Error()
	}
	return r
}

// The magic numbers of file systems, from the kernel's linux/magic.h.
const (
	magicSecurityFS = 0x73636673
	magicBPFFS      = 0xcafe4a11
)

// readCommandLine keeps of the boot command line what decides about security modules.
func readCommandLine(h *host) kernel.Reading {
	r := kernel.Reading{Source: "/proc/cmdline"}
	data, err := h.read(r.Source, maxSmall)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	var kept []string
	for word := range strings.FieldsSeq(string(data)) {
		switch name, _, _ := strings.Cut(word, "="); name {
		case "lsm", "security", "lockdown", "apparmor", "selinux":
			kept = append(kept, word)
		}
	}
	if r.Value = strings.Join(kept, " "); r.Value == "" {
		r.Value = "nothing about security modules"
	}
	return r
}

// osImage is the name that the system gives itself, as a node's OS image.
func osImage(h *host) string {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := h.read(file, maxSmall)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				return strings.Trim(value, `"'`)
			}
		}
	}
	return ""
}
