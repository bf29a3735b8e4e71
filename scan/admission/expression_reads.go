package admission

import (
	"math"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
)

// reading is what an expression reads, by its syntax alone. It says too much rather
// than too little.
type reading struct {
	keys Keys
	// filled are the fields of the pod that are read and that the API server fills in
	// when it creates one, so that nobody knows them before.
	filled []string
	// total: whatever is not known in it, it does not fail when it is evaluated.
	total bool
	// calls are the functions that it calls, those of a namespace with it.
	calls []string
}

// fillsIn lists the fields below object that creation fills in.
func fillsIn() []string {
	return []string{
		"metadata.uid", "metadata.creationTimestamp", "metadata.resourceVersion", "metadata.generation",
		"metadata.managedFields", "metadata.selfLink", "status",
	}
}

// read reads a parsed expression. total tells which variables of the policy do not
// fail.
func read(e ast.Expr, total map[string]bool) reading {
	r := &reader{variables: total, bound: map[string]int{}}
	r.walk(e)
	r.total = r.isTotal(e)
	r.keys = r.keys.sorted()
	slices.Sort(r.filled)
	r.filled = slices.Compact(r.filled)
	return r.reading
}

type reader struct {
	reading
	variables map[string]bool
	// bound counts the comprehensions around that bind a name.
	bound map[string]int
}

func (r *reader) walk(e ast.Expr) {
	if p, ok := pathOf(e); ok {
		r.note(p)
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		r.walkSelect(e.AsSelect())
	case ast.CallKind:
		r.walkCall(e.AsCall())
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			r.walk(element)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			r.walk(entry.AsMapEntry().Key())
			r.walk(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			r.walk(field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		for _, part := range []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			r.walk(part)
		}
	default:
	}
}

func (r *reader) walkSelect(s ast.SelectExpr) {
	if p, ok := pathOf(s.Operand()); ok && s.IsTestOnly() {
		r.note(p.tested(s.FieldName()))
		return
	}
	r.walk(s.Operand())
}

func (r *reader) walkCall(call ast.CallExpr) {
	args := call.Args()
	name := call.FunctionName()
	r.keys.Containers = r.keys.Containers || comparesName(call)
	switch {
	case name == operators.In && len(args) == 2:
		// 'key' in object.metadata.labels reads that one key.
		key, isKey := constant(args[0])
		if p, ok := pathOf(args[1]); isKey && ok {
			r.note(p.tested(key))
			return
		}
	case (name == operators.Equals || name == operators.NotEquals) && len(args) == 2:
		for i := range args {
			if p, ok := pathOf(args[i]); ok && isNull(args[1-i]) {
				p.presence = true
				r.note(p)
				return
			}
		}
	}
	if call.IsMemberFunction() {
		if target := call.Target(); target.Kind() == ast.IdentKind {
			name = target.AsIdent() + "." + name
		}
		r.walk(call.Target())
	}
	r.calls = append(r.calls, name)
	for _, arg := range args {
		r.walk(arg)
	}
}

// comparesName tells whether a call compares the name of something that is not the pod:
// of a container, for what can be told. Messages only print names.
func comparesName(call ast.CallExpr) bool {
	compared := call.Args()
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals, operators.In:
	case "startsWith", "endsWith", "contains", "matches":
		compared = append(slices.Clip(compared), call.Target())
	default:
		return false
	}
	return slices.ContainsFunc(compared, func(e ast.Expr) bool {
		if e == nil {
			return false
		}
		p, ok := pathOf(e)
		last := len(p.fields) - 1
		return ok && last >= 0 && p.fields[last] == "name" && p.fields[0] != "metadata" && p.root != plugincel.RequestVarName
	})
}

// path is how an expression follows the fields of a variable.
type path struct {
	root   string
	fields []string
	// optional is the first field that need not be there.
	optional int
	// presence: only whether it is there is asked.
	presence bool
}

func (p path) tested(field string) path {
	p.fields, p.presence = append(p.fields, field), true
	return p
}

// pathOf takes an expression apart that follows fields of a variable by constant
// names, in any of CEL's ways to write that.
func pathOf(e ast.Expr) (path, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return path{root: strings.TrimPrefix(e.AsIdent(), "."), optional: math.MaxInt}, true
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() {
			return path{}, false
		}
		p, ok := pathOf(s.Operand())
		p.fields = append(p.fields, s.FieldName())
		return p, ok
	case ast.CallKind:
		call := e.AsCall()
		name, args := call.FunctionName(), call.Args()
		if len(args) != 2 || !slices.Contains([]string{operators.Index, operators.OptIndex, operators.OptSelect}, name) {
			return path{}, false
		}
		field, isText := constant(args[1])
		if !isText {
			return path{}, false
		}
		p, ok := pathOf(args[0])
		if name != operators.Index {
			p.optional = min(p.optional, len(p.fields))
		}
		p.fields = append(p.fields, field)
		return p, ok
	default:
		return path{}, false
	}
}

// note takes down that a field is read, or only whether it is there.
func (r *reader) note(p path) {
	r.keys.Images = r.keys.Images || slices.Contains(p.fields, "image")
	r.keys.Account = r.keys.Account || slices.Contains(p.fields, "serviceAccountName") || slices.Contains(p.fields, "serviceAccount")
	switch p.root {
	case plugincel.RequestVarName:
		if len(p.fields) == 0 && !p.presence || len(p.fields) > 0 && p.fields[0] == "name" {
			r.keys.Names = true
		}
	case plugincel.ObjectVarName:
		r.noteObject(p)
	case plugincel.OldObjectVarName:
		// It is the same pod, and one that was created.
		filled := r.filled
		r.noteObject(p)
		r.filled = filled
	}
}

