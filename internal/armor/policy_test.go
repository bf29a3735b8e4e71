package armor_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	ksp "github.com/kubearmor/KubeArmor/pkg/KubeArmorController/api/security.kubearmor.com/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// controller is the module of KubeArmor's policy types and CRDs.
const controller = "github.com/kubearmor/KubeArmor/pkg/KubeArmorController"

func schemaOf(t *testing.T, plural string) apiextensions.JSONSchemaProps {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", controller).Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "bases", "security.kubearmor.com_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensions.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
}

// leaves lists the fields below a schema, lists as "[]".
func leaves(prefix string, s apiextensions.JSONSchemaProps, to map[string]apiextensions.JSONSchemaProps) {
	switch {
	case s.Items != nil && s.Items.Schema != nil:
		leaves(prefix+"[]", *s.Items.Schema, to)
	case len(s.Properties) > 0:
		for name, field := range s.Properties {
			leaves(prefix+"."+name, field, to)
		}
	default:
		to[strings.TrimPrefix(prefix, ".")] = s
	}
}

// Every field of KubeArmor's CRDs is one that scan/armor reads, or one that it
// leaves for a reason. A new one fails here, so that somebody looks at it.
func TestEveryFieldOfThePoliciesIsKnown(t *testing.T) {
	left := []*regexp.Regexp{
		// What alerts carry, of the section and the rule; the policy's own is read.
		regexp.MustCompile(`^(process|file|network|capabilities|syscalls)(\..*)?\.(severity|tags\[\]|message)$`),
		// These speak of other things than the escapeToHost set: only counted.
		regexp.MustCompile(`^(network|syscalls)\.`),
		regexp.MustCompile(`^presets\[\]\.(name|action)$`),
		// Additional properties are labels, whatever their names.
		regexp.MustCompile(`^selector\.matchLabels$`),
	}
	read := []string{
		"action", "severity", "tags[]", "message", "apparmor",
		"selector.matchExpressions[].key", "selector.matchExpressions[].operator", "selector.matchExpressions[].values[]",
		"capabilities.action", "capabilities.matchCapabilities[].capability", "capabilities.matchCapabilities[].action", "capabilities.matchCapabilities[].fromSource[].path",
	}
	for _, section := range []string{"process", "file"} {
		read = append(read, section+".action",
			section+".matchPaths[].path", section+".matchPaths[].action", section+".matchPaths[].ownerOnly", section+".matchPaths[].fromSource[].path",
			section+".matchDirectories[].dir", section+".matchDirectories[].recursive", section+".matchDirectories[].action", section+".matchDirectories[].ownerOnly", section+".matchDirectories[].fromSource[].path",
			section+".matchPatterns[].pattern", section+".matchPatterns[].action", section+".matchPatterns[].ownerOnly")
	}
	read = append(read, "process.matchPaths[].execname", "process.matchPaths[].allowedArgs[]",
		"file.matchPaths[].readOnly", "file.matchDirectories[].readOnly", "file.matchPatterns[].readOnly")
	for _, plural := range []string{"kubearmorpolicies", "kubearmorclusterpolicies"} {
		fields := map[string]apiextensions.JSONSchemaProps{}
		leaves("", schemaOf(t, plural), fields)
		for field := range fields {
			if !slices.Contains(read, field) && !slices.ContainsFunc(left, func(r *regexp.Regexp) bool { return r.MatchString(field) }) {
				t.Errorf("%s: field %s is not known", plural, field)
			}
		}
		for _, field := range read {
			if _, ok := fields[field]; !ok {
				t.Errorf("%s: field %s is gone", plural, field)
			}
		}
	}
}

