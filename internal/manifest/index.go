package manifest

import (
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Index finds the documents that declare workloads, by kind, namespace and name.
// A document that names no namespace stands for the workload of its kind and name
// in any, unless another names it exactly: charts and kustomizations leave the
// namespace to the command that applies them.
type Index struct {
	documents map[scan.Workload]declaration
}

var _ scan.Declarations = (*Index)(nil)

// NewIndex makes an empty index.
func NewIndex() *Index { return &Index{documents: map[scan.Workload]declaration{}} }

// Add takes a document in. The first that is added goes first.
func (x *Index) Add(d *Document) {
	if strings.HasSuffix(d.Workload.Name, "*") {
		return // A generated name is not known before the object is created.
	}
	w := d.Workload
	w.Cluster = ""
	x.documents[w] = append(x.documents[w], d)
}

// Find returns the documents that declare the workload. It may be called
// concurrently once everything is added.
func (x *Index) Find(w scan.Workload) (scan.Declaration, bool) {
	w.Cluster = ""
	if d, ok := x.documents[w]; ok {
		return d, true
	}
	w.Namespace = ""
	d, ok := x.documents[w]
	return d, ok
}

// declaration are the documents of one workload: usually one, several where a base
// is patched by overlays.
type declaration []*Document

// Locate finds the field in the document that has it, else in the one that has the
// closest field above it.
func (docs declaration) Locate(field, container, item string) *scan.Location {
	var best *scan.Location
	deepest := -1
	for _, d := range docs {
		l, depth := d.locate(field, container, item)
		if !l.Nearest {
			return l
		}
		if depth > deepest {
			best, deepest = l, depth
		}
	}
	return best
}

// Place is where the first of the documents begins.
func (docs declaration) Place() *scan.Location { return docs[0].Place() }

// Place is where the document begins.
func (d *Document) Place() *scan.Location {
	return &scan.Location{File: d.File, Line: d.Line, Column: 1}
}
