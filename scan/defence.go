package scan

import (
	"slices"

	psa "k8s.io/pod-security-admission/api"
)

// Defence is what is to be had against an escape path in general, before anything is
// known of a cluster.
type Defence struct {
	// Controls are those of the Pod Security Standards that refuse the path, each at
	// Level or above.
	Controls []string
	// Level is the lowest level that refuses every instance of the path.
	Level string
	// Gates are capabilities: where a runtime policy blocks all of them that the
	// container holds, the path is shut.
	Gates []string
	// Ungated says why no runtime policy shuts it; empty where there are gates.
	Ungated string
	// Lowered is what takes from the path, or closes it.
	Lowered []Weakening
}

// Weakening is a property of pods that takes from an escape path.
type Weakening struct {
	// By is the property, and Reason why.
	By, Reason string
	// To is the severity that is left.
	To Severity
	// Closes is true when the path is shut by it, not merely made harder.
	Closes bool
}

// DefenceOf is what is to be had against the escape path with the ID. ok is false
// where no path is called so, and of what only makes others worse.
func DefenceOf(id string) (d Defence, ok bool) {
	table := escapeTable()
	i := slices.IndexFunc(table, func(p escapePath) bool { return p.ID == id && !p.Aggravates })
	if i < 0 {
		return Defence{}, false
	}
	l := pathLayerOf(id)
	d = Defence{Controls: slices.Clone(l.controls), Level: string(psa.LevelRestricted), Gates: slices.Clone(l.gates), Ungated: l.ungated}
	if slices.Contains(reopenings(), id) {
		d.Level = string(psa.LevelBaseline)
	}
	d.Lowered = table[i].lowered()
	return d, true
}

// lowered lists what takes from the path, in words.
func (p *escapePath) lowered() []Weakening {
	var list []Weakening
	add := func(by string, e *effect) {
		if e != nil && (e.closes || e.to.Rank() < p.Severity.Rank()) {
			list = append(list, Weakening{By: by, Reason: e.reason, To: e.to, Closes: e.closes})
		}
	}
	add("hostUsers: false", p.userNamespace)
	if p.guest == nil {
		add("a runtime class of gVisor, Kata or Firecracker", p.sandbox)
	} else {
		add("a runtime class of gVisor", p.sandbox)
		add("a runtime class of Kata or Firecracker", p.guest)
	}
	add("a user other than root", p.nonRoot)
	add("a user other than root, with allowPrivilegeEscalation: false", p.bounded)
	return list
}
