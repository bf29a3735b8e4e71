package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/node"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// On whatever machine this runs, the command says what the check found, and ends with
// the code for it.
func TestNodeOnThisMachine(t *testing.T) {
	d := testDeps(t.TempDir())
	want := node.Check(t.Context(), node.Options{Load: true}, d.now())
	codes := map[kernel.Answer]int{kernel.Yes: exitOK, kernel.No: exitFindings, kernel.Unknown: exitIncomplete}

	code, stdout, stderr := invoke(t.Context(), d, strings.NewReader(""), "node", "-o", "json")
	var got kernel.Machine
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if got != *want {
		t.Errorf("got  %+v\nwant %+v", got, *want)
	}
	if code != codes[want.Conclusion] || stderr != "" {
		t.Errorf("code %d for %s, stderr %q", code, want.Conclusion, stderr)
	}

	textCode, text, _ := invoke(t.Context(), d, strings.NewReader(""), "node")
	if textCode != code || !strings.Contains(text, "Can this kernel enforce BPF-LSM? "+string(want.Conclusion)+": ") {
		t.Errorf("code %d, json says %d\n%s", textCode, code, text)
	}
}

func TestMachineText(t *testing.T) {
	base := kernel.Machine{
		Node: "n1", Kernel: "6.1.0", Architecture: "amd64", OSImage: "Debian GNU/Linux 12 (bookworm)",
		LSMs: kernel.Reading{Value: "capability,bpf", Source: "/sys/kernel/security/lsm"},
	}
	for _, test := range []struct {
		name    string
		tweak   func(*kernel.Machine)
		code    int
		says    []string
		saysNot []string
	}{
		{
			"it can", func(m *kernel.Machine) { m.Loads, m.Called = kernel.Yes, kernel.Yes }, exitOK,
			[]string{"Can this kernel enforce BPF-LSM? yes: a no-op LSM program loaded, attached and was called by the kernel.\n"},
			[]string{"turn", "mount -t bpf"},
		},
		{
			"it can, and KubeArmor would miss the bpf file system",
			func(m *kernel.Machine) {
				m.Loads, m.Called, m.BPFFS = kernel.Yes, kernel.Yes, kernel.Reading{Value: kernel.Absent}
			}, exitOK,
			[]string{"sudo mount -t bpf bpffs /sys/fs/bpf"}, []string{"turn"},
		},
		{
			"listed and refused: nothing to turn on",
			func(m *kernel.Machine) { m.Loads, m.Load.Value = kernel.No, "load: EPERM" }, exitFindings,
			[]string{"Can this kernel enforce BPF-LSM? no: the kernel refuses LSM programs: load: EPERM.\n"}, []string{"turn"},
		},
		{
			"never called: to be turned on",
			func(m *kernel.Machine) {
				m.LSMs.Value, m.Loads, m.Called = "capability,apparmor", kernel.Yes, kernel.No
			}, exitFindings,
			[]string{"How to turn it on (Debian):\n", `lsm=capability,apparmor,bpf"'`, "Source: https://"}, []string{"LIST"},
		},
		{
			"nothing is known", func(m *kernel.Machine) { *m = kernel.Machine{} }, exitIncomplete,
			[]string{"this machine: unknown operating system, kernel unknown"}, []string{"turn"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := base
			test.tweak(&m)
			kernel.Conclude(&m)
			var out strings.Builder
			a := &app{deps: testDeps(t.TempDir()), stdout: &out}
			code := exitOK
			if err := a.writeMachine("text", &m); err != nil {
				exit, ok := errors.AsType[*exitError](err)
				if !ok {
					t.Fatal(err)
				}
				code = exit.code
			}
			if code != test.code {
				t.Errorf("code %d, want %d", code, test.code)
			}
			for _, want := range test.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			for _, not := range test.saysNot {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q in\n%s", not, out.String())
				}
			}
		})
	}
}
