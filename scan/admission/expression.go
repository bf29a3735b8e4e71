package admission

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/parser"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// maxExpressions is how many expressions of one policy are compiled. The API server
// has no such limit but that of an object's size.
const maxExpressions = 1000

// dialect is how a kind of policy writes expressions: which variables and functions
// there are.
type dialect struct {
	base *environment.EnvSet
	mode environment.Type
	// declared are the variables that not every policy has.
	params, authorizer bool
	// plain are policies without variables: these share a compiler, for making one
	// takes longer than all that it compiles then.
	plain *plugincel.CompositedCompiler
}

// newDialect prepares an environment of the API server's of the version, or the
// newest one, with more options. All that is compiled in it can be evaluated while
// something is not known.
func newDialect(server string, more ...cel.EnvOption) (dialect, error) {
	newest := version.MajorMinor(1, math.MaxInt16)
	d := dialect{mode: environment.StoredExpressions}
	at := newest
	if parsed, err := version.ParseGeneric(server); err == nil && parsed.LessThan(newest) && parsed.AtLeast(version.MajorMinor(1, 26)) {
		// What a server of a version knows is what may be written anew when all
		// servers have that version.
		at, d.mode = version.MajorMinor(parsed.Major(), parsed.Minor()), environment.NewExpressions
	}
	if at == newest || at.LessThan(version.MajorMinor(1, 37)) {
		more = append(more, lenientOrValue()...)
	}
	base, err := environment.MustBaseEnvSet(at).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        more,
		ProgramOptions:    []cel.ProgramOption{cel.EvalOptions(cel.OptPartialEval)},
	})
	if err != nil {
		return dialect{}, fmt.Errorf("CEL environment for %s: %w", at, err)
	}
	d.base = base
	d.plain, err = plugincel.NewCompositedCompiler(base)
	return d, err
}

// lenientOrValue lets orValue take what is no optional value, as CEL did in servers
// before 1.37: x.orValue(y) becomes asOptional(x).orValue(y).
func lenientOrValue() []cel.EnvOption {
	const asOptional = "@asOptional"
	param := cel.TypeParamType("T")
	optional := cel.OptionalType(param)
	wrap := func(eh parser.ExprHelper, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		return eh.NewMemberCall("orValue", eh.NewCall(asOptional, target), args...), nil
	}
	return []cel.EnvOption{
		cel.Macros(cel.ReceiverMacro("orValue", 1, wrap)),
		cel.Function(asOptional,
			cel.Overload("as_optional", []*cel.Type{optional}, optional),
			// One binding for all overloads is not kept from values of other types.
			cel.SingletonUnaryBinding(func(value ref.Val) ref.Val {
				if _, ok := value.(*types.Optional); ok {
					return value
				}
				return types.OptionalOf(value)
			})),
	}
}

// source is an expression as it is written.
type source struct {
	name, text string
	returns    []*cel.Type
}

func (s source) GetName() string          { return s.name }
func (s source) GetExpression() string    { return s.text }
func (s source) ReturnTypes() []*cel.Type { return s.returns }

// expression is one that was compiled, or why it was not.
type expression struct {
	source
	reading
	compiled plugincel.CompilationResult
	broken   string
}

// program is the expressions of one policy.
type program struct {
	compiler *plugincel.CompositedCompiler
	parser   *cel.Env
	dialect  dialect
	count    int

	conditions, validations, audits []expression
	// messages has an expression for each validation, empty where there is none.
	messages []expression
	keys     Keys
	filled   []string
	// broken is why each variable that does not compile does not.
	broken map[string]string
	// total are the variables whose evaluation does not fail.
	total map[string]bool
	// gaps are what is not known of any pod before it is created.
	gaps []gap
}

func newProgram(d dialect, variables bool) (*program, error) {
	p := &program{compiler: d.plain, dialect: d, broken: map[string]string{}, total: map[string]bool{}}
	var err error
	if variables {
		p.compiler, err = plugincel.NewCompositedCompiler(d.base)
	}
	if err == nil {
		p.parser, err = p.compiler.Env(d.mode)
	}
	return p, err
}

// compile compiles an expression and takes down what it reads.
func (p *program) compile(name, text string, authorizer bool, returns ...*cel.Type) expression {
	e := expression{source: source{name, text, returns}}
	if !p.prepare(&e) {
		return e
	}
	options := plugincel.OptionalVariableDeclarations{HasParams: p.dialect.params, HasAuthorizer: p.dialect.authorizer && authorizer}
	e.compiled = p.compiler.CompileCELExpression(e.source, options, p.dialect.mode)
	e.settle()
	return e
}

// variable compiles a variable, for the expressions that are compiled after it.
func (p *program) variable(name, text string) {
	e := expression{source: source{name, text, []*cel.Type{cel.AnyType, cel.DynType}}}
	if p.prepare(&e) {
		options := plugincel.OptionalVariableDeclarations{HasParams: p.dialect.params, HasAuthorizer: p.dialect.authorizer}
		e.compiled = p.compiler.CompileAndStoreVariable(e.source, options, p.dialect.mode)
		e.settle()
	}
	p.total[name] = e.total
	if e.broken != "" {
		p.broken[name] = fmt.Sprintf("variable %s %s", name, e.broken)
	}
}