func (r *reader) noteObject(p path) {
	joined := strings.Join(p.fields[:min(len(p.fields), 2)], ".")
	for _, field := range fillsIn() {
		whole := field == joined || strings.HasPrefix(joined, field+".")
		within := !p.presence && (joined == "" || strings.HasPrefix(field, joined+"."))
		if whole || within {
			r.filled = append(r.filled, field)
		}
	}
	if len(p.fields) < 2 {
		r.keys.All = r.keys.All || !p.presence && (len(p.fields) == 0 || p.fields[0] == "metadata")
		return
	}
	if p.fields[0] != "metadata" {
		return
	}
	switch p.fields[1] {
	case "labels":
		r.keys.Labels, r.keys.AnyLabels = noteMap(p, r.keys.Labels, r.keys.AnyLabels)
	case "annotations":
		r.keys.Annotations, r.keys.AnyAnnotations = noteMap(p, r.keys.Annotations, r.keys.AnyAnnotations)
	case "name", "generateName":
		r.keys.Names = true
	case "namespace":
	default:
		// Owners, finalizers and what will be added one day.
		r.keys.All = r.keys.All || !slices.Contains(fillsIn(), joined)
	}
}

// noteMap takes down which key of a map is read. A key that is not there is no other
// thing than a map that is not there, unless just that is asked: then evaluation
// fails for the one and is false for the other.
func noteMap(p path, keys []string, anyKey bool) ([]string, bool) {
	if len(p.fields) == 2 {
		return keys, true
	}
	return append(keys, p.fields[2]), anyKey || (p.presence && len(p.fields) == 3 || p.optional == 2) && p.optional > 1
}

func constant(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

func isNull(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue
}

// totalCalls are functions that do not fail on arguments of their types, among
// them those that macros expand to.
func totalCalls() []string {
	return []string{
		operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional,
		operators.Equals, operators.NotEquals, operators.In, operators.Add, operators.NotStrictlyFalse,
		"startsWith", "endsWith", "contains", "matches", "lowerAscii", "upperAscii", "split", "size",
		"group", "resource", "subresource", "namespace", "name", "path", "check", "allowed",
	}
}

// isTotal tells whether evaluation cannot fail, whoever creates the pod: nothing is
// read but constants and what every request has.
func (r *reader) isTotal(e ast.Expr) bool {
	if p, ok := pathOf(e); ok {
		return r.bound[p.root] > 0 && len(p.fields) == 0 || r.isGiven(p)
	}
	switch e.Kind() {
	case ast.LiteralKind:
		return true
	case ast.SelectKind:
		p, ok := pathOf(e.AsSelect().Operand())
		return ok && r.isGiven(p)
	case ast.CallKind:
		call := e.AsCall()
		if !slices.Contains(totalCalls(), call.FunctionName()) {
			return false
		}
		if call.IsMemberFunction() && !r.isTotal(call.Target()) {
			return false
		}
		return r.allTotal(call.Args())
	case ast.ListKind:
		return len(e.AsList().OptionalIndices()) == 0 && r.allTotal(e.AsList().Elements())
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		if !r.allTotal([]ast.Expr{c.IterRange(), c.AccuInit()}) {
			return false
		}
		names := []string{c.IterVar(), c.IterVar2(), c.AccuVar()}
		for _, name := range names {
			r.bound[name]++
		}
		total := r.allTotal([]ast.Expr{c.LoopCondition(), c.LoopStep(), c.Result()})
		for _, name := range names {
			r.bound[name]--
		}
		return total
	default:
		return false
	}
}

func (r *reader) allTotal(list []ast.Expr) bool {
	return !slices.ContainsFunc(list, func(e ast.Expr) bool { return !r.isTotal(e) })
}

// isGiven tells whether every request for a pod has the field.
func (r *reader) isGiven(p path) bool {
	joined := strings.Join(p.fields, ".")
	switch p.root {
	case plugincel.RequestVarName:
		return slices.Contains([]string{"userInfo", "userInfo.username", "userInfo.groups", "operation", "namespace"}, joined)
	case plugincel.AuthorizerVarName:
		return joined == "" || joined == "requestResource"
	case plugincel.VariableVarName:
		return r.variables[joined]
	}
	return false
}

// sorted puts keys in order, each once.
func (k Keys) sorted() Keys {
	slices.Sort(k.Labels)
	slices.Sort(k.Annotations)
	k.Labels, k.Annotations = slices.Compact(k.Labels), slices.Compact(k.Annotations)
	return k
}

// with joins what two read.
func (k Keys) with(other Keys) Keys {
	return Keys{
		All:            k.All || other.All,
		Labels:         slices.Concat(k.Labels, other.Labels),
		Annotations:    slices.Concat(k.Annotations, other.Annotations),
		AnyLabels:      k.AnyLabels || other.AnyLabels,
		AnyAnnotations: k.AnyAnnotations || other.AnyAnnotations,
		Names:          k.Names || other.Names,
		Images:         k.Images || other.Images,
		Containers:     k.Containers || other.Containers,
		Account:        k.Account || other.Account,
	}.sorted()
}
