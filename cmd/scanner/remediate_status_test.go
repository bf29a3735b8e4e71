package main

import (
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

func TestStatusSaysWhatPodSecurityLabelsDo(t *testing.T) {
	t.Parallel()
	found := effects{
		policies:  map[string]*scan.Policy{policyKey("ValidatingAdmissionPolicy", "", "shop"): {Bites: scan.BitesPartly}},
		workloads: map[string]int{"shop": 2}, pods: map[string]int{"shop": 5},
	}
	object := func(kind string, state remediate.State, stage remediate.Stage) *remediate.ObjectStatus {
		return &remediate.ObjectStatus{Object: remediate.Ref{APIVersion: "v1", Kind: kind, Name: "shop"}, State: state, Stage: stage}
	}
	for name, test := range map[string]struct {
		object *remediate.ObjectStatus
		bites  scan.Bite
		reason string
	}{
		"labels that refuse":      {object("Namespace", remediate.StateInPlace, remediate.StageEnforce), scan.BitesYes, "unless its configuration exempts"},
		"labels that only audit":  {object("Namespace", remediate.StateInPlace, remediate.StageAudit), scan.BitesNo, "refuses nothing"},
		"labels of a stage":       {object("Namespace", remediate.StateAuditing, remediate.StageAudit), scan.BitesNo, "refuses nothing"},
		"labels that drifted":     {object("Namespace", remediate.StateDrifted, remediate.StageEnforce), "", ""},
		"labels that are missing": {object("Namespace", remediate.StateMissing, remediate.StageEnforce), "", ""},
		"a policy":                {object("ValidatingAdmissionPolicy", remediate.StateInPlace, remediate.StageEnforce), scan.BitesPartly, ""},
		"a policy not found":      {object("ClusterPolicy", remediate.StateInPlace, remediate.StageEnforce), scan.BitesUnknown, "came upon no policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ok := found.of(test.object)
			if ok != (test.bites != "") || b.Bites != test.bites {
				t.Fatalf("have %q (%t), want %q", b.Bites, ok, test.bites)
			}
			if !strings.Contains(strings.Join(b.Reasons, "; "), test.reason) {
				t.Errorf("reasons %q do not say %q", b.Reasons, test.reason)
			}
			if ok && test.object.Object.Kind == "Namespace" && (b.Workloads != 2 || b.Pods != 5) {
				t.Errorf("on %d workloads and %d pods, want 2 and 5", b.Workloads, b.Pods)
			}
		})
	}
}
