package admission

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// sure is how sure an answer is.
type sure uint8

const (
	no sure = iota
	maybe
	yes
)

// match is whether something matches, and for maybe why that is not known.
type match struct {
	is  sure
	why string
}

func matchIf(is bool) match {
	if is {
		return match{is: yes}
	}
	return match{}
}

func unsure(why string) match { return match{maybe, why} }

// both is the weaker of two.
func both(a, b match) match {
	if b.is < a.is {
		return b
	}
	return a
}

// either is the stronger of two.
func either(a, b match) match {
	if b.is > a.is {
		return b
	}
	return a
}

// target is a pod as far as matching reads it.
type target struct {
	subject   Subject
	namespace string
	labels    map[string]string
	// annotations are known unless annotationsUnknown.
	annotations        map[string]string
	annotationsUnknown bool
	// name is empty where it is not known; it begins with base then.
	name, base string
	// namespaceLabels are known unless namespaceUnknown says why not.
	namespaceLabels  map[string]string
	namespaceUnknown string
}

func targetOf(s Subject) *target {
	t := &target{
		subject: s, namespace: s.Pod.Namespace, labels: s.Pod.Labels, annotations: s.Pod.Annotations,
		name: s.Pod.Name, base: s.Pod.GenerateName,
	}
	if t.base == "" && s.OwnerName != "" {
		t.base = s.OwnerName + "-"
	}
	if s.Namespace == nil {
		t.namespaceUnknown = "the labels of the namespace are not known"
		if s.NamespaceUnknown != "" {
			t.namespaceUnknown += ": " + s.NamespaceUnknown
		}
		return t
	}
	t.namespaceLabels = s.Namespace.Labels
	return t
}

// matches tells whether a rule of the policy is asked about the creation of the pod,
// and whether its exclude block takes the pod out. Preconditions that are not evaluated
// do not count here.
func (p *KyvernoRules) matches(r *kyvernoRule, t *target) (matched, excluded match) {
	if p.Kind == kindPolicy && p.Namespace != t.namespace {
		return match{}, match{}
	}
	matched = r.Match.includes(t)
	if matched.is == no || r.conditions.met(t).is == no {
		return match{}, match{}
	}
	if r.Exclude != nil {
		excluded = r.Exclude.excludes(t)
	}
	return matched, excluded
}

func (m *kyvernoMatch) includes(t *target) match {
	filters, anyOf := m.filters()
	joined := matchIf(!anyOf)
	for i := range filters {
		f := filters[i].accepts(t)
		if anyOf {
			joined = either(joined, f)
		} else {
			joined = both(joined, f)
		}
	}
	return joined
}

// excludes is like includes, but Kyverno takes each filter of any by itself and an
// empty exclude block excludes nothing: both come out of includes.
func (m *kyvernoMatch) excludes(t *target) match { return m.includes(t) }

// accepts tells whether all that a filter asks for holds. An empty filter accepts
// nothing.
func (f *kyvernoFilter) accepts(t *target) match {
	r := &f.Resources
	if r.empty() && !f.byUser() {
		return match{}
	}
	result := matchIf((len(r.Operations) == 0 || slices.Contains(r.Operations, "CREATE")) &&
		(len(r.Kinds) == 0 || r.pods) &&
		(len(r.Namespaces) == 0 || wildAny(r.Namespaces, t.namespace)) &&
		(r.Selector == nil || selects(r.Selector, t.labels)))
	for _, next := range []func() match{
		func() match { return t.named(r) },
		func() match { return t.annotated(r.Annotations) },
		func() match { return t.inNamespace(r.NamespaceSelector) },
		func() match {
			if f.byUser() {
				return unsure("it depends on who creates the pod")
			}
			return matchIf(true)
		},
	} {
		if result.is == no {
			return result
		}
		result = both(result, next())
	}
	return result
}

func (t *target) named(r *kyvernoResources) match {
	result := matchIf(true)
	if r.Name != "" {
		result = t.nameMatches(r.Name)
	}
	if len(r.Names) == 0 {
		return result
	}
	one := match{}
	for _, pattern := range r.Names {
		one = either(one, t.nameMatches(pattern))
	}
	return both(result, one)
}

// nameMatches compares a name that may not be known but for its beginning.
func (t *target) nameMatches(pattern string) match {
	if t.name != "" {
		return matchIf(wild(pattern, t.name))
	}
	literal, rest := pattern, ""
	if i := strings.IndexAny(pattern, "*?"); i >= 0 {
		literal, rest = pattern[:i], pattern[i:]
	}
	switch {
	case rest == "*" && strings.HasPrefix(t.base, literal):
		return matchIf(true)
	case !strings.HasPrefix(t.base, literal) && !strings.HasPrefix(literal, t.base):
		return match{}
	}
	return unsure("it depends on the pod's name, which is not known")
}

func (t *target) annotated(want map[string]string) match {
	switch {
	case len(want) == 0:
		return matchIf(true)
	case t.annotationsUnknown:
		return unsure("it depends on the pod's annotations, which are not known")
	}
	for key, value := range want {
		if !hasWild(t.annotations, key, value) {
			return match{}
		}
	}
	return matchIf(true)
}

func (t *target) inNamespace(selector *metav1.LabelSelector) match {
	switch {
	case selector == nil:
		return matchIf(true)
	case t.namespaceUnknown != "":
		return unsure(t.namespaceUnknown)
	}
	return matchIf(selects(selector, t.namespaceLabels))
}

