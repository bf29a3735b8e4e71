package report

import (
	"slices"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func TestNodeWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e                    *kernel.Enforcement
		cell, enforces, says string
		tone                 Tone
	}{
		{nil, "not judged", "what it enforces was not judged", "", ToneUnknown},
		{
			&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf", Agent: kernel.Yes},
			"proven", "enforces (bpf, proven)", "KubeArmor ready", ToneGood,
		},
		{
			&kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.Yes, Grade: kernel.Claimed, Enforcer: "apparmor", Agent: kernel.Unknown},
			"processes only", "enforces processes, not capabilities (apparmor, claimed)", "KubeArmor unknown", TonePoor,
		},
		{
			&kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.No, Agent: kernel.No},
			"none", "does not enforce", "no KubeArmor ready", ToneBad,
		},
		{
			&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Hinted, Agent: kernel.Unknown},
			"unknown hinted", "enforces (hinted)", "KubeArmor unknown", ToneUnknown,
		},
	} {
		cell := NodeCell(c.e)
		enforces, agent := NodeWords(c.e)
		if cell.Text != c.cell || cell.Tone != c.tone || enforces != c.enforces || agent != c.says {
			t.Errorf("%+v is %q (%s), %q, %q", c.e, cell.Text, cell.Tone, enforces, agent)
		}
	}
}

func TestCompareNodes(t *testing.T) {
	t.Parallel()
	node := func(name string, caps, procs kernel.Answer, contradictions ...string) *scan.Node {
		return &scan.Node{Name: name, Enforcement: &kernel.Enforcement{Capabilities: caps, Processes: procs, Contradictions: contradictions}}
	}
	nodes := []*scan.Node{
		node("f", kernel.Yes, kernel.Yes), node("e", kernel.Yes, kernel.Yes), node("d", kernel.Yes, kernel.Yes, "but"),
		node("c", kernel.No, kernel.Yes), node("b", kernel.No, kernel.No), {Name: "a"},
	}
	slices.SortFunc(nodes, CompareNodes)
	var names string
	for _, n := range nodes {
		names += n.Name
	}
	if names != "abcdef" {
		t.Errorf("the nodes are in the order %s", names)
	}
}

func TestSpeaksOf(t *testing.T) {
	t.Parallel()
	policy := &scan.Policy{Kind: "ClusterPolicy", Name: "baseline"}
	local := &scan.Policy{Kind: "KubeArmorPolicy", Namespace: "shop", Name: "tools"}
	for _, c := range []struct {
		f    scan.Finding
		p    *scan.Policy
		want bool
	}{
		{scan.Finding{Category: scan.CategoryPolicy, Policies: []string{"ClusterPolicy baseline"}}, policy, true},
		{scan.Finding{Category: scan.CategoryPolicy, Policies: []string{"ClusterPolicy baseline (no-privileged)"}}, policy, true},
		{scan.Finding{Category: scan.CategoryPolicy, Policies: []string{"ClusterPolicy baseline-2"}}, policy, false},
		{scan.Finding{Category: scan.CategoryPolicy, Policies: []string{"KubeArmorPolicy shop/tools"}}, local, true},
		{scan.Finding{Category: scan.CategoryPolicy, Policies: []string{"KubeArmorPolicy web/tools"}}, local, false},
		{scan.Finding{Category: scan.CategoryPolicy, Workload: scan.Workload{Kind: "KubeArmorPolicy", Namespace: "shop", Name: "tools"}}, local, true},
		{scan.Finding{Category: scan.CategoryPolicy, Workload: scan.Workload{Kind: "Deployment", Namespace: "shop", Name: "tools"}}, local, false},
		{scan.Finding{Category: scan.CategoryEscape, Policies: []string{"KubeArmorPolicy shop/tools"}}, local, false},
	} {
		if got := SpeaksOf(&c.f, c.p); got != c.want {
			t.Errorf("%+v speaks of %s: %v", c.f, PolicyName(c.p), got)
		}
	}
}

func TestDullOn(t *testing.T) {
	t.Parallel()
	dull := armor.Toothless{Policy: armor.Ref{Kind: "KubeArmorPolicy", Namespace: "shop", Name: "tools"}, Cause: "hostpid", Reason: "hostPID", Mend: "take it away"}
	v := &scan.WorkloadVerdict{Layers: &scan.Layers{
		Runtime: scan.RuntimeLayer{Toothless: []armor.Toothless{dull, dull}},
		Admission: admission.Decision{Rulings: []admission.Ruling{
			{By: admission.Ref{Kind: "ClusterPolicy", Name: "baseline"}},
			{By: admission.Ref{Kind: "ClusterPolicy", Name: "baseline", Rule: "one"}, Toothless: &admission.Toothless{Cause: "audit", Reason: "only reports", Mend: "enforce"}},
		}},
	}}
	for _, c := range []struct {
		v    *scan.WorkloadVerdict
		p    scan.Policy
		want []Dull
	}{
		{nil, scan.Policy{}, nil},
		{&scan.WorkloadVerdict{}, scan.Policy{}, nil},
		{v, scan.Policy{Kind: "KubeArmorPolicy", Namespace: "shop", Name: "tools"}, []Dull{{Cause: "hostpid", Reason: "hostPID", Mend: "take it away"}}},
		{v, scan.Policy{Kind: "KubeArmorPolicy", Name: "tools"}, nil},
		{v, scan.Policy{Kind: "ClusterPolicy", Name: "baseline"}, []Dull{{Cause: "audit", Reason: "only reports", Mend: "enforce"}}},
	} {
		if got := DullOn(c.v, &c.p); !slices.Equal(got, c.want) {
			t.Errorf("%s does not bite for %v, want %v", PolicyName(&c.p), got, c.want)
		}
	}
}
