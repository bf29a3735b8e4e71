// Command record asks Kyverno's own code which objects the set's policy is asked about.
// It is built inside of a copy of Kyverno's module: see the README beside it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	kyvernov1 "github.com/kyverno/kyverno/api/kyverno/v1"
	"github.com/kyverno/kyverno/pkg/autogen"
	"github.com/kyverno/kyverno/pkg/config"
	enginecontext "github.com/kyverno/kyverno/pkg/engine/context"
	"github.com/kyverno/kyverno/pkg/engine/internal"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/kyverno/kyverno/pkg/validation/policy"
	"sigs.k8s.io/yaml"
)

type answer struct {
	Kind string `json:"kind"`
	// Own are the object's labels, Labels those of its pods.
	Own    map[string]string `json:"own,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Asked are the rules that are asked about the object.
	Asked []string `json:"asked,omitempty"`
}

type recording struct {
	Invalid  string   `json:"invalid,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Answers  []answer `json:"answers"`
}

func main() {
	data, err := os.ReadFile(os.Args[1])
	fail(err)
	var p kyvernov1.ClusterPolicy
	fail(yaml.UnmarshalStrict(data, &p))
	var r recording
	r.Warnings, err = policy.Validate(&p, nil, nil, true, "background", "reports")
	if err != nil {
		r.Invalid = err.Error()
	}
	match := map[string]string{"app.kubernetes.io/name": "web", "empty": "", "size": "1000"}
	variants := []map[string]string{nil, {}, match}
	for key := range match {
		without := map[string]string{}
		for k, v := range match {
			if k != key {
				without[k] = v
			}
		}
		variants = append(variants, without)
	}
	variants = append(variants,
		map[string]string{"app.kubernetes.io/name": "web", "empty": "x", "size": "1000"},
		map[string]string{"app.kubernetes.io/name": "web2", "empty": "", "size": "1000"},
		map[string]string{"app.kubernetes.io/name": "web", "empty": "", "size": "1k"},
		map[string]string{"app.kubernetes.io/name": "web", "empty": "", "size": "1000", "more": "there"})
	slices.SortFunc(variants, func(a, b map[string]string) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, kind := range []string{"Pod", "Deployment", "Job", "CronJob"} {
		for _, own := range []map[string]string{nil, match} {
			if kind == "Pod" && own != nil {
				continue
			}
			for _, labels := range variants {
				r.Answers = append(r.Answers, ask(&p, kind, own, labels))
			}
		}
	}
	out, err := json.MarshalIndent(r, "", " ")
	fail(err)
	fail(os.WriteFile(os.Args[2], append(out, '\n'), 0o644))
}

func ask(p kyvernov1.PolicyInterface, kind string, own, labels map[string]string) answer {
	a := answer{Kind: kind, Own: own, Labels: labels}
	for _, rule := range autogen.Default.ComputeRules(p, "") {
		named := slices.ContainsFunc(rule.MatchResources.GetKinds(), func(k string) bool { return k == kind || strings.HasSuffix(k, "/"+kind) })
		if !named {
			continue
		}
		ctx := enginecontext.NewContext(jmespath.New(config.NewDefaultConfiguration(false)))
		fail(ctx.AddResource(object(kind, own, labels)))
		met, message, err := internal.CheckPreconditions(logr.Discard(), ctx, rule.GetAnyAllConditions())
		if err != nil {
			a.Asked = append(a.Asked, rule.Name+": "+message+": "+err.Error())
		} else if met {
			a.Asked = append(a.Asked, rule.Name)
		}
	}
	return a
}

func object(kind string, own, labels map[string]string) map[string]any {
	meta := func(labels map[string]string) map[string]any {
		if labels == nil {
			return map[string]any{}
		}
		all := map[string]any{}
		for k, v := range labels {
			all[k] = v
		}
		return map[string]any{"labels": all}
	}
	pod := map[string]any{"metadata": meta(labels), "spec": map[string]any{"hostPID": true}}
	o := map[string]any{"kind": kind, "metadata": meta(own)}
	switch kind {
	case "Pod":
		o["metadata"], o["spec"] = pod["metadata"], pod["spec"]
	case "CronJob":
		o["spec"] = map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": pod}}}
	default:
		o["spec"] = map[string]any{"template": pod}
	}
	return o
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
