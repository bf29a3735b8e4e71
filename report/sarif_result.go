package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/owenrumney/go-sarif/v2/sarif"

	"github.com/escape-scanner/escape-scanner/scan"
)

// srcRoot is the base that GitHub reads relative URIs against: the repository.
const srcRoot = "%SRCROOT%"

// maxValue is how many characters of a field's value a result repeats.
const maxValue = 200

// resultJSON is a result with suppressions of our own, which hide those of the
// embedded result: the library writes null for what a suppression does not have,
// and the schema has no null.
type resultJSON struct {
	*sarif.Result
	Suppressions []suppressionJSON `json:"suppressions,omitempty"`
}

type suppressionJSON struct {
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification"`
}

// encodeResults writes each finding of a run as JSON, in the order given.
func (s *sarifReport) encodeResults(p *sarifPart, rules *ruleTable) ([]json.RawMessage, error) {
	results := make([]json.RawMessage, 0, len(p.findings))
	seen := make(map[string]int, len(p.findings))
	var buf bytes.Buffer
	enc := newEncoder(&buf)
	for _, f := range p.findings {
		print := f.Fingerprint()
		seen[print]++
		r := p.result(f, rules.index[f.Rule], fmt.Sprintf("%s:%d", print, seen[print]))
		buf.Reset()
		if err := enc.encode(r); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Rule, err)
		}
		results = append(results, bytes.Clone(bytes.TrimSpace(buf.Bytes())))
	}
	return results, nil
}

// result is one finding, with what the layers do to its path where that is known.
// The fingerprint's number tells apart findings that are the same but for the pods
// that have them.
func (p *sarifPart) result(f *scan.Finding, rule int, fingerprint string) resultJSON {
	path := p.layers.of(f)
	r := sarif.NewRuleResult(Clean(f.Rule)).
		WithRuleIndex(rule).
		WithKind("fail").
		WithLevel(level(f.Severity)).
		WithMessage(sarif.NewTextMessage(p.resultText(f, path))).
		WithPartialFingerPrints(map[string]any{"primaryLocationLineHash": fingerprint})
	at := sarif.NewLocationWithPhysicalLocation(physical(p.location(f)))
	if l := p.logical(f); l != nil {
		at.LogicalLocations = []*sarif.LogicalLocation{l}
	}
	r.AddLocation(at)
	r.Fixes = fixes(f)
	r.Properties = resultProperties(f)
	if p.cluster != "" && f.Workload.Cluster != "" {
		r.Properties["cluster"] = limitRunes(Clean(p.cluster), maxText)
	}
	layerProperties(r.Properties, path)
	out := resultJSON{Result: r}
	if f.Excepted != nil {
		out.Suppressions = []suppressionJSON{{
			Kind: "external", Status: "accepted", Justification: limitRunes(Clean(f.Excepted.Reason), maxText),
		}}
	}
	return out
}

// resultText is what the annotation in a pull request says: where in the
// workload, what is wrong, which value would pass, and what stands in the way.
func (p *sarifPart) resultText(f *scan.Finding, path *scan.PathLayers) string {
	message := limitRunes(Clean(f.Message), maxText)
	if f.Category == scan.CategoryException {
		return unlinked(sentence(Clean(f.Workload.Name) + ": " + message))
	}
	text := suffixed("", Clean(p.cluster), ": ") + Clean(f.Workload.String())
	if f.Container != "" {
		text += ", container " + Clean(f.Container)
	}
	what := Clean(f.Title)
	if message != "" && message != what {
		what = strings.TrimPrefix(what+": "+message, ": ")
	}
	text = sentence(text + ": " + what)
	text += policyText(f)
	if f.Field != "" && !ofPolicies(f) {
		change := ""
		switch {
		case f.Fix == nil:
		case f.Fix.Op == scan.FixRemove:
			change = "; remove it"
		default:
			change = "; set it to " + limitRunes(value(f.Fix.Value), maxValue)
		}
		text += " " + sentence(Clean(f.Field)+" is "+limitRunes(value(f.Now), maxValue)+change)
	}
	text += layerText(path)
	for _, mark := range marks(f) {
		// The sentence above says it, and why.
		if mark.text != guardedMark || path == nil {
			text += " " + sentence(mark.text)
		}
	}
	return unlinked(text)
}

// ofPolicies reports whether a finding is about policies or nodes: its field is where
// that shows, and there is no value to change.
func ofPolicies(f *scan.Finding) bool {
	return f.Category == scan.CategoryPolicy || f.Category == scan.CategoryKernel
}

// policyText names the policies that do not bite, and what would make them.
func policyText(f *scan.Finding) string {
	if !ofPolicies(f) {
		return ""
	}
	text := ""
	if n := len(f.Policies); n > 0 {
		names := make([]string, 0, min(n, maxBy))
		for _, name := range f.Policies[:min(n, maxBy)] {
			names = append(names, Clean(name))
		}
		text += " Policies: " + strings.Join(names, ", ")
		if n > maxBy {
			text += fmt.Sprintf(" and %d more", n-maxBy)
		}
		text = sentence(text)
	}
	if f.Mend != "" {
		text += " Mend: " + sentence(limitRunes(Clean(f.Mend), maxText))
	}
	return text
}

