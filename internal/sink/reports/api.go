package reports

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// API is an API for reports.
type API string

// The APIs. Where both are served, APIAuto takes OpenReports, which the other became.
const (
	APIAuto         API = "auto"
	APIOpenReports  API = "openreports"
	APIPolicyReport API = "policyreport"
)

// APIs lists what may be asked for.
func APIs() []API { return []API{APIAuto, APIOpenReports, APIPolicyReport} }

func (a API) valid() error {
	if !slices.Contains(APIs(), a) {
		return fmt.Errorf("reports: API %q: want one of auto, openreports, policyreport", string(a))
	}
	return nil
}

// Group is the group of the API's kinds.
func (a API) Group() string {
	report, _ := a.kinds()
	return report.Group
}

// kinds are the kinds of the reports about what is in a namespace, and about the rest.
func (a API) kinds() (report, cluster schema.GroupVersionKind) {
	if a == APIPolicyReport {
		v := schema.GroupVersion{Group: "wgpolicyk8s.io", Version: "v1alpha2"}
		return v.WithKind("PolicyReport"), v.WithKind("ClusterPolicyReport")
	}
	return openreports.SchemeGroupVersion.WithKind("Report"), openreports.SchemeGroupVersion.WithKind("ClusterReport")
}

// errNoAPI is that the cluster serves no API for reports.
var errNoAPI = errors.New("the cluster serves no API for reports: neither OpenReports nor PolicyReports are installed")

// choose is the API to write, and whether the other is served too.
func (s *Sink) choose(ctx context.Context) (api API, others []API, err error) {
	var served []API
	for _, a := range []API{APIOpenReports, APIPolicyReport} {
		report, _ := a.kinds()
		ok, err := s.opts.Store.Serves(ctx, report)
		switch {
		case err != nil && (s.opts.API == APIAuto || s.opts.API == a):
			return "", nil, err
		case ok:
			served = append(served, a)
		}
	}
	if s.opts.API != APIAuto {
		if i := slices.Index(served, s.opts.API); i >= 0 {
			return s.opts.API, slices.Delete(served, i, i+1), nil
		}
		report, _ := s.opts.API.kinds()
		return "", nil, fmt.Errorf("the cluster does not serve %s, which reports are to be written as", report.GroupVersion())
	}
	if len(served) == 0 {
		return "", nil, errNoAPI
	}
	return served[0], served[1:], nil
}

// shape is a report as the API can have it: the older one has no place for the source of
// the whole, nor for limits.
func (a API) shape(r *openreports.Report) *openreports.Report {
	if a != APIPolicyReport {
		return r
	}
	shaped := *r
	shaped.Source, shaped.Configuration = "", nil
	return &shaped
}

// object is a report in the form of the API.
func (a API) object(r *openreports.Report) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(a.shape(r))
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", r.Name, err)
	}
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	if a == APIPolicyReport {
		delete(content, "source")
	}
	report, cluster := a.kinds()
	if r.Namespace == "" {
		report = cluster
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(report)
	return u, nil
}

// kept is what is known of a report that is in the cluster.
type kept struct {
	uid             types.UID
	resourceVersion string
	digest          string
	// workload is true where it is about a workload, and not about another thing.
	workload bool
}

// read makes out what a report in the cluster says. ok is false where it is not ours.
func read(u *unstructured.Unstructured) (k kept, ok bool) {
	r := &openreports.Report{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, r); err != nil {
		// Ours can be read.
		return kept{}, false
	}
	source := r.Source
	if source == "" && len(r.Results) > 0 {
		source = r.Results[0].Source
	}
	if source != Source || r.Labels[ManagedBy] != Source {
		return kept{}, false
	}
	return kept{
		uid: r.UID, resourceVersion: r.ResourceVersion, digest: digest(r),
		workload: len(r.Results) > 0 && r.Results[0].Rule == verdictRule,
	}, true
}

// digest is that of all that we write into a report.
func digest(r *openreports.Report) string {
	text, err := json.Marshal(openreports.Report{
		Source: r.Source, Scope: r.Scope, Configuration: r.Configuration, Summary: r.Summary, Results: r.Results,
	})
	if err != nil {
		// There is nothing in it that JSON does not have. A digest that no other equals
		// costs a write.
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
