package targets_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

func TestScopeIncludes(t *testing.T) {
	t.Parallel()
	whole := targets.Scope{Exclude: []string{"dev"}, Own: "scanner"}
	named := targets.Scope{Namespaces: []string{"shop"}, Labels: map[string]string{"app": "web", "tier": ""}}
	for _, test := range []struct {
		name      string
		scope     targets.Scope
		namespace string
		labels    map[string]string
		want      bool
	}{
		{"any namespace", whole, "shop", nil, true},
		{"one that is excluded", whole, "dev", nil, false},
		{"the scanner's own", whole, "scanner", nil, false},
		{"kube-system", whole, "kube-system", nil, false},
		{"kubearmor", targets.Scope{}, "kubearmor", nil, false},
		{"kyverno", targets.Scope{}, "kyverno", nil, false},
		{"all labels", named, "shop", map[string]string{"app": "web", "tier": "", "more": "x"}, true},
		{"a label that is missing and should be empty", named, "shop", map[string]string{"app": "web"}, false},
		{"another value", named, "shop", map[string]string{"app": "db", "tier": ""}, false},
		{"another namespace", named, "blog", map[string]string{"app": "web", "tier": ""}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.scope.Includes(test.namespace, test.labels); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestScopeValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		scope targets.Scope
		want  []string // none for a scope that is right
	}{
		{"everything", targets.Scope{}, nil},
		{"all set", targets.Scope{Namespaces: []string{"shop", "blog"}, Own: "scanner", Labels: map[string]string{"app.kubernetes.io/name": "web"}}, nil},
		{"what is always left out is excluded", targets.Scope{Exclude: targets.Always()}, nil},
		{"kube-system is named", targets.Scope{Namespaces: []string{"kube-system"}}, []string{`namespace "kube-system" is always left out: KubeArmor enforces nothing there`}},
		{"the scanner's own is named", targets.Scope{Namespaces: []string{"x"}, Own: "x"}, []string{`"x" is always left out: the scanner itself`}},
		{"named and excluded", targets.Scope{Namespaces: []string{"x"}, Exclude: []string{"x"}}, []string{"both named and excluded"}},
		{"twice", targets.Scope{Namespaces: []string{"x", "x"}}, []string{"named twice"}},
		{"no DNS label", targets.Scope{Namespaces: []string{"Shop"}, Exclude: []string{"a.b"}, Own: "-"}, []string{`namespace "Shop": `, `excluded namespace "a.b": `, `own namespace "-": `}},
		{"empty", targets.Scope{Namespaces: []string{""}}, []string{`namespace "": `}},
		{"labels", targets.Scope{Labels: map[string]string{"a b": "x", "ok": "not ok"}}, []string{`label "a b": `, `label ok: value "not ok": `}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.scope.Validate()
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// Nobody can change what is always left out.
func TestAlwaysIsACopy(t *testing.T) {
	t.Parallel()
	list := targets.Always()
	list[0] = "shop"
	if want := []string{"kube-system", "kubearmor", "kyverno"}; !slices.Equal(targets.Always(), want) {
		t.Errorf("got %v", targets.Always())
	}
}