// hasWild tells whether a map has a key and value that match two patterns.
func hasWild(m map[string]string, key, value string) bool {
	for k, v := range m {
		if wild(key, k) && wild(value, v) {
			return true
		}
	}
	return false
}

// selects tells whether a selector, with wildcards in its matchLabels, matches. One
// that Kyverno cannot read matches nothing.
func selects(selector *metav1.LabelSelector, set map[string]string) bool {
	plain := metav1.LabelSelector{MatchLabels: map[string]string{}, MatchExpressions: selector.MatchExpressions}
	for key, value := range selector.MatchLabels {
		if !strings.ContainsAny(key+value, "*?") {
			plain.MatchLabels[key] = value
		} else if !hasWild(set, key, value) {
			return false
		}
	}
	compiled, err := metav1.LabelSelectorAsSelector(&plain)
	return err == nil && compiled.Matches(labels.Set(set))
}

// kindSelector is a kind as a rule writes it: GROUP/VERSION/KIND/SUBRESOURCE with
// parts left out.
type kindSelector struct{ group, version, kind, subresource string }

func parseKind(text string) kindSelector {
	parts := strings.Split(text, "/")
	last := len(parts) - 1
	parts = append(parts[:last], strings.Split(parts[last], ".")...)
	versioned := isVersion(parts[0])
	switch {
	case len(parts) == 1:
		return kindSelector{"*", "*", parts[0], ""}
	case len(parts) == 2 && parts[0] == "*" && parts[1] == "*":
		return kindSelector{"*", "*", "*", "*"}
	case len(parts) == 2 && parts[0] == "*" && strings.ToLower(parts[1]) == parts[1]:
		return kindSelector{"*", "*", "*", parts[1]}
	case len(parts) == 2 && versioned:
		return kindSelector{"*", parts[0], parts[1], ""}
	case len(parts) == 2:
		return kindSelector{"*", "*", parts[0], parts[1]}
	case len(parts) == 3 && versioned:
		return kindSelector{"*", parts[0], parts[1], parts[2]}
	case len(parts) == 3:
		return kindSelector{parts[0], parts[1], parts[2], ""}
	case len(parts) == 4:
		return kindSelector{parts[0], parts[1], parts[2], parts[3]}
	}
	return kindSelector{}
}

// isVersion tells whether the first part of a kind is a version: "*", "v1", "v1beta1".
func isVersion(s string) bool {
	number := func(s string) bool { return len(s) == 1 && s[0] >= '0' && s[0] <= '9' }
	rest, ok := strings.CutPrefix(s, "v")
	if !ok || rest == "" {
		return s == "*"
	}
	stage := rest[1:]
	for _, name := range []string{"alpha", "beta"} {
		if n, ok := strings.CutPrefix(stage, name); ok {
			return number(rest[:1]) && number(n)
		}
	}
	return number(rest)
}

// namesPods tells whether one of the kinds is the pod's.
func namesPods(kinds []string) bool { return namesKind(kinds, "", "v1", "Pod") }

func namesKind(kinds []string, group, version, kind string) bool {
	return slices.ContainsFunc(kinds, func(text string) bool {
		k := parseKind(text)
		return wild(k.group, group) && wild(k.version, version) && wild(k.kind, kind) && wild(k.subresource, "")
	})
}

// wildAny tells whether one of the patterns matches.
func wildAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return wild(p, s) })
}

// wild matches a pattern in which "*" stands for any text and "?" for any one
// character.
func wild(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// reads are the keys that a policy's matching reads.
func (p *KyvernoRules) reads() Keys {
	var keys Keys
	for i := range p.spec.Rules {
		r := &p.spec.Rules[i]
		keys = keys.with(r.Match.reads()).with(Keys{Labels: r.conditions.labels()})
		if r.Validate != nil && r.Validate.PodSecurity != nil {
			keys.Images = keys.Images || readImages(r.Validate.PodSecurity.Exclude)
		}
		if r.Exclude != nil {
			keys = keys.with(r.Exclude.reads())
		}
	}
	return keys
}

func (x *KyvernoException) reads() Keys {
	return x.spec.Match.reads().with(Keys{Images: readImages(x.spec.PodSecurity)})
}

// readImages tells whether controls are taken out for containers of some images only.
func readImages(excludes []kyvernoStandard) bool {
	return slices.ContainsFunc(excludes, func(x kyvernoStandard) bool { return len(x.Images) > 0 && !slices.Contains(x.Images, "*") })
}

func (m *kyvernoMatch) reads() Keys {
	var keys Keys
	for _, f := range m.every() {
		r := &f.Resources
		keys.Names = keys.Names || r.Name != "" || len(r.Names) > 0
		keys.Annotations = slices.AppendSeq(keys.Annotations, maps.Keys(r.Annotations))
		if r.Selector == nil {
			continue
		}
		keys.Labels = slices.AppendSeq(keys.Labels, maps.Keys(r.Selector.MatchLabels))
		for _, e := range r.Selector.MatchExpressions {
			keys.Labels = append(keys.Labels, e.Key)
		}
	}
	// A pattern among the keys stands for any of them.
	keys.All = slices.ContainsFunc(slices.Concat(keys.Labels, keys.Annotations), func(key string) bool { return strings.ContainsAny(key, "*?") })
	return keys
}
