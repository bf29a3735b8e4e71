package alerts

import (
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// The operations of KubeArmor.
const (
	operationProcess    = "Process"
	operationFile       = "File"
	operationCapability = "Capabilities"
)

// Classify says what kind of deed an alert tells of, under which techniques of MITRE
// ATT&CK it falls, and whether it was stopped. It goes by the operation and by what was
// done: policies are the user's own, and their names mean little.
func Classify(a *armor.Alert) (class scan.AlertClass, techniques []string, blocked bool) {
	d := deedOf(a)
	return d.class, slices.Clone(d.techniques), d.blocked
}

// deed is what an alert tells of, as far as it matters.
type deed struct {
	program
	// name is that of the program.
	name string
	// by is what is known of the program that asked for a capability.
	by program
	// capability is the one that was asked for, without CAP_.
	capability string
	// file is the one that was touched.
	file    string
	blocked bool
	// scratch, runtime: where the program lies.
	scratch, runtime bool
}

func deedOf(a *armor.Alert) deed {
	d := deed{name: nameOf(a), blocked: blocked(a), scratch: scratch(a.Process)}
	d.program = program{class: scan.ClassOther}
	by := programs[d.name]
	switch a.Operation {
	case operationCapability:
		d.class, d.by = scan.ClassCapability, by
		d.capability = capabilityOf(a.Resource)
		d.techniques = capabilityTechniques(d.capability)
		d.runtime = runtimeAlike(a.Process) && a.Parent == "" && d.blocked && ofRuntime(d.capability)
		if d.runtime {
			d.techniques = []string{mitreExec}
		}
	case operationProcess:
		if by.class != "" {
			d.program = by
		} else if p, ok := byPolicy(a.Policy, d.name); ok {
			d.program = p
		}
	case operationFile:
		d.file = a.Resource
		if p, ok := stepOfFile(a.Resource); ok {
			d.program = p
		} else if by.class == scan.ClassEscape && !by.dual {
			d.program = by
		}
	default:
		if by.class == scan.ClassEscape && !by.dual {
			d.program = by
		}
	}
	return d
}

// byPolicy is asked last: where a file has many names and it is not known which was
// meant, the name of the policy that named it can tell.
func byPolicy(policy, name string) (program, bool) {
	if !manyNamed(name) {
		return program{}, false
	}
	for word := range strings.FieldsFuncSeq(strings.ToLower(policy), func(r rune) bool { return r == '-' || r == '.' || r == '_' }) {
		switch word {
		case "chroot":
			return programs["chroot"], true
		case "pkg", "tools", "tool", "packages":
			return programs["curl"], true
		}
	}
	return program{}, false
}

// blocked reports whether the deed was stopped: by an enforcer that was asked to, and
// with a result that says so. Where these differ it counts as done.
func blocked(a *armor.Alert) bool {
	if strings.HasPrefix(a.Action, "Audit") || a.Action == "Allow" || a.Enforcer == "eBPF Monitor" {
		return false
	}
	return strings.EqualFold(a.Result, "Permission denied") || strings.EqualFold(a.Result, "Operation not permitted")
}

// capabilityOf is the name of a capability as the rules write it.
func capabilityOf(resource string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(resource)), "CAP_")
}