// What the set names can be written into a policy of theirs.
func TestTheSetPassesTheCRD(t *testing.T) {
	for _, plural := range []string{"kubearmorpolicies", "kubearmorclusterpolicies"} {
		fields := map[string]apiextensions.JSONSchemaProps{}
		leaves("", schemaOf(t, plural), fields)
		var actions []string
		for _, value := range fields["action"].Enum {
			actions = append(actions, strings.Trim(string(value.Raw), `"`))
		}
		if want := []string{string(armor.Allow), string(armor.Audit), string(armor.Block)}; !slices.Equal(actions, want) {
			t.Errorf("%s: actions %v, ours %v", plural, actions, want)
		}
		paths, capabilities := fields["process.matchPaths[].path"], fields["capabilities.matchCapabilities[].capability"]
		for _, e := range armor.Elements() {
			if e.Kind == armor.Capability && !regexp.MustCompile(capabilities.Pattern).MatchString(e.Name) {
				t.Errorf("%s: capability %s is refused", plural, e.Name)
			}
			for _, file := range e.Paths {
				if !regexp.MustCompile(paths.Pattern).MatchString(file) || int64(len(file)) > *paths.MaxLength {
					t.Errorf("%s: path %s is refused", plural, file)
				}
			}
		}
	}
}

// A policy made of KubeArmor's own Go types, every field that matters set, means the
// same to scan/armor.
func TestDecodeReadsKubeArmorsOwnTypes(t *testing.T) {
	shell := []ksp.MatchSourceType{{Path: "/usr/bin/bash"}}
	process := ksp.ProcessType{
		MatchPaths: []ksp.ProcessPathType{
			{Path: "/opt/blocked"}, {Path: "/opt/audited", Action: "Audit"}, {ExecName: "named"},
			{Path: "/opt/sourced", FromSource: shell}, {Path: "/opt/owned", OwnerOnly: true}, {Path: "/opt/argued", AllowedArgs: []string{"-v"}},
		},
		MatchDirectories: []ksp.ProcessDirectoryType{
			{Directory: "/deep/", Recursive: true}, {Directory: "/flat/"}, {Directory: "/from/", FromSource: shell}, {Directory: "/own/", OwnerOnly: true},
		},
		MatchPatterns: []ksp.ProcessPatternType{{Pattern: "/pattern/*"}},
		Action:        "Block",
	}
	file := ksp.FileType{
		MatchPaths:       []ksp.FilePathType{{Path: "/opt/unreadable"}, {Path: "/opt/readable", ReadOnly: true}},
		MatchDirectories: []ksp.FileDirectoryType{{Directory: "/shut/", Recursive: true}},
		Action:           "Block",
	}
	capabilities := ksp.CapabilitiesType{MatchCapabilities: []ksp.MatchCapabilitiesType{
		{Capability: "sys_admin"}, {Capability: "sys_ptrace", Action: "Audit"}, {Capability: "sys_module", FromSource: shell},
	}, Action: "Block"}
	meta := metav1.ObjectMeta{Name: "x", Namespace: "shop"}
	namespaced := &ksp.KubeArmorPolicy{ObjectMeta: meta, Spec: ksp.KubeArmorPolicySpec{
		Selector: ksp.SelectorType{MatchLabels: map[string]string{"app": "web"},
			MatchExpressions: []ksp.MatchExpressionsType{{Key: "label", Operator: "NotIn", Values: []string{"env=prod"}}}},
		Process: process, File: file, Capabilities: capabilities, Severity: 4, Tags: []string{"T1611"}, Message: "no", Action: "Audit",
	}}
	cluster := &ksp.KubeArmorClusterPolicy{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: ksp.KubeArmorClusterPolicySpec{
		Selector: ksp.NsSelectorType{MatchExpressions: []ksp.ClusterMatchExpressionsType{
			{Key: "namespace", Operator: "In", Values: []string{"shop"}}, {Key: "label", Operator: "In", Values: []string{"app=web"}}}},
		Process: process, File: file, Capabilities: capabilities, Severity: 4, Tags: []string{"T1611"}, Message: "no", Action: "Audit",
	}}
	for kind, object := range map[armor.Kind]any{armor.KubeArmorPolicy: namespaced, armor.KubeArmorClusterPolicy: cluster} {
		t.Run(string(kind), func(t *testing.T) {
			data, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			p, err := armor.Decode(kind, data)
			if err != nil {
				t.Fatal(err)
			}
			if p.Severity != 4 || p.Message != "no" || !slices.Equal(p.Tags, []string{"T1611"}) || p.Action != armor.Audit || len(p.Problems) > 0 {
				t.Errorf("%+v", p)
			}
			checkSelection(t, p)
			checkDeeds(t, p)
		})
	}
}

