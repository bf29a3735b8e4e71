package set

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	psa "k8s.io/pod-security-admission/api"
)

// newestStandards is the newest minor version of the Pod Security Standards that the
// expressions know.
const newestStandards = 37

// control is one control of the Pod Security Standards in CEL.
type control struct {
	// id is the official one.
	id    string
	level psa.Level
	// overrides are the controls that this one stands in for at its level.
	overrides []string
	// message says what a pod must do.
	message string
	// versions are sorted, the first one is that in which the control begins.
	versions []controlVersion
}

// controlVersion is what holds from a minor version on.
type controlVersion struct {
	since      int
	expression string
}

// rule is a control as it stands at a level and a version.
type rule struct {
	id, expression, message string
}

// standards are the rules of a level at a version: what the official evaluator
// checks.
func standards(level psa.Level, version psa.Version) []rule {
	var rules []rule
	var overridden []string
	for _, c := range controls() {
		if c.level == psa.LevelRestricted && level != psa.LevelRestricted {
			continue
		}
		expression := c.at(version)
		if expression == "" {
			continue
		}
		overridden = append(overridden, c.overrides...)
		rules = append(rules, rule{id: c.id, expression: expression, message: c.message})
	}
	return slices.DeleteFunc(rules, func(r rule) bool { return slices.Contains(overridden, r.id) })
}

// at is the expression at a version, empty for a version before the control.
func (c *control) at(version psa.Version) string {
	expression := ""
	for _, v := range c.versions {
		if !version.Older(psa.MajorMinorVersion(1, v.since)) {
			expression = v.expression
		}
	}
	return expression
}

// parseStandards reads a version of the standards and says what a reader must know of
// it.
func parseStandards(text string) (psa.Version, []string, error) {
	version, err := psa.ParseVersion(text)
	if err != nil {
		return version, nil, fmt.Errorf("version of the Pod Security Standards: %w", err)
	}
	newest := psa.MajorMinorVersion(1, newestStandards)
	switch {
	case version.Latest():
		return version, []string{fmt.Sprintf("The newest version of the Pod Security Standards that the policies in CEL know is %s. They stay as they are when the API server gets newer ones.", newest.String())}, nil
	case newest.Older(version):
		return version, []string{fmt.Sprintf("The policies in CEL do not know %s of the Pod Security Standards: they say what %s says.", version.String(), newest.String())}, nil
	}
	return version, nil, nil
}

// roots are where an object has a pod: expressions that are the same for a pod and for
// whatever has a template of one.
type roots struct {
	// before are variables that the others read.
	before            []admissionregistrationv1.Variable
	spec, annotations string
}

// shared are the variables that controls read, each after those that it reads itself.
func (r roots) shared() []admissionregistrationv1.Variable {
	return append(slices.Clone(r.before), []admissionregistrationv1.Variable{
		{Name: "spec", Expression: r.spec},
		{Name: "annotations", Expression: r.annotations},
		{Name: "volumes", Expression: "variables.spec.?volumes.orValue([])"},
		{Name: "containers", Expression: "variables.spec.?initContainers.orValue([]) + variables.spec.?containers.orValue([])" +
			" + variables.spec.?ephemeralContainers.orValue([])"},
		// What containers and the pod say of their security; empty where they say nothing.
		{Name: "podContext", Expression: "variables.spec.?securityContext.orValue({})"},
		{Name: "contexts", Expression: "variables.containers.map(c, c.?securityContext.orValue({}))"},
		{Name: "allContexts", Expression: "[variables.podContext] + variables.contexts"},
		{Name: "windows", Expression: "variables.spec.?os.?name.orValue('') == 'windows'"},
		{Name: "userNamespace", Expression: "!variables.spec.?hostUsers.orValue(true)"},
	}...)
}

// needed are those of the variables that the expressions read, themselves or through
// others.
func needed(variables []admissionregistrationv1.Variable, expressions ...string) []admissionregistrationv1.Variable {
	var out []admissionregistrationv1.Variable
	for _, v := range slices.Backward(variables) {
		if slices.ContainsFunc(expressions, func(e string) bool { return reads(e, v.Name) }) {
			out = append(out, v)
			expressions = append(expressions, v.Expression)
		}
	}
	slices.Reverse(out)
	return out
}

// reads tells whether an expression reads a variable.
func reads(expression, name string) bool {
	for _, rest := range strings.Split(expression, "variables.")[1:] {
		if word := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) }); rest == name || word >= 0 && rest[:word] == name {
			return true
		}
	}
	return false
}

func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// together is all rules in one validation, so that who is refused reads of every
// control at once: an API server shows the first denial only.
func together(rules []rule, from roots, title string) ([]admissionregistrationv1.Variable, []admissionregistrationv1.Validation) {
	var own []admissionregistrationv1.Variable
	violations := make([]string, len(rules))
	expressions := make([]string, len(rules))
	for i, r := range rules {
		own = append(own, admissionregistrationv1.Variable{Name: r.id, Expression: r.expression})
		violations[i] = fmt.Sprintf("variables.%s ? '' : %s", r.id, quote(r.id+": "+r.message))
		expressions[i] = r.expression
	}
	variables := append(needed(from.shared(), expressions...), own...)
	variables = append(variables, admissionregistrationv1.Variable{
		Name:       "violations",
		Expression: "[\n  " + strings.Join(violations, ",\n  ") + "\n].filter(v, v != '')",
	})
	return variables, []admissionregistrationv1.Validation{{
		Expression:        "size(variables.violations) == 0",
		MessageExpression: quote(title+": ") + " + variables.violations.join('; ')",
		Message:           title,
	}}
}

// quote writes a string of CEL.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(s) + "'"
}

// list writes a list of strings of CEL.
func list(values ...string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = quote(value)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// labelled is an expression that tells whether optional labels are all those wanted.
func labelled(labels string, want map[string]string) string {
	var parts []string
	for _, key := range sortedKeys(want) {
		parts = append(parts, fmt.Sprintf("%s[?%s] == optional.of(%s)", labels, quote(key), quote(want[key])))
	}
	return strings.Join(parts, " && ")
}

// significant is what of an update of a pod is judged again, as the API server's own
// plugin has it: a changed image, another number of containers, or a new ephemeral
// container.
func significant() string {
	images := func(object, list string) string {
		return fmt.Sprintf("%s.spec.?%s.orValue([]).map(c, c.?image.orValue(''))", object, list)
	}
	differ := func(list string) string { return images("object", list) + " != " + images("oldObject", list) }
	return differ("containers") + " ||\n" + differ("initContainers") + " ||\n" +
		"!object.spec.?ephemeralContainers.orValue([]).all(c,\n" +
		"  oldObject.spec.?ephemeralContainers.orValue([]).exists(o, o.name == c.name && o.?image.orValue('') == c.?image.orValue('')))"
}

// title is how a refusal begins.
func title(level psa.Level, version psa.Version) string {
	return "violates the Pod Security Standards " + strconv.Quote(string(level)+":"+version.String())
}
