package reports

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

// The results of a report.
const (
	pass openreports.Result = "pass"
	fail openreports.Result = "fail"
	warn openreports.Result = "warn"
	// unevaluated is "could not be evaluated", which is what unknown means.
	unevaluated openreports.Result = "error"
	skip        openreports.Result = "skip"
)

// The rules of results that are no finding's.
const (
	verdictRule = "verdict"
	failureRule = "could-not-be-read"
	cutRule     = "left-out"
)

// maxText and maxProperty bound the texts of a result, in bytes.
const (
	maxText     = 1024
	maxProperty = 512
)

// policyOf is the name under which the rules of a category stand, and what people call
// them.
func policyOf(c scan.Category) (name, title string) {
	switch c {
	case scan.CategoryPSS:
		return "pod-security-standards", "Pod Security Standards"
	case scan.CategoryEscape:
		return "escape-paths", "Escape paths"
	case scan.CategoryException:
		return "exceptions", "Exceptions"
	case scan.CategoryPolicy:
		return "policies-that-bite", "Policies that do not bite"
	case scan.CategoryKernel:
		return "kernel-enforcement", "Kernel enforcement"
	}
	return string(c), string(c)
}

// verdictPolicy is the policy of which a verdict is the result.
const verdictPolicy = "no-way-out"

// key names a report among those of an API.
type key struct{ namespace, name string }

// keyOf is the name of the report about a subject: short, valid, the same every time, and
// no other's, for it ends in a hash of all that the subject is.
func keyOf(of subject) key {
	if of.failures {
		return key{name: "escape-scanner-could-not-be-read"}
	}
	w := of.row.Workload
	h := sha256.New()
	for _, part := range []string{w.Namespace, w.Kind, w.Name, of.row.Claims} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, w.Kind+"-"+w.Name)
	name = "escape-scanner-" + strings.Trim(name[:min(len(name), 120)], "-") + "-" + hex.EncodeToString(h.Sum(nil)[:8])
	if ofCluster(w) {
		return key{name: name}
	}
	return key{namespace: w.Namespace, name: name}
}

// ofCluster tells whether a thing is in no namespace. A finding about a namespace names
// it as its own.
func ofCluster(w scan.Workload) bool { return w.Namespace == "" || w.Kind == "Namespace" }

// build is the report that there should be about a subject, nil for none.
func (s *Sink) build(of subject, maxBytes int) *openreports.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of.failures {
		return s.buildFailures(maxBytes)
	}
	verdict, findings := s.state.Verdict(of.row), s.state.Findings(of.row)
	if verdict == nil && len(findings) == 0 {
		return nil
	}
	var results []openreports.ReportResult
	var layers *scan.Layers
	if verdict != nil {
		results = append(results, verdictResult(verdict))
		layers = verdict.Layers
	}
	// What an exception covers is the first to be left out.
	slices.SortStableFunc(findings, func(a, b *scan.Finding) int { return covered(a) - covered(b) })
	for _, f := range findings {
		results = append(results, findingResult(f, layers))
	}
	return finish(of, sink.Object(of.row.Workload), results, maxBytes)
}

func covered(f *scan.Finding) int {
	if f.Excepted != nil {
		return 1
	}
	return 0
}

func (s *Sink) buildFailures(maxBytes int) *openreports.Report {
	var results []openreports.ReportResult
	for _, f := range s.state.Failures() {
		results = append(results, openreports.ReportResult{
			Policy: verdictPolicy, Rule: failureRule, Category: "Failures", Severity: "info", Result: unevaluated,
			Description: sink.Text(f.Message, maxText),
			Properties: properties(map[string]string{
				"subject": f.Subject, "namespace": f.Namespace, "reason": string(f.Reason), "affects": f.Affects,
			}),
		})
	}
	if len(results) == 0 {
		return nil
	}
	return finish(subject{failures: true}, nil, results, maxBytes)
}

// finish makes a report of its results.
func finish(of subject, scope *corev1.ObjectReference, results []openreports.ReportResult, maxBytes int) *openreports.Report {
	k := keyOf(of)
	r := &openreports.Report{
		ObjectMeta: metav1.ObjectMeta{Name: k.name, Namespace: k.namespace, Labels: map[string]string{ManagedBy: Source}},
		Source:     Source, Scope: scope, Results: results,
	}
	for i := range results {
		results[i].Source = Source
		count(&r.Summary, results[i].Result)
	}
	cut(r, maxBytes)
	return r
}

