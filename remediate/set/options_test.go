package set_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*set.Options)
		want   []string
	}{
		"the defaults":      {nil, nil},
		"auto":              {func(o *set.Options) { o.Admission = set.AdmissionAuto }, nil},
		"a version":         {func(o *set.Options) { o.PSSVersion = "v1.36" }, nil},
		"a bad version":     {func(o *set.Options) { o.PSSVersion = "1.36" }, []string{`"1.36"`}},
		"no name":           {func(o *set.Options) { o.Name = "" }, []string{"set name"}},
		"a bad name":        {func(o *set.Options) { o.Name = "Escape_" }, []string{`set name "Escape_"`}},
		"a long name":       {func(o *set.Options) { o.Name = strings.Repeat("a", 37) }, []string{"more than 36"}},
		"an unknown level":  {func(o *set.Options) { o.Level = "privileged" }, []string{`level "privileged"`, "baseline, restricted"}},
		"an unknown action": {func(o *set.Options) { o.Action = "warn" }, []string{`action "warn"`, "block, audit"}},
		"an unknown fit":    {func(o *set.Options) { o.Fit = "loose" }, []string{`fit "loose"`, "full, precise"}},
		"an unknown admission": {func(o *set.Options) { o.Admission = "opa" },
			[]string{`admission "opa"`, "auto, psa, kyverno, kyverno-cel, vap, none"}},
		"all that is wrong at once": {func(o *set.Options) { o.Fit, o.Action = "loose", "warn" }, []string{"fit", "action"}},
		"an unknown element":        {func(o *set.Options) { o.Without = []string{"telnet"} }, []string{`without "telnet"`, "tools", "dac_override", "curl"}},
		"an unknown element in only": {func(o *set.Options) { o.Only = []string{"tools", ""} },
			[]string{`only ""`}},
		"nothing is left": {func(o *set.Options) { o.Only, o.Without = []string{"tools"}, []string{"tools"} },
			[]string{"nothing of the set is left"}},
		"only an admission that is none": {func(o *set.Options) { o.Only = []string{"admission"} }, []string{"nothing of the set is left"}},
		"only capabilities, audited": {func(o *set.Options) { o.Only, o.Action = []string{"capabilities"}, set.ActionAudit },
			[]string{"KubeArmor audits no capabilities"}},
		"a namespace that is always left out": {func(o *set.Options) { o.Scope.Namespaces = []string{"kube-system"} },
			[]string{`namespace "kube-system" is always left out`}},
		"labels by psa": {func(o *set.Options) {
			o.Scope.Labels, o.Admission = map[string]string{"app": "web"}, set.AdmissionPSA
		}, []string{"admission psa", "vap"}},
		"labels by psa that is not chosen": {func(o *set.Options) {
			o.Scope.Labels, o.Admission, o.Without = map[string]string{"app": "web"}, set.AdmissionPSA, []string{"admission"}
		}, nil},
		"a label that KubeArmor drops": {func(o *set.Options) { o.Scope.Labels = map[string]string{"pod-template-hash": "x"} },
			[]string{"label pod-template-hash: KubeArmor does not see it"}},
		"a label that is a pattern to KubeArmor": {func(o *set.Options) { o.Scope.Labels = map[string]string{"kubernetes.io/hostname": "x"} },
			[]string{"takes it for a pattern"}},
		"a label of a container": {func(o *set.Options) { o.Scope.Labels = map[string]string{"kubearmor.io/container.name": "x"} },
			[]string{"names of containers"}},
		"a label named like the namespace's identity": {func(o *set.Options) { o.Scope.Labels = map[string]string{"namespaceName": "x"} },
			[]string{"the namespace's name"}},
		"such a label without KubeArmor": {func(o *set.Options) {
			o.Scope.Labels, o.Admission, o.Only = map[string]string{"pod-template-hash": "x"}, set.AdmissionVAP, []string{"admission"}
		}, nil},
	} {
		o := options(test.change)
		err := o.Validate()
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", name, err, want)
			}
		}
	}
}

