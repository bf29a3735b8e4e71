package admission

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// kyvernoPreconditions are a rule's preconditions as far as they are evaluated.
type kyvernoPreconditions struct {
	all, any []kyvernoCondition
}

// kyvernoCondition asks for a label of the pod, or for something that is not evaluated.
type kyvernoCondition struct {
	key, value string
	opaque     bool
}

// labelCondition is how a condition asks for a label of the pod: an expression that
// compares it, so that a missing label is not an empty one. Kyverno rewrites
// request.object.metadata for the template in the rules that it derives for controllers.
var labelCondition = regexp.MustCompile(`^\{\{\s*request\.object\.metadata\.labels\.(?:"([A-Za-z0-9_./-]+)"|([A-Za-z_][A-Za-z0-9_]*))\s*==\s*'([A-Za-z0-9_.-]*)'\s*\}\}$`)

// readPreconditions takes preconditions apart. A list is the older form of all.
func readPreconditions(raw json.RawMessage) kyvernoPreconditions {
	var p kyvernoPreconditions
	if !given(raw) {
		return p
	}
	opaque := kyvernoPreconditions{all: []kyvernoCondition{{opaque: true}}}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		conditions, ok := readConditions(raw)
		if !ok {
			return opaque
		}
		p.all = conditions
		return p
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil {
		return opaque
	}
	for name, part := range parts {
		conditions, ok := readConditions(part)
		switch {
		case ok && name == "all":
			p.all = conditions
		case ok && name == "any":
			p.any = conditions
		default:
			return opaque
		}
	}
	return p
}

func readConditions(raw json.RawMessage) ([]kyvernoCondition, bool) {
	var written []struct {
		Key      any    `json:"key"`
		Operator string `json:"operator"`
		Value    any    `json:"value"`
	}
	if json.Unmarshal(raw, &written) != nil {
		return nil, false
	}
	conditions := make([]kyvernoCondition, 0, len(written))
	for _, w := range written {
		text, _ := w.Key.(string)
		found := labelCondition.FindStringSubmatch(text)
		if found == nil || w.Operator != "Equals" || w.Value != true {
			conditions = append(conditions, kyvernoCondition{opaque: true})
			continue
		}
		conditions = append(conditions, kyvernoCondition{key: found[1] + found[2], value: found[3]})
	}
	return conditions, true
}

// met tells whether the preconditions let the rule be asked about the pod: all of all
// and, where there is any, one of any.
func (p kyvernoPreconditions) met(t *target) match {
	result := matchIf(true)
	for _, c := range p.all {
		result = both(result, c.met(t))
	}
	if len(p.any) == 0 {
		return result
	}
	one := match{}
	for _, c := range p.any {
		one = either(one, c.met(t))
	}
	return both(result, one)
}

func (c kyvernoCondition) met(t *target) match {
	if c.opaque {
		return unsure("its preconditions are not evaluated")
	}
	value, ok := t.labels[c.key]
	return matchIf(ok && value == c.value)
}

// labels are those that the preconditions read.
func (p kyvernoPreconditions) labels() []string {
	var keys []string
	for _, conditions := range [][]kyvernoCondition{p.all, p.any} {
		for _, c := range conditions {
			if !c.opaque {
				keys = append(keys, c.key)
			}
		}
	}
	return keys
}
