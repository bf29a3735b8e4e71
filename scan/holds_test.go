package scan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestCanHold(t *testing.T) {
	t.Parallel()
	caps := func(add, drop []corev1.Capability) *corev1.Capabilities {
		return &corev1.Capabilities{Add: add, Drop: drop}
	}
	all := []corev1.Capability{"ALL"}
	user, root := new(int64(1000)), new(int64(0))
	for name, test := range map[string]struct {
		context    *corev1.SecurityContext
		pod        *corev1.PodSecurityContext
		capability string
		want       string
	}{
		"nothing said, not a default":    {nil, nil, "sys_admin", "nothing gives it"},
		"nothing said, a default":        {nil, nil, "dac_override", ""},
		"privileged":                     {&corev1.SecurityContext{Privileged: new(true), Capabilities: caps(nil, all)}, nil, "sys_module", ""},
		"added":                          {&corev1.SecurityContext{Capabilities: caps([]corev1.Capability{"SYS_PTRACE"}, all)}, nil, "sys_ptrace", ""},
		"added with CAP_ before":         {&corev1.SecurityContext{Capabilities: caps([]corev1.Capability{"CAP_SYS_PTRACE"}, all)}, nil, "CAP_SYS_PTRACE", ""},
		"all are added":                  {&corev1.SecurityContext{Capabilities: caps(all, nil)}, nil, "SYS_MODULE", ""},
		"all are added, one is dropped":  {&corev1.SecurityContext{Capabilities: caps(all, []corev1.Capability{"SYS_MODULE"})}, nil, "sys_module", "it is dropped"},
		"all are dropped":                {&corev1.SecurityContext{Capabilities: caps(nil, all)}, nil, "dac_override", "it is dropped"},
		"dropped as containerd does not": {&corev1.SecurityContext{Capabilities: caps(nil, []corev1.Capability{"CAP_DAC_OVERRIDE"})}, nil, "dac_override", ""},
		"a user, who may gain it":        {&corev1.SecurityContext{RunAsUser: user}, nil, "dac_override", ""},
		"a user, who gains nothing":      {&corev1.SecurityContext{RunAsUser: user, AllowPrivilegeEscalation: new(false)}, nil, "dac_override", "runAsUser: 1000"},
		"not root, by the pod": {&corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}, &corev1.PodSecurityContext{RunAsNonRoot: new(true)},
			"dac_override", "runAsNonRoot: true"},
		"root, who gains nothing more":     {&corev1.SecurityContext{RunAsUser: root, AllowPrivilegeEscalation: new(false)}, nil, "dac_override", ""},
		"whoever the image says":           {&corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}, nil, "dac_override", ""},
		"a user to whom it is added":       {&corev1.SecurityContext{RunAsUser: user, AllowPrivilegeEscalation: new(false), Capabilities: caps([]corev1.Capability{"SYS_ADMIN"}, nil)}, nil, "sys_admin", ""},
		"a privileged user gains all back": {&corev1.SecurityContext{RunAsUser: user, AllowPrivilegeEscalation: new(false), Privileged: new(true)}, nil, "sys_admin", ""},
	} {
		spec := &corev1.PodSpec{SecurityContext: test.pod, Containers: []corev1.Container{{Name: "other"}, {Name: "c", SecurityContext: test.context}}}
		before := spec.DeepCopy().String()
		can, why := CanHold(spec, "c", test.capability)
		if can != (test.want == "") || !strings.Contains(why, test.want) || can && why != "" {
			t.Errorf("%s: %v, %q, want %q", name, can, why, test.want)
		}
		if spec.String() != before {
			t.Errorf("%s: the pod was changed", name)
		}
	}
	if can, _ := CanHold(&corev1.PodSpec{}, "c", "sys_admin"); !can {
		t.Error("a container that is not there holds nothing for certain")
	}
}
