package scan

import (
	"encoding/json"
	"slices"
	"strconv"
)

// repair is a single-field change that could make a rule pass.
type repair struct {
	edit
	// container is nil for a field of the pod.
	container *containerRef
	field     string
	item      string
	now       json.RawMessage
	fix       Fix
	related   []string
	// why is added to the finding's message.
	why string
	// unproven is true when the repair was tried and did not help.
	unproven bool
}

// maxTrials bounds the work that one pod can cause: a pod with more suspicious
// fields than this for one rule has all of them named without trying each.
const maxTrials = 128

// toBlame finds which of the candidate repairs are needed: it applies all of them,
// asks again, and then leaves each one out in turn. A repair without which the
// check still refuses names a field to blame. On return the needed repairs are
// applied to the draft. It is nil when the candidates do not help; the draft is
// then unchanged.
func toBlame(candidates []repair, passes func() bool) []repair {
	for i := range candidates {
		candidates[i].do()
	}
	if !passes() {
		undoAll(candidates)
		return nil
	}
	if len(candidates) == 1 || len(candidates) > maxTrials {
		return candidates
	}
	needed := make([]repair, 0, len(candidates))
	var spare []repair
	for i := range candidates {
		candidates[i].undo()
		if passes() {
			spare = append(spare, candidates[i])
		} else {
			needed = append(needed, candidates[i])
		}
		candidates[i].do()
	}
	if len(spare) == 0 {
		return needed
	}
	// What is needed one by one must also be enough together.
	undoAll(spare)
	if len(needed) > 0 && passes() {
		return needed
	}
	for i := range spare {
		spare[i].do()
	}
	return candidates
}

func undoAll(repairs []repair) {
	for i := range slices.Backward(repairs) {
		repairs[i].undo()
	}
}

// jsonText is v as JSON. It is for the plain values and API structs that fields
// hold, which always encode.
func jsonText(v any) json.RawMessage {
	switch v := v.(type) {
	case nil:
		return json.RawMessage("null")
	case bool:
		return strconv.AppendBool(nil, v)
	case *bool:
		if v == nil {
			return json.RawMessage("null")
		}
		return strconv.AppendBool(nil, *v)
	case int32:
		return strconv.AppendInt(nil, int64(v), 10)
	case int64:
		return strconv.AppendInt(nil, v, 10)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return jsonText(err.Error())
	}
	return b
}
