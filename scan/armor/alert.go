package armor

import "time"

// Alert is what KubeArmor reported of one deed, as far as anything is made of it.
// Texts come from the node and may be chosen by an attacker.
type Alert struct {
	// Time is the node's clock.
	Time time.Time
	// Node, Namespace, Pod and Container say where; OwnerKind and OwnerName are those that
	// KubeArmor found, empty where it found none.
	Node, Namespace, Pod, Container string
	OwnerKind, OwnerName            string
	Labels                          map[string]string
	// Type is "MatchedPolicy" and the like, Operation "Process", "Capabilities", "File".
	Type, Operation string
	// Policy is the policy's name, Action what it asked for, Result what came of it
	// ("Passed", "Permission denied"), Enforcer who enforced.
	Policy, Action, Result, Enforcer string
	// Resource is the capability ("CAP_SYS_ADMIN") or the command line, Process the real
	// path of the program, Parent that of its caller.
	Resource, Process, Parent string
	// Command is the name that the process gives itself; in an alert of a program that is
	// run, still that of the caller. Of a file with many names (BusyBox) it tells which
	// was meant.
	Command string
}

// Lost reports whether the alert says that alerts are missing from here on: KubeArmor
// keeps quiet about a container for a while after it had too much to say of it.
func (a *Alert) Lost() bool { return a.Operation == "AlertThreshold" }
