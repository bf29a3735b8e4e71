package scan

import (
	"reflect"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// sameFinding reports whether two findings of one fingerprint differ in nothing but
// counts.
func sameFinding(a, b *Finding) bool {
	if a == b {
		return true
	}
	x, y := *a, *b
	x.Pods, y.Pods = 0, 0
	x.Recount, y.Recount = false, false
	if x.Rule == policyRule(armor.CauseHalvesDiffer) {
		// Its counts stand in its message.
		x.Message, y.Message = "", ""
	}
	return reflect.DeepEqual(&x, &y)
}

func sameFindingCounts(a, b *Finding) bool { return a.Pods == b.Pods && a.Message == b.Message }

// sameVerdict reports whether two verdicts on a row differ in nothing but counts, and in
// which of the nodes is named for all that are as bad.
func sameVerdict(a, b *WorkloadVerdict) bool {
	if a == b {
		return true
	}
	x, y := plainVerdict(a), plainVerdict(b)
	return reflect.DeepEqual(&x, &y)
}

func plainVerdict(v *WorkloadVerdict) WorkloadVerdict {
	plain := *v
	plain.Was, plain.Recount, plain.Pods = "", false, 0
	if v.Layers == nil {
		return plain
	}
	layers := *v.Layers
	layers.Kernel.Nodes, layers.Kernel.Worst = 0, ""
	layers.Paths = slices.Clone(layers.Paths)
	for i := range layers.Paths {
		layers.Paths[i].Kernel.By = nil
	}
	plain.Layers = &layers
	return plain
}

// sameVerdictCounts reports whether two verdicts that are the same also agree in what
// sameVerdict leaves out.
func sameVerdictCounts(a, b *WorkloadVerdict) bool {
	if a.Pods != b.Pods || (a.Layers == nil) != (b.Layers == nil) {
		return false
	}
	return a.Layers == nil || a.Layers.Kernel == b.Layers.Kernel &&
		slices.EqualFunc(a.Layers.Paths, b.Layers.Paths, func(x, y PathLayers) bool { return slices.Equal(x.Kernel.By, y.Kernel.By) })
}

func samePolicy(a, b *Policy) bool {
	x, y := *a, *b
	x.Workloads, y.Workloads, x.Pods, y.Pods = 0, 0, 0, 0
	x.Recount, y.Recount = false, false
	return reflect.DeepEqual(&x, &y)
}

// sameNode reports whether two accounts of a node differ in nothing but the age of what
// was seen.
func sameNode(a, b *Node) bool {
	x, y := ageless(a), ageless(b)
	return reflect.DeepEqual(&x, &y)
}

func ageless(n *Node) Node {
	plain := *n
	if n.Enforcement == nil {
		return plain
	}
	enforcement := *n.Enforcement
	enforcement.Evidence = slices.Clone(enforcement.Evidence)
	for i := range enforcement.Evidence {
		agelessEvidence(&enforcement.Evidence[i])
	}
	plain.Enforcement = &enforcement
	return plain
}

// agelessEvidence takes off when evidence was seen: its age, and what was seen live was
// seen at the time of the reading.
func agelessEvidence(e *kernel.Evidence) {
	if e.AgeSeconds == 0 {
		e.Observed = nil
	}
	e.AgeSeconds = 0
}