// sentence ends text with one full stop.
func sentence(text string) string { return strings.TrimRight(text, ". ") + "." }

// unlinked keeps names from making links of the text: SARIF reads [text](target)
// in plain messages too.
func unlinked(text string) string { return strings.ReplaceAll(text, "](", "] (") }

func resultProperties(f *scan.Finding) sarif.Properties {
	p := sarif.Properties{"severity": string(f.Severity), "category": string(f.Category)}
	for key, text := range map[string]string{
		"namespace":     f.Workload.Namespace,
		"kind":          f.Workload.Kind,
		"workload":      f.Workload.Name,
		"container":     f.Container,
		"containerKind": string(f.ContainerKind),
		"image":         f.Image,
		"field":         f.Field,
	} {
		if text != "" {
			p[key] = limitRunes(Clean(text), maxText)
		}
	}
	return p
}

// location is the line to edit. A finding without one gets a place that stays the same
// from run to run, because without a file and a line GitHub refuses the whole report. The
// places of clusters are apart, for what is found at one place under one fingerprint is
// one alert.
func (p *sarifPart) location(f *scan.Finding) *scan.Location {
	if f.Location != nil && f.Location.File != "" {
		return f.Location
	}
	w := f.Workload
	if f.Category == scan.CategoryException {
		return &scan.Location{File: "cluster/exceptions.yaml", Line: 1, Column: 1}
	}
	path := "cluster/" + suffixed("", p.segment, "/") + segment(w.Namespace) + "/" + segment(w.Kind) + "/" + segment(w.Name) + ".yaml"
	return &scan.Location{File: path, Line: 1, Column: 1}
}

// segment makes one harmless part of a path of a name.
func segment(name string) string {
	part := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, name)
	if strings.Trim(part, ".") == "" {
		return "-"
	}
	return limitRunes(part, 253)
}

// physical is a place in a file, as a URI with a region.
func physical(l *scan.Location) *sarif.PhysicalLocation {
	artifact := sarif.NewArtifactLocation().WithUri(fileURI(l.File))
	if !strings.HasPrefix(*artifact.URI, "file:") {
		artifact.WithUriBaseId(srcRoot)
	}
	return sarif.NewPhysicalLocation().
		WithArtifactLocation(artifact).
		WithRegion(sarif.NewRegion().WithStartLine(max(l.Line, 1)).WithStartColumn(max(l.Column, 1)))
}

// fixes is the repair of the finding's file, where it is known.
func fixes(f *scan.Finding) []*sarif.Fix {
	if f.Fix == nil || len(f.Fix.Edits) == 0 || f.Location == nil || f.Location.File == "" {
		return nil
	}
	change := sarif.NewArtifactChange(physical(f.Location).ArtifactLocation)
	for i := range f.Fix.Edits {
		e := &f.Fix.Edits[i]
		r := sarif.NewReplacement(sarif.NewRegion().WithStartLine(e.Line).WithStartColumn(e.Column).WithEndLine(e.EndLine).WithEndColumn(e.EndColumn))
		if e.Text != "" {
			r.WithInsertedContent(sarif.NewArtifactContent().WithText(validUTF8(e.Text)))
		}
		change.WithReplacement(r)
	}
	text := "Remove " + Clean(f.Field)
	if f.Fix.Op == scan.FixSet {
		text = "Set " + Clean(f.Field) + " to " + limitRunes(value(f.Fix.Value), maxValue)
	}
	if len(f.Fix.With) > 0 {
		text += ", and with it " + limitRunes(Clean(strings.Join(f.Fix.With, ", ")), maxText)
	}
	text = sentence(text)
	if f.Fix.Note != "" {
		text += " Mind: " + sentence(Clean(f.Fix.Note))
	}
	fix := sarif.NewFix().WithDescriptionText(unlinked(text))
	fix.AddArtifactChanges(change)
	return []*sarif.Fix{fix}
}

// fileURI makes a URI of a path: relative to the repository, or with the file
// scheme when it is absolute.
func fileURI(file string) string {
	file = validUTF8(file)
	switch {
	case file == "" || file == "-":
		return "stdin"
	case len(file) > 2 && file[1] == ':' && file[2] == '\\':
		file = "/" + strings.ReplaceAll(file, `\`, "/")
	}
	parts := strings.Split(strings.TrimPrefix(file, "./"), "/")
	for i, part := range parts {
		// A colon would make a scheme of the first part.
		parts[i] = strings.ReplaceAll(url.PathEscape(part), ":", "%3A")
	}
	uri := strings.Join(parts, "/")
	if strings.HasPrefix(file, "/") {
		return "file://" + uri
	}
	return uri
}

// logical names the place in Kubernetes' own terms.
func (p *sarifPart) logical(f *scan.Finding) *sarif.LogicalLocation {
	if f.Category == scan.CategoryException {
		return nil
	}
	name, full := f.Workload.Name, suffixed("", p.cluster, "/")+f.Workload.String()
	if f.Container != "" {
		name = f.Container
		full += "/" + f.Container
	}
	return sarif.NewLogicalLocation().
		WithName(Clean(name)).
		WithFullyQualifiedName(Clean(full)).
		WithKind("resource")
}
