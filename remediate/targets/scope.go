package targets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Scope is which pods a set is for. Every part of a set means the same pods by it.
type Scope struct {
	// Namespaces are those that are named; none means the whole cluster, also its
	// namespaces to come.
	Namespaces []string `json:"namespaces,omitempty"`
	// Exclude are namespaces left out of the whole cluster, beside those that always
	// are: Always.
	Exclude []string `json:"exclude,omitempty"`
	// Own is the scanner's own namespace, which is left out always; empty when it runs
	// in none.
	Own string `json:"own,omitempty"`
	// Labels are those that a pod must carry, all of them.
	Labels map[string]string `json:"labels,omitempty"`
}

// alwaysExcluded are the namespaces that no set is for, each with the reason.
var alwaysExcluded = []struct{ name, why string }{
	{"kube-system", "KubeArmor enforces nothing there, and a cluster whose own pods are refused does not come up again"},
	{"kubearmor", "KubeArmor enforces nothing there, and without its agents nothing is enforced anywhere"},
	{"kyverno", "pods of Kyverno that are refused cannot rule on admission any more"},
}

// Always are the namespaces that are left out whatever is asked for.
func Always() []string {
	names := make([]string, len(alwaysExcluded))
	for i, ns := range alwaysExcluded {
		names[i] = ns.name
	}
	return names
}

// never says why a namespace is always left out; ok is false for all others.
func (s Scope) never(namespace string) (why string, ok bool) {
	for _, ns := range alwaysExcluded {
		if ns.name == namespace {
			return ns.why, true
		}
	}
	if s.Own != "" && namespace == s.Own {
		return "the scanner itself runs there", true
	}
	return "", false
}

// Covers reports whether pods of the namespace are in scope, by their labels.
func (s Scope) Covers(namespace string) bool {
	if _, never := s.never(namespace); never || slices.Contains(s.Exclude, namespace) {
		return false
	}
	return len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, namespace)
}

// Includes reports whether a pod with these labels in the namespace is in scope.
func (s Scope) Includes(namespace string, podLabels map[string]string) bool {
	if !s.Covers(namespace) {
		return false
	}
	for key, value := range s.Labels {
		if got, ok := podLabels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Validate tells everything that is wrong with the scope.
func (s Scope) Validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	seen := map[string]bool{}
	for _, ns := range s.Namespaces {
		errs = append(errs, validNamespace("namespace", ns))
		why, never := s.never(ns)
		switch {
		case never:
			complain("namespace %q is always left out: %s", ns, why)
		case slices.Contains(s.Exclude, ns):
			complain("namespace %q is both named and excluded", ns)
		case seen[ns]:
			complain("namespace %q is named twice", ns)
		}
		seen[ns] = true
	}
	for _, ns := range s.Exclude {
		errs = append(errs, validNamespace("excluded namespace", ns))
	}
	if s.Own != "" {
		errs = append(errs, validNamespace("the scanner's own namespace", s.Own))
	}
	for _, key := range sortedKeys(s.Labels) {
		for _, msg := range validation.IsQualifiedName(key) {
			complain("label %q: %s", key, msg)
		}
		for _, msg := range validation.IsValidLabelValue(s.Labels[key]) {
			complain("label %s: value %q: %s", key, s.Labels[key], msg)
		}
	}
	return errors.Join(errs...)
}

func validNamespace(what, name string) error {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return fmt.Errorf("%s %q: %s", what, name, strings.Join(msgs, "; "))
	}
	return nil
}