// prepare reads an expression and tells whether it is to be compiled.
func (p *program) prepare(e *expression) bool {
	if p.count++; p.count > maxExpressions {
		e.broken = fmt.Sprintf("was not compiled: the policy has more than %d expressions", maxExpressions)
		p.keys.All = true
		return false
	}
	parsed, issues := p.parser.Parse(e.text)
	if issues.Err() != nil {
		e.broken = "does not compile: " + firstLine(issues.Err().Error())
		return false
	}
	e.reading = read(parsed.NativeRep().Expr(), p.total)
	if strings.Contains(e.text, plugincel.OldObjectVarName) {
		// It asks whether an image is another than before, not which it is.
		e.keys.Images, e.keys.Containers = false, false
	}
	p.keys = p.keys.with(e.keys)
	p.filled = append(p.filled, e.filled...)
	return true
}

// settle says why an expression did not compile: first of all which function it
// calls that the API server's library has not.
func (e *expression) settle() {
	if e.compiled.Error == nil {
		return
	}
	e.total = false
	detail := e.compiled.Error.Detail
	var missing []string
	for _, found := range regexp.MustCompile(`undeclared reference to '([^']*)'`).FindAllStringSubmatch(detail, -1) {
		for _, call := range e.calls {
			if call == found[1] || strings.HasPrefix(call, found[1]+".") || strings.HasSuffix(call, "."+found[1]) {
				missing = append(missing, call)
			}
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		e.broken = "calls what the API server's CEL library has not: " + strings.Join(slices.Compact(missing), ", ")
		return
	}
	e.broken = "does not compile: " + firstLine(strings.TrimPrefix(detail, "compilation failed: "))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// state is what became of an expression.
type state int

const (
	// holds: it has a value.
	evalHolds state = iota
	// fails: its evaluation failed.
	evalFails
	// unsure: its value depends on what is not known.
	evalUnsure
	// spent: all that may be spent on evaluation is spent.
	evalSpent
)

// outcome is what became of an expression, with its value or the reason.
type outcome struct {
	state  state
	value  any
	reason string
	// total: what it depends on cannot make it fail.
	total bool
}

func (o outcome) is(b bool) bool { return o.state == evalHolds && o.value == b }

// run evaluates expressions on one pod within a budget, as the API server does.
type run struct {
	context plugincel.CompositionContext
	inputs  cel.PartialActivation
	gaps    []gap
	budget  int64
}

// evaluate evaluates one expression. Its cost, and that of the variables that it is
// the first to read, is taken off the budget.
func (r *run) evaluate(e *expression) outcome {
	if e.broken != "" {
		return outcome{state: evalUnsure, reason: "expression " + e.broken}
	}
	value, details, err := e.compiled.Program.ContextEval(r.context, r.inputs)
	cost := r.context.GetAndResetCost()
	if details == nil || details.ActualCost() == nil {
		return outcome{state: evalSpent, reason: fmt.Sprintf("runtime cost could not be calculated for expression: %v, no further expression will be run", e.text)}
	}
	own := *details.ActualCost()
	if cost > r.budget || own > math.MaxInt64 || int64(own) > r.budget-cost {
		return outcome{state: evalSpent, reason: "validation failed due to running out of cost budget, no further validation rules will be run"}
	}
	r.budget -= cost + int64(own)
	if err != nil {
		return outcome{state: evalFails, reason: fmt.Sprintf("expression '%v' resulted in error: %v", e.text, err)}
	}
	if unknown, ok := value.(*types.Unknown); ok {
		return outcome{state: evalUnsure, reason: r.explain(unknown), total: e.total}
	}
	return outcome{value: value.Value()}
}

// explain names what a value depends on and why that is not known.
func (r *run) explain(unknown *types.Unknown) string {
	var reasons []string
	for _, id := range unknown.IDs() {
		trails, _ := unknown.GetAttributeTrails(id)
		for _, trail := range trails {
			reasons = append(reasons, r.reasonFor(trail.String()))
		}
	}
	slices.Sort(reasons)
	return strings.Join(slices.Compact(reasons), "; ")
}

// reasonFor finds why a field is not known, or one in it or around it.
func (r *run) reasonFor(name string) string {
	for _, g := range r.gaps {
		if name == g.name || strings.HasPrefix(name, g.name+".") || strings.HasPrefix(g.name, name+".") {
			return g.why
		}
	}
	return "it depends on " + name + ", which is not known"
}

// forever is a context that does not end: what limits an evaluation is its cost.
type forever struct{}

func (forever) Deadline() (time.Time, bool) { return time.Time{}, false }
func (forever) Done() <-chan struct{}       { return nil }
func (forever) Err() error                  { return nil }
func (forever) Value(any) any               { return nil }
