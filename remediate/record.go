package remediate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// DefaultRecordNamespace is where records are kept: whoever writes there owns the
// cluster already, and no policy of ours concerns it.
const DefaultRecordNamespace = "kube-system"

const (
	// recordSchema is the version of the record's form.
	recordSchema = 1
	// recordPrefix begins the names of the ConfigMaps.
	recordPrefix = "escape-scanner-"
	// recordLimit is how many bytes of steps go into one ConfigMap. The API server takes
	// 1 MiB.
	recordLimit = 768 << 10
	// maxParts bounds what is read and written for one record.
	maxParts = 256
	headKey  = "head"
)

// record is what is kept in the cluster of a set: what is meant, and what was before.
// How far it came is not in it, but seen from the objects.
type record struct {
	head
	steps []step
	// places are the indexes of the steps by their objects' keys, once they were read.
	places map[string]int
	// object is the ConfigMap with the head, nil when there is none yet.
	object *unstructured.Unstructured
	// kept are the steps as they stand in the cluster.
	kept []map[string]any
	// limit is how many bytes of steps go into one ConfigMap.
	limit int
}

// head is the record's head.
type head struct {
	Schema     int         `json:"schema"`
	Set        string      `json:"set"`
	SetVersion string      `json:"setVersion"`
	Options    set.Options `json:"options"`
	Stages     []Stage     `json:"stages"`
	Phase      Phase       `json:"phase"`
	By         string      `json:"by"`
	Since      time.Time   `json:"since"`
	// Round counts the applies that have ended.
	Round int `json:"round"`
	// Steps is how many there are.
	Steps int `json:"steps"`
	// Parts names the ConfigMaps that hold the steps, in order. Without any they are
	// beside the head.
	Parts []string `json:"parts,omitempty"`
	// Stale names ConfigMaps that may exist and are no part: those being written, and
	// those that others have replaced.
	Stale []string `json:"stale,omitempty"`
}

// step is one object of the set in the record.
type step struct {
	Part   set.Part `json:"part"`
	Object Ref      `json:"object"`
	// Existed says that the object was there before us. UID is its own, to tell it from
	// another by that name, and Before is what we have overwritten in it.
	Existed bool      `json:"existed"`
	UID     types.UID `json:"uid,omitempty"`
	Before  []before  `json:"before,omitempty"`
	// Round is the head's when the step was begun: as long as they are the same, nobody
	// knows whether the object was ever written.
	Round int `json:"round"`
	// Leaving says that the set does not have it any more, and the apply at work puts it
	// back.
	Leaving bool `json:"leaving,omitempty"`
	// Audit and Enforce are its forms, as far as they were applied or meant to be.
	Audit   *form `json:"audit,omitempty"`
	Enforce *form `json:"enforce,omitempty"`
}

// form is what an object of the set should be in a stage.
type form struct {
	// Config is the digest of what is applied.
	Config string `json:"config"`
	// Want is what the API server made of it: the whole object where it is ours, else
	// the fields that the configuration is about.
	Want map[string]any `json:"want"`
}

// key tells objects apart, whatever the version in which they are read.
func (r Ref) key() string { return r.GroupKind().String() + " " + r.Namespace + "/" + r.Name }

// step finds the step of an object in a record that was read, nil when there is none.
func (r *record) step(ref Ref) *step {
	if i, ok := r.places[ref.key()]; ok {
		return &r.steps[i]
	}
	return nil
}

// free tells whether nothing of us is on an object.
func (r *record) free(live *unstructured.Unstructured) bool {
	return !ours(live) && live.GetLabels()[set.LabelSet] != r.Set
}

// untouched tells whether an object that was there before us is for others to keep:
// we have not written it yet, or have put it back.
func (r *record) untouched(s *step, live *unstructured.Unstructured) bool {
	return s.Existed && r.free(live) && (s.Leaving || r.Phase == PhaseRollingBack || s.Round == r.Round)
}

// form gives the form of a stage, nil when there is none.
func (s *step) form(stage Stage) *form {
	if stage == StageAudit {
		return s.Audit
	}
	return s.Enforce
}

