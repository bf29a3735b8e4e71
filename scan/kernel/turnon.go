package kernel

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// listed stands in the steps of the table for the security modules that are active
// on the machine; For puts them in where they are known.
const listed = "LIST"

// system is a kind of node, by the operating system or the offering that it is of.
type system struct {
	TurnOn
	is func(node) bool
	// onByDefault tells whether its kernel has BPF-LSM on when nobody changes that.
	on func(node) Answer
}

func (s system) onByDefault(n *corev1.Node) Answer {
	if s.on == nil {
		return Unknown
	}
	return s.on(lookAt(n))
}

// node is what tells systems apart.
type node struct {
	image, provider string
	labels          map[string]string
}

func lookAt(n *corev1.Node) node {
	return node{strings.ToLower(n.Status.NodeInfo.OSImage), n.Spec.ProviderID, n.Labels}
}

// runs tells whether the OS image names one of these.
func (n node) runs(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(n.image, name) })
}

// marked tells whether a label's key begins so.
func (n node) marked(prefix string) bool {
	for key := range n.labels {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func (n node) label(key, value string) bool { return n.labels[key] == value }

// systemOf is the first of the table that a node is of, nil when nothing is known of
// its operating system.
func systemOf(n *corev1.Node) *system {
	seen := lookAt(n)
	table := systems()
	for i := range table {
		if table[i].is(seen) {
			return &table[i]
		}
	}
	return nil
}

// HowToTurnOn is how BPF-LSM is switched on for a node, nil when its operating system
// is not known.
func HowToTurnOn(n *corev1.Node) *TurnOn {
	if n == nil {
		return nil
	}
	if IsWindows(n) {
		return new(windowsTurnOn())
	}
	s := systemOf(n)
	if s == nil {
		return nil
	}
	t := s.TurnOn
	info := n.Status.NodeInfo
	if old, least := tooOld(info.KernelVersion, info.Architecture); old && t.Possible {
		t.Steps = slices.Concat([]string{fmt.Sprintf("Update the kernel first: BPF-LSM came to %s with %s, and %s runs.", info.Architecture, least, info.KernelVersion)}, t.Steps)
	}
	return &t
}

// howToTurnOn is HowToTurnOn with what a check of the node has read.
func howToTurnOn(n Node) *TurnOn {
	t := HowToTurnOn(n.Node)
	m := n.Machine
	if t == nil || m == nil || otherKernel(n) != "" {
		return t
	}
	return new(t.For(m))
}

// HowToTurnOnMachine is how BPF-LSM is switched on for a machine that was checked. It
// is nil when it is on, when nobody knows that it is off, and when the operating system
// is not known. Offerings are not told apart: what a node is labelled with is not known
// on the machine.
func HowToTurnOnMachine(m *Machine) *TurnOn {
	if isOff(m) != Yes {
		return nil
	}
	n := &corev1.Node{}
	n.Status.NodeInfo.OSImage, n.Status.NodeInfo.KernelVersion = m.OSImage, m.Kernel
	n.Status.NodeInfo.Architecture = m.Architecture
	return howToTurnOn(Node{Node: n, Machine: m})
}

// isOff tells whether BPF-LSM is switched off on a machine, as opposed to on and
// refused.
func isOff(m *Machine) Answer {
	read := *m
	Conclude(&read)
	switch {
	case read.Conclusion == Yes, read.BPFListed == Yes:
		return No
	case read.BPFListed == No, read.Called == No, read.Config.Error == "" && read.Config.Value != "" && read.Config.Value != "y":
		return Yes
	case read.Loads == No:
		return No
	}
	return Unknown
}

// TurnOnTable is every way that is known to switch BPF-LSM on, or why there is none.
func TurnOnTable() []TurnOn {
	table := []TurnOn{windowsTurnOn()}
	for _, s := range systems() {
		table = append(table, s.TurnOn)
	}
	return table
}

// For fits a way to a machine: LIST in its steps becomes the machine's own list, and a
// kernel that is built without BPF-LSM has to be replaced first.
func (t TurnOn) For(m *Machine) TurnOn {
	t.Steps = slices.Clone(t.Steps)
	if m.LSMs.Error == "" {
		modules := slices.DeleteFunc(LSMList(m.LSMs.Value), func(s string) bool { return s == enforcerBPF || !plainName(s) })
		if len(modules) > 0 {
			t.Steps = slices.DeleteFunc(t.Steps, func(s string) bool { return s == whatIsListed() })
			for i := range t.Steps {
				t.Steps[i] = strings.ReplaceAll(t.Steps[i], listed, strings.Join(modules, ","))
			}
		}
	}
	if c := m.Config; t.Possible && c.Error == "" && c.Value != "" && c.Value != "y" {
		t.Steps = slices.Insert(t.Steps, 0, "Boot a kernel that is built with CONFIG_BPF_LSM=y first: in this one it is "+bounded(c.Value)+".")
	}
	return t
}

// plainName tells whether a module's name can be put in a command as it is.
func plainName(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) < 0
}

// whatIsListed says what LIST is.
func whatIsListed() string {
	return listed + " stands for what " + fileLSMs + " lists on the node: leave none of it out, or it is switched off."
}
