package report

import (
	"fmt"
	"io"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
)

// RemediateSchemaVersion is the version of the documents of remediate. Fields are
// added under the same number and never renamed.
const RemediateSchemaVersion = 1

// headJSON begins every document of remediate.
type headJSON struct {
	Schema        int       `json:"schema"`
	Tool          string    `json:"tool"`
	Version       string    `json:"version"`
	Time          time.Time `json:"time"`
	Cluster       string    `json:"cluster,omitempty"`
	ServerVersion string    `json:"serverVersion,omitempty"`
}

// remediationJSON is the document of plan, apply and rollback.
type remediationJSON struct {
	headJSON
	Set     *setJSON          `json:"set,omitempty"`
	Plan    *remediate.Plan   `json:"plan"`
	Preview *preview.Report   `json:"preview,omitempty"`
	Result  *remediate.Result `json:"result,omitempty"`
}

type setJSON struct {
	Version string      `json:"version"`
	Options set.Options `json:"options"`
	// Why says why the mechanism of admission was chosen.
	Why     string          `json:"why,omitempty"`
	Objects []setObjectJSON `json:"objects"`
	Notes   []string        `json:"notes,omitempty"`
	Spared  []set.Spared    `json:"spared,omitempty"`
}

// setObjectJSON names an object of the set and its forms; what it is stands in the plan.
type setObjectJSON struct {
	Part    set.Part      `json:"part"`
	Object  remediate.Ref `json:"object"`
	Audit   bool          `json:"audit"`
	Enforce bool          `json:"enforce"`
	Why     []string      `json:"why,omitempty"`
}

// statusJSON is the document of status.
type statusJSON struct {
	headJSON
	Sets     []statusSetJSON `json:"sets"`
	Failures []scan.Failure  `json:"failures,omitempty"`
}

type statusSetJSON struct {
	*remediate.Status
	Objects []standingJSON `json:"objects"`
}

// standingJSON adds to an object whether it has its effect.
type standingJSON struct {
	*remediate.ObjectStatus
	Effect *Bite `json:"effect,omitempty"`
}

// WritePlanJSON writes a plan, or what came of it, as one document.
func WritePlanJSON(w io.Writer, r *Remediation) error {
	plan := *r.Plan
	plan.Changes = orEmpty(plan.Changes)
	doc := remediationJSON{
		headJSON: headJSON{RemediateSchemaVersion, r.Tool, r.Version, r.Time.UTC(), r.Cluster, r.ServerVersion},
		Plan:     &plan,
	}
	if r.Preview != nil {
		judged := *r.Preview
		judged.Workloads = orEmpty(judged.Workloads)
		doc.Preview = &judged
	}
	if r.Result != nil {
		result := *r.Result
		result.Changes = orEmpty(result.Changes)
		doc.Result = &result
	}
	if r.Set != nil {
		doc.Set = &setJSON{Version: set.Version, Options: r.Set.Options, Why: r.Admission, Objects: []setObjectJSON{}, Notes: r.Set.Notes, Spared: r.Set.Spared}
		for i := range r.Set.Objects {
			o := &r.Set.Objects[i]
			doc.Set.Objects = append(doc.Set.Objects, setObjectJSON{
				Part: o.Part, Object: remediate.RefOf(o.Final()), Audit: o.Audit != nil, Enforce: o.Enforce != nil, Why: o.Why,
			})
		}
	}
	return writeDocument(w, "plan", doc)
}

// WriteStatusJSON writes what there is of the sets as one document.
func WriteStatusJSON(w io.Writer, all *Standings) error {
	doc := statusJSON{
		headJSON: headJSON{RemediateSchemaVersion, all.Tool, all.Version, all.Time.UTC(), all.Cluster, all.ServerVersion},
		Sets:     []statusSetJSON{}, Failures: all.Failures,
	}
	for i := range all.Sets {
		s := &all.Sets[i]
		one := statusSetJSON{Status: s.Status, Objects: []standingJSON{}}
		for j := range s.Status.Objects {
			row := standingJSON{ObjectStatus: &s.Status.Objects[j]}
			if b, ok := s.Bites[row.Object.String()]; ok {
				row.Effect = &b
			}
			one.Objects = append(one.Objects, row)
		}
		doc.Sets = append(doc.Sets, one)
	}
	return writeDocument(w, "status", doc)
}

// orEmpty is a list that is an empty one in JSON where there is none.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeDocument(w io.Writer, what string, doc any) error {
	enc := newEncoder(w)
	enc.indent()
	if err := enc.encode(doc); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
