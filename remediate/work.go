package remediate

import (
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// verb is how a change is made.
type verb int

const (
	doNothing verb = iota
	doApply
	doUpdate
	doDelete
)

// work is a change with what it takes to make it.
type work struct {
	Change
	verb verb
	// set is the set's name, step the object's in the record.
	set  string
	step *step
	// object is the one of the set of which this is a form, nil for one that is put back.
	object *set.Object
	// seen is the object as the plan saw it, nil when there was none.
	seen *unstructured.Unstructured
	// config is what is applied, or what an update makes of the object.
	config *unstructured.Unstructured
	force  bool
	// whole is the object that must come out but for metadata; nil where others may add to
	// it.
	whole *unstructured.Unstructured
	// skipped says that the object stands in a later stage's form, and stays there.
	skipped bool
}

func (w *work) note(text string) { w.Notes = append(w.Notes, text) }

// stopped is the work that an answer of the API server stands in the way of. Any other
// error is the caller's.
func (w work) stopped(err error) (work, error) {
	b := blockOf(err, w.Object)
	if b == nil {
		return w, err
	}
	w.Change, w.verb = w.blocked(b), doNothing
	return w, nil
}

// same tells whether an object is as it was seen, as far as users are concerned.
func same(live, seen *unstructured.Unstructured) bool {
	if live == nil || seen == nil {
		return live == nil && seen == nil
	}
	if RefOf(live).isNamespace() {
		// Controllers write annotations there all the time, and only labels concern us.
		return live.GetUID() == seen.GetUID() && maps.Equal(live.GetLabels(), seen.GetLabels())
	}
	return live.GetUID() == seen.GetUID() && len(differing(clean(live).Object, clean(seen).Object)) == 0
}

// onto is the live object with all that concerns us taken from another, which is what
// same compares: of the rest it keeps what came since.
func onto(live, from *unstructured.Unstructured) *unstructured.Unstructured {
	result, fields := live.DeepCopy(), []string{"labels"}
	if !RefOf(live).isNamespace() {
		result, fields = withBody(live, from), []string{"labels", "annotations"}
	}
	for _, field := range fields {
		path := fieldPath{"metadata", field}
		if value, ok := lookup(from.Object, path); ok {
			put(result.Object, path, value)
		} else {
			remove(result.Object, path)
		}
	}
	return result
}

// at is a configuration for the object as it is now, or for one that does not exist.
func at(config, live *unstructured.Unstructured) *unstructured.Unstructured {
	result := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(config.Object)}
	if live != nil {
		result.SetResourceVersion(live.GetResourceVersion())
	}
	return result
}

// plain is an object as it comes out of JSON, whatever types it was made with.
func plain(object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	text, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	result := &unstructured.Unstructured{}
	if err := result.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	maps.DeleteFunc(result.Object, func(key string, _ any) bool { return key == "status" })
	return result, nil
}

func byWhom(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " by " + strings.Join(names, ", ")
}