func (s *step) setForm(stage Stage, f *form) {
	if stage == StageAudit {
		s.Audit = f
	} else {
		s.Enforce = f
	}
}

// meets tells whether an object is what the form says, whatever others put beside it.
func (s *step) meets(f *form, live *unstructured.Unstructured) bool {
	return f != nil && len(s.missing(f, live)) == 0
}

// missing are the fields in which an object is not what the form says.
func (s *step) missing(f *form, live *unstructured.Unstructured) []fieldPath {
	return differing(s.expected(f, live).Object, clean(live).Object)
}

// expected is what an object would be if only what belongs to the form were put right.
func (s *step) expected(f *form, live *unstructured.Unstructured) *unstructured.Unstructured {
	want := &unstructured.Unstructured{Object: f.Want}
	result := clean(live)
	if !s.Existed {
		result = withBody(result, want)
	}
	for _, path := range configured(want) {
		value, _ := lookup(want.Object, path)
		put(result.Object, path, value)
	}
	return result
}

// wanted is the form that a configuration has, by what the API server made of it.
func (s *step) wanted(config, made *unstructured.Unstructured) *form {
	want := &unstructured.Unstructured{Object: map[string]any{}}
	want.SetAPIVersion(config.GetAPIVersion())
	want.SetKind(config.GetKind())
	want.SetNamespace(config.GetNamespace())
	want.SetName(config.GetName())
	if !s.Existed {
		want = withBody(want, made)
	}
	for _, path := range configured(config) {
		if s.Existed || path[0] == "metadata" {
			if value, ok := lookup(made.Object, path); ok {
				put(want.Object, path, value)
			}
		}
	}
	return &form{Config: digestOf(config), Want: want.Object}
}

func digestOf(config *unstructured.Unstructured) string {
	// Maps are written in the order of their keys, and what came out of JSON goes in.
	text, err := json.Marshal(config.Object)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// recordName is the name of the ConfigMap with the head.
func recordName(setName string) string { return recordPrefix + setName }

func recordRef(namespace, name string) Ref {
	return Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: namespace, Name: name}
}

// stepKey is the key of a step, by which they are in order.
func stepKey(i int) string { return fmt.Sprintf("step-%05d", i+1) }

// encodeSteps writes the steps, in as many ConfigMaps as it takes.
func (r *record) encodeSteps() ([]map[string]any, error) {
	chunks := []map[string]any{{}}
	size := 0
	for i := range r.steps {
		text, err := json.Marshal(&r.steps[i])
		if err != nil {
			return nil, fmt.Errorf("record of set %s: %s: %w", r.Set, r.steps[i].Object, err)
		}
		if len(text) > r.limit {
			return nil, fmt.Errorf("record of set %s: %s takes %d bytes, and a ConfigMap holds %d", r.Set, r.steps[i].Object, len(text), r.limit)
		}
		if size+len(text) > r.limit {
			chunks = append(chunks, map[string]any{})
			size = 0
		}
		chunks[len(chunks)-1][stepKey(i)] = string(text)
		size += len(text)
	}
	if len(chunks) > maxParts {
		return nil, fmt.Errorf("record of set %s: it would take %d ConfigMaps, and %d are the most: use several sets, each for some of the namespaces", r.Set, len(chunks), maxParts)
	}
	return chunks, nil
}

// says tells whether a record that is there says of an apply that ended all that the
// other one would.
func (r *record) says(next *record) bool {
	return r.object != nil && r.Phase == PhaseApplied && len(r.Stale) == 0 &&
		r.SetVersion == next.SetVersion && sameJSON(r.Options, next.Options) &&
		slices.Equal(r.Stages, next.Stages) && r.sameSteps(next)
}

func sameJSON(a, b any) bool {
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}

// sameSteps tells whether two records would be written with the same steps.
func (r *record) sameSteps(other *record) bool {
	a, errA := r.encodeSteps()
	b, errB := other.encodeSteps()
	return errA == nil && errB == nil && reflect.DeepEqual(a, b)
}

// digestOfData names the content of a ConfigMap.
func digestOfData(base string, data map[string]any) (string, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(base+"\n"), text...))
	return hex.EncodeToString(sum[:10]), nil
}