// verdictResult is the verdict as a result. Only what is known to be closed passes.
func verdictResult(v *scan.WorkloadVerdict) openreports.ReportResult {
	r := openreports.ReportResult{
		Policy: verdictPolicy, Rule: verdictRule, Category: "Verdict", Severity: severity(v.Severity),
		Description: sink.Text(string(v.Verdict)+": "+v.Reason, maxText),
	}
	switch v.Verdict {
	case scan.VerdictClosed, scan.VerdictSealed:
		r.Result, r.Scored = pass, true
	case scan.VerdictGuarded:
		// The way is there, and every step on it is stopped.
		r.Result = warn
	case scan.VerdictExposed:
		r.Result, r.Scored = fail, true
	case scan.VerdictUnknown:
		r.Result = unevaluated
	default:
		// One that a newer version knows.
		r.Result = unevaluated
	}
	p := map[string]string{
		"verdict": string(v.Verdict), "paths": strings.Join(v.Paths, ","), "claims": v.Claims,
		"pssAllowed": strconv.FormatBool(v.PSSAllowed), "pssControls": strings.Join(v.Controls, ","),
	}
	if l := v.Layers; l != nil {
		p["admission"], p["reopen"], p["runtimeSet"] = string(l.Admission.Answer), string(l.Reopen), string(l.Runtime.Set)
		p["kernelCapabilities"], p["kernelProcesses"], p["kernelEvidence"] = string(l.Kernel.Capabilities), string(l.Kernel.Processes), string(l.Kernel.Grade)
	}
	r.Properties = properties(p)
	return r
}

// findingResult is a finding as a result.
func findingResult(f *scan.Finding, layers *scan.Layers) openreports.ReportResult {
	policy, category := policyOf(f.Category)
	r := openreports.ReportResult{
		Policy: policy, Category: category,
		Rule: sink.Text(f.Rule, maxProperty), Severity: severity(f.Severity),
		Description: sink.Text(f.Message, maxText), Result: fail, Scored: true,
	}
	p := map[string]string{
		"title": f.Title, "fingerprint": f.Fingerprint(), "container": f.Container, "field": f.Field, "item": f.Item,
		"level": f.Level, "fix": fix(f), "policies": strings.Join(f.Policies, ","), "mend": f.Mend,
	}
	switch {
	case f.Excepted != nil:
		r.Result, r.Scored = skip, false
		p["excepted"], p["exceptedUntil"] = f.Excepted.Reason, f.Excepted.Expires
	case f.Category == scan.CategoryEscape && (f.Guarded || !f.Open):
		// Stopped at run time, or shut by another field of the spec.
		r.Result, r.Scored = warn, false
	}
	if f.Category == scan.CategoryEscape && layers != nil {
		i := slices.IndexFunc(layers.Paths, func(p scan.PathLayers) bool { return p.Path == f.Rule && p.Container == f.Container })
		if i >= 0 {
			l := &layers.Paths[i]
			p["state"], p["admission"], p["runtime"], p["kernel"] = string(l.State), string(l.Admission.Answer), string(l.Runtime.Answer), string(l.Kernel.Answer)
		}
	}
	r.Properties = properties(p)
	return r
}

func fix(f *scan.Finding) string {
	switch {
	case f.Fix == nil:
		return ""
	case f.Fix.Op == scan.FixRemove:
		return "remove " + f.Field
	}
	return "set " + f.Field + " to " + string(f.Fix.Value)
}

// severity is ours as theirs, which has one more, for what is nothing bad.
func severity(s scan.Severity) openreports.ResultSeverity {
	switch s {
	case scan.SeverityCritical, scan.SeverityHigh, scan.SeverityMedium, scan.SeverityLow:
		return openreports.ResultSeverity(s)
	case scan.SeverityNone:
	}
	return "info"
}

// properties leaves out the empty ones and bounds the others.
func properties(all map[string]string) map[string]string {
	p := map[string]string{}
	for name, value := range all {
		if value = sink.Text(value, maxProperty); value != "" {
			p[name] = value
		}
	}
	return p
}

func count(sum *openreports.ReportSummary, r openreports.Result) {
	switch r {
	case pass:
		sum.Pass++
	case fail:
		sum.Fail++
	case warn:
		sum.Warn++
	case unevaluated:
		sum.Error++
	case skip:
		sum.Skip++
	}
}

// cut takes the last results off a report that would be larger than maxBytes, which are
// the least severe, and says in a last one how many there are. The summary counts them
// all the same; the limit tells that the report holds fewer.
func cut(r *openreports.Report, maxBytes int) {
	// What is around the results, and the last one.
	const frame = 4 << 10
	size, fits := frame, len(r.Results)
	for i := range r.Results {
		body, err := json.Marshal(&r.Results[i])
		if err != nil {
			continue
		}
		// The spaces between them, and what protobuf or managed fields may add.
		size += len(body) + 8
		if size > maxBytes {
			fits = max(i, 1)
			break
		}
	}
	if fits == len(r.Results) {
		return
	}
	out := r.Results[fits:]
	var sum openreports.ReportSummary
	for i := range out {
		count(&sum, out[i].Result)
	}
	last := openreports.ReportResult{
		Source: Source, Policy: verdictPolicy, Rule: cutRule, Category: "Limits", Severity: out[0].Severity, Result: worst(sum),
		Description: fmt.Sprintf("%d results are left out, because the report would be too large: %d fail, %d warn, %d error, %d skip. The summary counts them.",
			len(out), sum.Fail, sum.Warn, sum.Error, sum.Skip),
	}
	r.Results = append(slices.Clip(r.Results[:fits]), last)
	r.Configuration = &openreports.ReportConfiguration{Limits: openreports.Limits{MaxResults: len(r.Results)}}
}

func worst(sum openreports.ReportSummary) openreports.Result {
	switch {
	case sum.Fail > 0:
		return fail
	case sum.Error > 0:
		return unevaluated
	case sum.Warn > 0:
		return warn
	}
	return skip
}
