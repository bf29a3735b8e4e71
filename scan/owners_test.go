package scan

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestPodsBelongToTheTopOfTheirOwners(t *testing.T) {
	m := web()
	m.has("shop", "CronJob/report", "", "")
	m.has("shop", "Job/report-1", "CronJob/report", "")
	m.runs(1, "shop", "report-1", "Job/report-1", "", plain())
	m.has("lab", "DaemonSet/agent", "", "")
	m.runs(3, "lab", "agent", "DaemonSet/agent", "", privileged())
	m.has("lab", "Rollout/canary", "", "")
	m.has("lab", "ReplicaSet/canary-2b", "Rollout/canary", "2b")
	m.runs(1, "lab", "canary-2b", "ReplicaSet/canary-2b", "2b", plain())
	m.runs(1, "lab", "alone", "", "", plain())
	r := scanned(t, m)
	wantLines(t, r.verdicts(),
		"lab/DaemonSet/agent exposed 3",
		"lab/Pod/alone-0 closed 1",
		"lab/Rollout/canary closed 1",
		"shop/CronJob/report closed 1",
		"shop/Deployment/web closed 2")
	wantLines(t, r.failures())
	if m.reads != 1 {
		t.Errorf("%d owners were read one by one, want only the one of an unusual kind", m.reads)
	}
}

func TestRolloutIsOneWorkload(t *testing.T) {
	m := web()
	m.has("shop", "ReplicaSet/web-2b", "Deployment/web", "2b")
	m.runs(3, "shop", "web-2b", "ReplicaSet/web-2b", "2b", privileged())
	r := scanned(t, m)
	wantLines(t, r.verdicts(), "shop/Deployment/web exposed 5")
	for _, e := range r.events {
		if f := e.Finding; f != nil && f.Rule == "escape-privileged" && f.Pods != 3 {
			t.Errorf("%d pods are privileged, want 3", f.Pods)
		}
	}
}

// TestRolloutKeepsTheWorse: what closes a way in one of two specs must not hide
// that it is open in the other.
func TestRolloutKeepsTheWorse(t *testing.T) {
	for _, worseFirst := range []bool{true, false} {
		m := web()
		lowered := privileged()
		lowered.HostUsers = new(false)
		specs := map[bool]string{worseFirst: "2b", !worseFirst: "3c"}
		for worse, hash := range specs {
			spec := lowered
			if worse {
				spec = privileged()
			}
			m.has("shop", "ReplicaSet/web-"+hash, "Deployment/web", hash)
			m.runs(1, "shop", "web-"+hash, "ReplicaSet/web-"+hash, hash, spec)
		}
		r := scanned(t, m)
		found := 0
		for _, e := range r.events {
			if f := e.Finding; f != nil && f.Rule == "escape-privileged" {
				found++
				if f.Severity != SeverityCritical || len(f.Lowered) > 0 || f.Pods != 2 {
					t.Errorf("worse first %v: %s, lowered %v, %d pods", worseFirst, f.Severity, f.Lowered, f.Pods)
				}
			}
		}
		if found != 1 {
			t.Errorf("found %d times, want once", found)
		}
	}
}

// TestForgedOwner: a pod may name any owner with the right UID. It must not hide
// behind the owner's honest pods.
func TestForgedOwner(t *testing.T) {
	m := web()
	m.runs(1, "shop", "forged", "ReplicaSet/web-1a", "1a", privileged())
	wantLines(t, scanned(t, m).verdicts(),
		"shop/Deployment/web closed 2",
		"shop/Pod/forged-0 exposed 1 claims ReplicaSet/web-1a (its other pods look otherwise)")
}

// TestForgedMajority: who forges more pods than there are honest ones takes the
// workload's name, and both still show.
func TestForgedMajority(t *testing.T) {
	m := web()
	m.runs(3, "shop", "forged", "ReplicaSet/web-1a", "1a", privileged())
	wantLines(t, scanned(t, m).verdicts(),
		"shop/Deployment/web exposed 3",
		"shop/Pod/web-1a-0 closed 2 claims ReplicaSet/web-1a (its other pods look otherwise)")
}

func TestOwnersThatAreNotFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*memory)
		want   []string
	}{
		"hash without an owner": {
			func(m *memory) { m.runs(1, "shop", "loose", "", "1a", privileged()) },
			[]string{"shop/Deployment/web closed 2", "shop/Pod/loose-0 exposed 1"},
		},
		"owner with another hash": {
			func(m *memory) { m.runs(1, "shop", "forged", "ReplicaSet/web-1a", "", privileged()) },
			[]string{"shop/Deployment/web closed 2", "shop/Pod/forged-0 exposed 1 claims ReplicaSet/web-1a (its pods carry another pod-template-hash)"},
		},
		"owner with another UID": {
			func(m *memory) {
				m.runs(1, "shop", "forged", "ReplicaSet/web-1a", "1a", privileged())
				m.pods[2].OwnerReferences[0].UID = types.UID("made-up")
			},
			[]string{"shop/Deployment/web closed 2", "shop/Pod/forged-0 exposed 1 claims ReplicaSet/web-1a (exists with another UID than made-up)"},
		},
		"owner in another namespace": {
			func(m *memory) { m.runs(1, "lab", "forged", "ReplicaSet/web-1a", "1a", privileged()) },
			[]string{"lab/Pod/forged-0 exposed 1 claims ReplicaSet/web-1a (does not exist)", "shop/Deployment/web closed 2"},
		},
		"owner is gone": {
			func(m *memory) { m.runs(2, "shop", "orphan", "Job/gone", "", plain()) },
			// Pods that look alike and claim the same stand together.
			[]string{"shop/Deployment/web closed 2", "shop/Pod/orphan-0 closed 2 claims Job/gone (does not exist)"},
		},
		"owner's owner is gone": {
			func(m *memory) { m.owners[kindOf("Deployment")] = nil },
			[]string{"shop/ReplicaSet/web-1a closed 2 claims Deployment/web (does not exist)"},
		},
		"owner that is no controller": {
			func(m *memory) {
				m.runs(1, "shop", "held", "ReplicaSet/web-1a", "1a", privileged())
				m.pods[2].OwnerReferences[0].Controller = nil
			},
			[]string{"shop/Deployment/web closed 2", "shop/Pod/held-0 exposed 1"},
		},
		"static pod": {
			func(m *memory) { m.runs(1, "shop", "etcd", "Node/node-1", "", privileged()) },
			[]string{"shop/Deployment/web closed 2", "shop/Pod/etcd-0 exposed 1"},
		},
		"ring": {
			func(m *memory) {
				m.has("lab", "Rollout/a", "Rollout/b", "")
				m.has("lab", "Rollout/b", "Rollout/a", "")
				m.runs(1, "lab", "ring", "Rollout/a", "", plain())
			},
			[]string{"lab/Rollout/b closed 1 claims Rollout/a (the chain of owners does not end)", "shop/Deployment/web closed 2"},
		},
		"malformed version": {
			func(m *memory) {
				m.runs(1, "shop", "odd", "Rollout/x", "", plain())
				m.pods[2].OwnerReferences[0].APIVersion = "a/b/c"
			},
			[]string{"shop/Deployment/web closed 2", "shop/Pod/odd-0 closed 1 claims Rollout/x (does not exist)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := web()
			test.change(m)
			r := scanned(t, m)
			wantLines(t, r.verdicts(), test.want...)
			wantLines(t, r.failures())
		})
	}
}

// TestForbiddenOwners: what may not be read is taken at its word, and said to be. A
// ReplicaSet's hash does not become part of a workload's name.
func TestForbiddenOwners(t *testing.T) {
	m := web()
	m.has("shop", "ReplicaSet/web-2b", "Deployment/web", "2b")
	m.runs(1, "shop", "web-2b", "ReplicaSet/web-2b", "2b", plain())
	m.runs(1, "shop", "bare", "ReplicaSet/bare", "", plain())
	m.runs(1, "shop", "job", "Job/report-1", "", plain())
	m.runs(1, "shop", "odd", "Rollout/x", "", plain())
	m.ownersErr = map[string]error{"ReplicaSet": forbidden("replicasets"), "Job": forbidden("jobs"), "Rollout": forbidden("rollouts")}
	r := scanned(t, m)
	const unverified = "(not verified: could not be read)"
	wantLines(t, r.verdicts(),
		"shop/Deployment/web closed 3 claims Deployment/web (not verified: its ReplicaSets could not be read)",
		"shop/Job/report-1 closed 1 claims Job/report-1 "+unverified,
		"shop/ReplicaSet/bare closed 1 claims ReplicaSet/bare "+unverified,
		"shop/Rollout/x closed 1 claims Rollout/x "+unverified)
	wantLines(t, r.failures(), "Job: forbidden", "ReplicaSet: forbidden", "Rollout: forbidden")
	if !r.end(t).Incomplete {
		t.Error("the run says that it is complete")
	}
	for _, e := range r.events {
		if e.Failure != nil && !strings.Contains(e.Failure.Affects, "belong to") {
			t.Errorf("%+v does not say what it affects", e.Failure)
		}
	}
}

// TestDebuggedPodShows: a pod with a debugger differs from its siblings.
func TestDebuggedPodShows(t *testing.T) {
	m := web()
	m.pods[1].Spec.EphemeralContainers = append(m.pods[1].Spec.EphemeralContainers, debugger())
	wantLines(t, scanned(t, m).verdicts(),
		"shop/Deployment/web closed 1",
		"shop/Pod/web-1a-1 exposed 1 claims ReplicaSet/web-1a (its other pods look otherwise)")
}