func TestPartsAndElementsAreChosen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		only, without []string
		parts         []set.Part
		elements      int
	}{
		"all":                         {nil, nil, set.Parts(), 21},
		"without a part":              {nil, []string{"tools"}, []set.Part{set.PartAdmission, set.PartCapabilities, set.PartChroot}, 6},
		"without elements":            {nil, []string{"dac_override", "CURL", "CAP_SYS_ADMIN"}, set.Parts(), 18},
		"only a part":                 {[]string{"chroot"}, nil, []set.Part{set.PartChroot}, 1},
		"only elements":               {[]string{"curl", "sys_admin"}, nil, []set.Part{set.PartCapabilities, set.PartTools}, 2},
		"a part and an element":       {[]string{"admission", "wget"}, nil, []set.Part{set.PartAdmission, set.PartTools}, 1},
		"without goes before only":    {[]string{"tools"}, []string{"apt"}, []set.Part{set.PartTools}, 14},
		"without the admission":       {nil, []string{"admission"}, []set.Part{set.PartCapabilities, set.PartChroot, set.PartTools}, 21},
		"blanks and capitals are one": {[]string{" Tools "}, nil, []set.Part{set.PartTools}, 15},
	} {
		s := render(t, options(func(o *set.Options) {
			o.Admission, o.Only, o.Without = set.AdmissionKyverno, test.only, test.without
		}), set.Facts{})
		var parts []set.Part
		for _, o := range s.Objects {
			parts = append(parts, o.Part)
		}
		if !slices.Equal(parts, test.parts) || len(s.Chosen()) != test.elements {
			t.Errorf("%s: %v and %d elements, want %v and %d", name, parts, len(s.Chosen()), test.parts, test.elements)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	kyverno := schema.GroupVersionKind{Version: "v1", Group: "kyverno.io", Kind: "ClusterPolicy"}
	cel := schema.GroupVersionKind{Version: "v1", Group: "policies.kyverno.io", Kind: "ValidatingPolicy"}
	older := schema.GroupVersionKind{Version: "v1alpha1", Group: "policies.kyverno.io", Kind: "ValidatingPolicy"}
	vap := schema.GroupVersionKind{Version: "v1", Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
	celNamed := schema.GroupVersionKind{Version: "v1", Group: "policies.kyverno.io", Kind: "NamespacedValidatingPolicy"}
	shop := targets.Scope{Namespaces: []string{"shop"}}
	labels := targets.Scope{Labels: map[string]string{"app": "web"}}
	for name, test := range map[string]struct {
		asked  set.Admission
		served []schema.GroupVersionKind
		scope  targets.Scope
		want   set.Admission
		says   string
	}{
		"auto, all is there":               {set.AdmissionAuto, []schema.GroupVersionKind{kyverno, cel, vap}, labels, set.AdmissionKyvernoCEL, "not deprecated"},
		"auto, no ValidatingPolicy":        {set.AdmissionAuto, []schema.GroupVersionKind{kyverno, vap}, labels, set.AdmissionVAP, "API server itself"},
		"auto, an old server":              {set.AdmissionAuto, []schema.GroupVersionKind{kyverno}, targets.Scope{}, set.AdmissionPSA, "nothing installed"},
		"auto, an old server and labels":   {set.AdmissionAuto, []schema.GroupVersionKind{kyverno}, labels, set.AdmissionKyverno, "deprecated"},
		"auto, nothing":                    {set.AdmissionAuto, []schema.GroupVersionKind{}, targets.Scope{}, set.AdmissionPSA, "nothing installed"},
		"auto, nothing that selects":       {set.AdmissionAuto, []schema.GroupVersionKind{}, labels, "", "nothing that can choose so"},
		"auto, namespaces":                 {set.AdmissionAuto, []schema.GroupVersionKind{cel, celNamed, vap}, shop, set.AdmissionKyvernoCEL, "serves NamespacedValidatingPolicy"},
		"auto, none for namespaces":        {set.AdmissionAuto, []schema.GroupVersionKind{cel, vap}, shop, set.AdmissionVAP, "no NamespacedValidatingPolicy"},
		"asked for, none for namespaces":   {set.AdmissionKyvernoCEL, []schema.GroupVersionKind{cel, vap}, shop, "", "serves no NamespacedValidatingPolicy.policies.kyverno.io"},
		"auto without a cluster":           {set.AdmissionAuto, nil, labels, "", "what the API server serves decides"},
		"asked for":                        {set.AdmissionKyverno, []schema.GroupVersionKind{kyverno, cel}, labels, set.AdmissionKyverno, "asked for"},
		"asked for, and not there":         {set.AdmissionKyvernoCEL, []schema.GroupVersionKind{kyverno}, labels, "", "serves no ValidatingPolicy.policies.kyverno.io"},
		"auto, an old Kyverno":             {set.AdmissionAuto, []schema.GroupVersionKind{older, vap}, labels, set.AdmissionVAP, "API server itself"},
		"asked for, in an older version":   {set.AdmissionKyvernoCEL, []schema.GroupVersionKind{older}, labels, "", "in version v1"},
		"asked for a file":                 {set.AdmissionVAP, nil, labels, set.AdmissionVAP, "asked for"},
		"labels of pods need nothing":      {set.AdmissionPSA, []schema.GroupVersionKind{}, targets.Scope{}, set.AdmissionPSA, "asked for"},
		"none":                             {set.AdmissionNone, []schema.GroupVersionKind{}, labels, set.AdmissionNone, "asked for"},
		"what is no mechanism is an error": {"opa", nil, labels, "", `admission "opa"`},
	} {
		var served func(schema.GroupVersionKind) bool
		if test.served != nil {
			served = func(kind schema.GroupVersionKind) bool { return slices.Contains(test.served, kind) }
		}
		got, why, err := set.Choose(test.asked, served, test.scope)
		if err != nil {
			why = err.Error()
		}
		if got != test.want || (err == nil) != (test.want != "") || !strings.Contains(why, test.says) {
			t.Errorf("%s: %q, %q, want %q, %q", name, got, why, test.want, test.says)
		}
	}
}