func checkSelection(t *testing.T, p *armor.Policy) {
	t.Helper()
	for _, c := range []struct {
		namespace string
		labels    map[string]string
		want      bool
	}{
		{"shop", map[string]string{"app": "web"}, true},
		{"shop", map[string]string{"app": "db"}, false},
		{"bank", map[string]string{"app": "web"}, false},
	} {
		if got := p.Selects(c.namespace, c.labels); got != c.want {
			t.Errorf("selects %s %v: %v", c.namespace, c.labels, got)
		}
	}
	if p.Kind == armor.KubeArmorPolicy && p.Selects("shop", map[string]string{"app": "web", "env": "prod"}) {
		t.Error("NotIn is not read")
	}
}

func checkDeeds(t *testing.T, p *armor.Policy) {
	t.Helper()
	pod := armor.Pod{Namespace: "shop", Labels: map[string]string{"app": "web"},
		Containers: []armor.Container{{Name: "c", Kind: armor.Ordinary, Image: "debian:12"}},
		Node:       kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Enforcer: "bpf"}}
	for deed, want := range map[armor.Deed]armor.Status{
		{Exec: "/opt/blocked"}:                                  armor.Blocked,
		{Exec: "/opt/audited"}:                                  armor.Audited,
		{Exec: "/anywhere/named"}:                               armor.Blocked,
		{Exec: "/opt/sourced", From: "/usr/bin/bash"}:           armor.Blocked,
		{Exec: "/opt/sourced", From: "/usr/bin/dash"}:           armor.NotCovered,
		{Exec: "/opt/owned"}:                                    armor.Unknown,
		{Exec: "/opt/argued"}:                                   armor.Unknown,
		{Exec: "/deep/a/b"}:                                     armor.Blocked,
		{Exec: "/flat/a"}:                                       armor.Blocked,
		{Exec: "/flat/a/b"}:                                     armor.NotCovered,
		{Exec: "/from/a", From: "/usr/bin/bash"}:                armor.Blocked,
		{Exec: "/from/a", From: "/usr/bin/dash"}:                armor.NotCovered,
		{Exec: "/own/a"}:                                        armor.Unknown,
		{Exec: "/pattern/a"}:                                    armor.NotCovered,
		{Exec: "/opt/unreadable"}:                               armor.Blocked,
		{Exec: "/opt/readable"}:                                 armor.NotCovered,
		{Exec: "/shut/a"}:                                       armor.Blocked,
		{Capability: "SYS_ADMIN"}:                               armor.Blocked,
		{Capability: "SYS_PTRACE"}:                              armor.NotCovered,
		{Capability: "SYS_MODULE", From: "/usr/bin/bash"}:       armor.Blocked,
		{Capability: "SYS_MODULE", From: "/usr/bin/kmod"}:       armor.NotCovered,
		{Capability: "NET_RAW", From: "/usr/bin/ping"}:          armor.NotCovered,
		{Exec: "/opt/other", From: "/usr/bin/bash"}:             armor.NotCovered,
		{Exec: "/deep/a/b", From: "/usr/bin/bash"}:              armor.Blocked,
		{Capability: "cap_sys_admin", From: "/usr/bin/unshare"}: armor.Blocked,
	} {
		if got := armor.Predict([]*armor.Policy{p}, pod, "c", deed); got.Status != want {
			t.Errorf("%+v: %s (%s), want %s", deed, got.Status, got.Reason, want)
		}
	}
}
