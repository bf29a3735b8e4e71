package report

import (
	"cmp"
	"slices"

	"github.com/owenrumney/go-sarif/v2/sarif"

	"github.com/escape-scanner/escape-scanner/scan"
)

// layerIndex finds what the layers do to an open path.
type layerIndex map[scan.Workload][]*scan.Layers

func (x layerIndex) add(v *scan.WorkloadVerdict) {
	if v.Layers != nil && len(v.Layers.Paths) > 0 {
		x[v.Workload] = append(x[v.Workload], v.Layers)
	}
}

// of is the row of the matrix that a finding stands for, nil where there is none:
// that of its container, else the worst of its path. Where pods of the workload
// differ it is the worst of them.
func (x layerIndex) of(f *scan.Finding) *scan.PathLayers {
	if f.Category != scan.CategoryEscape || !f.Open {
		return nil
	}
	var row *scan.PathLayers
	for _, l := range x[f.Workload] {
		for i := range l.Paths {
			p := &l.Paths[i]
			if p.Path != f.Rule {
				continue
			}
			if row == nil || comparePaths(p, row, f.Container) < 0 {
				row = p
			}
		}
	}
	return row
}

// comparePaths puts a row of the container first, then the worst, and the same of
// several in every run.
func comparePaths(a, b *scan.PathLayers, container string) int {
	return cmp.Or(
		compareBools(a.Container != container, b.Container != container),
		cmp.Compare(stateRank(a.State), stateRank(b.State)),
		cmp.Compare(a.Container, b.Container),
		cmp.Compare(a.Reason, b.Reason),
		compareCells(&a.Runtime, &b.Runtime),
		compareCells(&a.Kernel, &b.Kernel),
		compareCells(&a.Admission, &b.Admission),
	)
}

func compareCells(a, b *scan.Cell) int {
	return cmp.Or(
		cmp.Compare(a.Answer, b.Answer),
		cmp.Compare(a.Grade, b.Grade),
		cmp.Compare(a.Reason, b.Reason),
		slices.Compare(a.By, b.By),
	)
}

// stateRank counts from the worst.
func stateRank(s scan.PathState) int {
	return slices.Index([]scan.PathState{scan.PathOpen, scan.PathUnknown, scan.PathStopped}, s)
}

// layerText says whether anything stops a path, and why.
func layerText(p *scan.PathLayers) string {
	if p == nil {
		return ""
	}
	text := "Not known whether anything stops it"
	switch p.State {
	case scan.PathOpen:
		text = "Not stopped at run time"
	case scan.PathStopped:
		text = "Guarded"
	case scan.PathUnknown:
	}
	if p.Reason != "" {
		text += ": " + limitRunes(Clean(p.Reason), maxText)
	}
	return " " + sentence(text)
}

// layerProperties are the cells of a path, in the words of the events.
func layerProperties(props sarif.Properties, p *scan.PathLayers) {
	if p == nil {
		return
	}
	props["state"] = string(p.State)
	for _, c := range []struct {
		layer scan.Layer
		cell  *scan.Cell
	}{{scan.LayerAdmission, &p.Admission}, {scan.LayerRuntime, &p.Runtime}, {scan.LayerKernel, &p.Kernel}} {
		layer := string(c.layer)
		props[layer] = string(c.cell.Answer)
		if c.cell.Reason != "" {
			props[layer+"Reason"] = limitRunes(Clean(c.cell.Reason), maxText)
		}
		if len(c.cell.By) > 0 {
			by := make([]string, 0, min(len(c.cell.By), maxBy))
			for _, name := range c.cell.By[:min(len(c.cell.By), maxBy)] {
				by = append(by, limitRunes(Clean(name), maxText))
			}
			props[layer+"By"] = by
		}
	}
	if p.Kernel.Grade != "" {
		props["grade"] = string(p.Kernel.Grade)
	}
}

// maxBy is how many policies or nodes a result names: there may be hundreds of nodes.
const maxBy = 20
