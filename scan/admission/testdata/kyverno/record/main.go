// Command record asks Kyverno's own code what it says of policies and pods. It is
// built inside of a copy of Kyverno's module: see the README beside it.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	kyvernov1 "github.com/kyverno/kyverno/api/kyverno/v1"
	kyvernov2 "github.com/kyverno/kyverno/api/kyverno/v2"
	"github.com/kyverno/kyverno/ext/wildcard"
	"github.com/kyverno/kyverno/pkg/autogen"
	"github.com/kyverno/kyverno/pkg/clients/dclient"
	engineapi "github.com/kyverno/kyverno/pkg/engine/api"
	engineutils "github.com/kyverno/kyverno/pkg/engine/utils"
	"github.com/kyverno/kyverno/pkg/policycache"
	"github.com/kyverno/kyverno/pkg/pss"
	matchutils "github.com/kyverno/kyverno/pkg/utils/match"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"
)

// --- podSecurity

type pssCase struct {
	Level   string                          `json:"level"`
	Version string                          `json:"version,omitempty"`
	Exclude []kyvernov1.PodSecurityStandard `json:"exclude,omitempty"`
	Pod     string                          `json:"pod"`
	// Twin: the first container stands in the pod once more, as twin with an image of its own.
	Twin    bool     `json:"twin,omitempty"`
	Refused []string `json:"refused,omitempty"`
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func excludes(r *rand.Rand) []kyvernov1.PodSecurityStandard {
	controls := []string{"HostProcess", "Host Namespaces", "Privileged Containers", "Capabilities", "HostPath Volumes", "Host Ports", "AppArmor", "SELinux", "/proc Mount Type", "Seccomp", "Sysctls", "Volume Types", "Privilege Escalation", "Running as Non-root", "Running as Non-root user"}
	fields := map[string][]string{
		"HostProcess":              {"spec.securityContext.windowsOptions.hostProcess", "spec.containers[*].securityContext.windowsOptions.hostProcess"},
		"Host Namespaces":          {"spec.hostNetwork", "spec.hostPID"},
		"Privileged Containers":    {"spec.containers[*].securityContext.privileged", "spec.initContainers[*].securityContext.privileged"},
		"Capabilities":             {"spec.containers[*].securityContext.capabilities.add", "spec.containers[*].securityContext.capabilities.drop", "spec.initContainers[*].securityContext.capabilities.add"},
		"HostPath Volumes":         {"spec.volumes[*].hostPath"},
		"Host Ports":               {"spec.containers[*].ports[*].hostPort"},
		"AppArmor":                 {"metadata.annotations", "spec.securityContext.appArmorProfile.type", "spec.containers[*].securityContext.appArmorProfile.type"},
		"SELinux":                  {"spec.securityContext.seLinuxOptions.type", "spec.securityContext.seLinuxOptions.user", "spec.containers[*].securityContext.seLinuxOptions.role"},
		"/proc Mount Type":         {"spec.containers[*].securityContext.procMount"},
		"Seccomp":                  {"spec.securityContext.seccompProfile.type", "spec.containers[*].securityContext.seccompProfile.type"},
		"Sysctls":                  {"spec.securityContext.sysctls[*].name"},
		"Volume Types":             {"spec.volumes[*].hostPath", "spec.volumes[*].nfs"},
		"Privilege Escalation":     {"spec.containers[*].securityContext.allowPrivilegeEscalation"},
		"Running as Non-root":      {"spec.securityContext.runAsNonRoot", "spec.containers[*].securityContext.runAsNonRoot"},
		"Running as Non-root user": {"spec.securityContext.runAsUser", "spec.containers[*].securityContext.runAsUser"},
	}
	values := []string{"*", "true", "false", "0", "nil", "NET_*", "NET_RAW", "SYS_ADMIN", "Unconfined", "Unmasked", "ALL", "12?45", "net.*", "kernel.*", "/a", "user", "role", "somevalue", "foo"}
	var out []kyvernov1.PodSecurityStandard
	one := r.IntN(2) == 0
	control := pick(r, controls)
	for range 1 + r.IntN(3) {
		if !one {
			control = pick(r, controls)
		}
		x := kyvernov1.PodSecurityStandard{ControlName: control}
		if r.IntN(3) > 0 {
			x.Images = []string{pick(r, []string{"*", "registry.k8s.io/*", "other/*", "registry.k8s.io/pause"})}
		}
		if r.IntN(2) == 0 {
			x.RestrictedField = pick(r, fields[x.ControlName])
			if r.IntN(4) > 0 {
				x.Values = []string{pick(r, values), pick(r, values)}
			}
		}
		out = append(out, x)
	}
	return out
}

func podSecurity(root string) any {
	r := rand.New(rand.NewPCG(1, 2))
	files, _ := filepath.Glob(filepath.Join(root, "*", "*", "*", "*.yaml"))
	sort.Strings(files)
	var cases []pssCase
	ask := func(file string, c pssCase) {
		data, _ := os.ReadFile(file)
		pod := &corev1.Pod{}
		if err := yaml.Unmarshal(data, pod); err != nil {
			panic(err)
		}
		for i := range pod.Spec.Volumes {
			if v := &pod.Spec.Volumes[i]; v.VolumeSource == (corev1.VolumeSource{}) {
				v.EmptyDir = &corev1.EmptyDirVolumeSource{}
			}
		}
		if c.Twin {
			twin := *pod.Spec.Containers[0].DeepCopy()
			twin.Name, twin.Image = "twin", "other/twin"
			pod.Spec.Containers = append(pod.Spec.Containers, twin)
		}
		name, _ := filepath.Rel(root, file)
		c.Pod = name
		lv, err := pss.ParseVersion(api.Level(c.Level), c.Version)
		if err != nil {
			panic(err)
		}
		_, results := pss.EvaluatePod(lv, c.Exclude, pod)
		for _, res := range results {
			c.Refused = append(c.Refused, res.ID)
		}
		slices.Sort(c.Refused)
		cases = append(cases, c)
	}
	versions := []string{"", "latest", "v1.19", "v1.24", "v1.26", "v1.30", "v1.32"}
	newest := []string{}
	for _, f := range files {
		if strings.Contains(f, "/v1.37/") || strings.Contains(f, "/v1.34/") || strings.Contains(f, "/v1.18/") {
			newest = append(newest, f)
		}
	}
	for _, f := range newest {
		if strings.Contains(f, "/v1.37/") {
			for _, level := range []string{"baseline", "restricted"} {
				ask(f, pssCase{Level: level, Version: pick(r, versions)})
			}
		}
	}
	for range 60 {
		ask(pick(r, newest), pssCase{Level: "privileged", Version: pick(r, versions)})
	}
	var fails []string
	for _, f := range newest {
		if strings.Contains(f, "/fail/") {
			fails = append(fails, f)
		}
	}
	// Where the exclude has something to do with the pod, more is learnt.
	for len(cases) < 1500 {
		f := pick(r, fails)
		c := pssCase{Level: pick(r, []string{"baseline", "restricted"}), Version: pick(r, versions), Exclude: excludes(r), Twin: r.IntN(2) == 0}
		plain := c
		plain.Exclude = nil
		ask(f, plain)
		refused := cases[len(cases)-1].Refused
		cases = cases[:len(cases)-1]
		ask(f, c)
		if len(cases[len(cases)-1].Refused) == len(refused) && r.IntN(20) > 0 {
			cases = cases[:len(cases)-1]
		}
	}
	return cases
}

// --- match

type matchCase struct {
	Policy          json.RawMessage   `json:"policy"`
	Kind            string            `json:"kind"`
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	// Matched are the rules that apply to the pod, Blocked those that refuse it if they fail.
	Matched []string `json:"matched,omitempty"`
	Blocked []string `json:"blocked,omitempty"`
	// Controllers are the kinds for which a rule applies, by the rule for pods.
	Controllers map[string][]string `json:"controllers,omitempty"`
}

type finder struct{}

func (finder) FindResources(group, version, kind, sub string) (map[dclient.TopLevelApiDescription]metav1.APIResource, error) {
	out := map[dclient.TopLevelApiDescription]metav1.APIResource{}
	for _, k := range []struct{ g, v, kind, res, sub string }{
		{"", "v1", "Pod", "pods", ""}, {"", "v1", "Pod", "pods", "ephemeralcontainers"}, {"", "v1", "ConfigMap", "configmaps", ""},
		{"apps", "v1", "Deployment", "deployments", ""}, {"apps", "v1", "DaemonSet", "daemonsets", ""}, {"apps", "v1", "StatefulSet", "statefulsets", ""}, {"apps", "v1", "ReplicaSet", "replicasets", ""},
		{"", "v1", "ReplicationController", "replicationcontrollers", ""}, {"batch", "v1", "Job", "jobs", ""}, {"batch", "v1", "CronJob", "cronjobs", ""},
	} {
		if wildcard.Match(group, k.g) && wildcard.Match(version, k.v) && wildcard.Match(kind, k.kind) && wildcard.Match(sub, k.sub) {
			out[dclient.TopLevelApiDescription{GroupVersion: schema.GroupVersion{Group: k.g, Version: k.v}, Kind: k.kind, Resource: k.res, SubResource: k.sub}] = metav1.APIResource{}
		}
	}
	return out, nil
}

func selector(r *rand.Rand) map[string]any {
	switch r.IntN(5) {
	case 0:
		return map[string]any{"matchLabels": map[string]any{"app": pick(r, []string{"web", "db", "w*"})}}
	case 1:
		return map[string]any{"matchLabels": map[string]any{"app": "web", "tier": pick(r, []string{"front", "*"})}}
	case 2:
		return map[string]any{"matchLabels": map[string]any{pick(r, []string{"a*", "t?er", "*"}): pick(r, []string{"*", "fr*", "web"})}}
	case 3:
		return map[string]any{"matchExpressions": []any{map[string]any{"key": "tier", "operator": pick(r, []string{"In", "NotIn"}), "values": []any{"front"}}}}
	}
	return map[string]any{"matchExpressions": []any{map[string]any{"key": "app", "operator": pick(r, []string{"Exists", "DoesNotExist"})}}}
}

func filter(r *rand.Rand, kinds bool) map[string]any {
	res := map[string]any{}
	if kinds || r.IntN(3) == 0 {
		var list []any
		for range 1 + r.IntN(8)/6 {
			list = append(list, pick(r, []string{"Pod", "Pod", "Pod", "Pod", "v1/Pod", "*/Pod", "/v1/Pod", "Deployment", "apps/v1/Deployment", "Po*", "*", "Pod/ephemeralcontainers", "Pod.status", "ConfigMap", "*/*", "CronJob", "v1beta1/Pod"}))
		}
		res["kinds"] = list
	}
	if r.IntN(3) == 0 {
		res["namespaces"] = []any{pick(r, []string{"shop", "sh*", "*", "pay?", "prod"})}
	}
	if r.IntN(8) == 0 {
		res["name"] = pick(r, []string{"web-*", "web-1", "*", "db"})
	}
	if r.IntN(8) == 0 {
		res["names"] = []any{pick(r, []string{"web-*", "db-?"}), "other"}
	}
	if r.IntN(4) == 0 {
		res["selector"] = selector(r)
	}
	if r.IntN(4) == 0 {
		res["namespaceSelector"] = selector(r)
	}
	if r.IntN(8) == 0 {
		res["annotations"] = map[string]any{pick(r, []string{"note", "n*"}): pick(r, []string{"x", "*", "y"})}
	}
	if r.IntN(8) == 0 {
		res["operations"] = []any{pick(r, []string{"CREATE", "UPDATE", "DELETE"})}
	}
	return map[string]any{"resources": res}
}

func block(r *rand.Rand, kinds bool) map[string]any {
	var list []any
	for range 1 + r.IntN(2) {
		list = append(list, filter(r, kinds))
	}
	switch r.IntN(4) {
	case 0:
		return map[string]any{"all": list}
	case 1:
		return filter(r, kinds)
	}
	return map[string]any{"any": list}
}

func overrides(r *rand.Rand) []any {
	var list []any
	for range 1 + r.IntN(2) {
		o := map[string]any{"action": pick(r, []string{"Audit", "Enforce", "enforce"})}
		if r.IntN(3) > 0 {
			o["namespaces"] = []any{pick(r, []string{"shop", "sh*", "prod"})}
		}
		if r.IntN(3) == 0 {
			o["namespaceSelector"] = map[string]any{"matchLabels": map[string]any{"app": pick(r, []string{"web", "db"})}}
		}
		list = append(list, o)
	}
	return list
}

func policyOf(r *rand.Rand) map[string]any {
	meta := map[string]any{"name": "p"}
	kind := "ClusterPolicy"
	if r.IntN(5) == 0 {
		kind = "Policy"
		meta["namespace"] = pick(r, []string{"shop", "prod"})
	}
	if r.IntN(4) == 0 {
		meta["annotations"] = map[string]any{"pod-policies.kyverno.io/autogen-controllers": pick(r, []string{"none", "all", "Deployment", "Deployment,CronJob", "Job, Deployment", "DaemonSet,Nonsense"})}
	}
	var rules []any
	for i := range 1 + r.IntN(2) {
		v := map[string]any{"podSecurity": map[string]any{"level": "baseline"}}
		if r.IntN(2) == 0 {
			v["failureAction"] = pick(r, []string{"Audit", "Enforce"})
		}
		if r.IntN(4) == 0 {
			v["failureActionOverrides"] = overrides(r)
		}
		rule := map[string]any{"name": fmt.Sprintf("rule%d", i), "match": block(r, r.IntN(10) > 0), "validate": v}
		if r.IntN(3) == 0 {
			rule["exclude"] = block(r, false)
		}
		rules = append(rules, rule)
	}
	if r.IntN(15) == 0 {
		rules = append(rules, map[string]any{"name": "m", "match": block(r, true), "mutate": pick(r, []any{
			map[string]any{"patchesJson6902": "- op: remove"}, map[string]any{"patchStrategicMerge": map[string]any{"metadata": map[string]any{}}},
		})})
	}
	spec := map[string]any{"rules": rules, "validationFailureAction": pick(r, []string{"Audit", "Enforce"})}
	if r.IntN(5) == 0 {
		spec["validationFailureActionOverrides"] = overrides(r)
	}
	return map[string]any{"apiVersion": "kyverno.io/v1", "kind": kind, "metadata": meta, "spec": spec}
}

func decode(raw []byte, kind string) kyvernov1.PolicyInterface {
	var p kyvernov1.PolicyInterface = &kyvernov1.ClusterPolicy{}
	if kind == "Policy" {
		p = &kyvernov1.Policy{}
	}
	if err := json.Unmarshal(raw, p); err != nil {
		panic(err)
	}
	return p
}

func matching() any {
	r := rand.New(rand.NewPCG(3, 4))
	var cases []matchCase
	for len(cases) < 450 {
		obj := policyOf(r)
		raw, _ := json.Marshal(obj)
		c := matchCase{Policy: raw, Kind: obj["kind"].(string), Name: pick(r, []string{"web-1", "web-abc", "db-1"}), Namespace: pick(r, []string{"shop", "shop", "prod", "pay1"})}
		labels := func() map[string]string {
			return pick(r, []map[string]string{nil, {"app": "web"}, {"app": "web", "tier": "front"}, {"app": "db"}, {"tier": "back"}})
		}
		c.Labels, c.NamespaceLabels = labels(), labels()
		c.Annotations = pick(r, []map[string]string{nil, {"note": "x"}, {"nice": "y"}})
		answer(&c)
		if len(c.Matched) == 0 && r.IntN(4) > 0 {
			continue
		}
		cases = append(cases, c)
	}
	return cases
}

func answer(c *matchCase) {
	cache := policycache.NewCache()
	if err := cache.Set("p", decode(c.Policy, c.Kind), finder{}); err != nil {
		panic(err)
	}
	if c.Kind == "Policy" {
		p := decode(c.Policy, c.Kind)
		cache = policycache.NewCache()
		if err := cache.Set(p.GetNamespace()+"/p", p, finder{}); err != nil {
			panic(err)
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace, Labels: c.NamespaceLabels}}
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	meta := map[string]any{"name": c.Name, "namespace": c.Namespace}
	set := func(k string, m map[string]string) {
		if m != nil {
			n := map[string]any{}
			for a, b := range m {
				n[a] = b
			}
			meta[k] = n
		}
	}
	set("labels", c.Labels)
	set("annotations", c.Annotations)
	pod := unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta}}
	seen := map[string]bool{}
	for _, kind := range []policycache.PolicyType{policycache.ValidateEnforce, policycache.ValidateAudit} {
		for _, p := range cache.GetPolicies(kind, gvr, "", ns) {
			for _, rule := range autogen.Default.ComputeRules(p, "Pod") {
				if !rule.HasValidate() {
					continue
				}
				if err := engineutils.MatchesResourceDescription(pod, rule, kyvernov2.RequestInfo{}, c.NamespaceLabels, p.GetNamespace(), gvk, "", kyvernov1.Create); err != nil {
					continue
				}
				if !seen[rule.Name] {
					seen[rule.Name] = true
					c.Matched = append(c.Matched, rule.Name)
				}
				if kind == policycache.ValidateEnforce {
					resp := engineapi.NewPolicyResponse()
					resp.Rules = append(resp.Rules, *engineapi.RuleFail(rule.Name, engineapi.Validation, "no", nil))
					er := engineapi.NewEngineResponse(pod, engineapi.NewKyvernoPolicy(p), c.NamespaceLabels).WithPolicyResponse(resp)
					if er.HasEnforcedFailure() {
						c.Blocked = append(c.Blocked, rule.Name)
					}
				}
			}
		}
	}
	slices.Sort(c.Matched)
	slices.Sort(c.Blocked)
	full := decode(c.Policy, c.Kind)
	for _, k := range []struct{ g, kind string }{{"apps", "Deployment"}, {"apps", "DaemonSet"}, {"apps", "StatefulSet"}, {"apps", "ReplicaSet"}, {"", "ReplicationController"}, {"batch", "Job"}, {"batch", "CronJob"}} {
		for _, rule := range autogen.Default.ComputeRules(full, k.kind) {
			if !rule.HasValidate() {
				continue
			}
			hit := false
			for _, text := range rule.MatchResources.GetKinds() {
				if matchutils.CheckKind([]string{text}, schema.GroupVersionKind{Group: k.g, Version: "v1", Kind: k.kind}, "", false) {
					hit = true
				}
			}
			if hit {
				name := strings.TrimPrefix(strings.TrimPrefix(rule.Name, "autogen-"), "cronjob-")
				if c.Controllers == nil {
					c.Controllers = map[string][]string{}
				}
				if !slices.Contains(c.Controllers[name], k.kind) {
					c.Controllers[name] = append(c.Controllers[name], k.kind)
				}
			}
		}
	}
	for _, list := range c.Controllers {
		slices.Sort(list)
	}
}

func main() {
	out := os.Args[2]
	write := func(name string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		text := strings.ReplaceAll(string(data), "},{\"level\"", "},\n{\"level\"")
		text = strings.ReplaceAll(text, "},{\"policy\"", "},\n{\"policy\"")
		if err := os.WriteFile(filepath.Join(out, name), []byte(text+"\n"), 0o644); err != nil {
			panic(err)
		}
	}
	write("podsecurity.json", podSecurity(os.Args[1]))
	write("match.json", matching())
}
