package remediate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

func armorRef(namespace, name string) remediate.Ref {
	return remediate.Ref{APIVersion: "security.kubearmor.com/v1", Kind: "KubeArmorPolicy", Namespace: namespace, Name: name}
}

func namespaceRef(name string) remediate.Ref {
	return remediate.Ref{APIVersion: "v1", Kind: "Namespace", Name: name}
}

func (w *world) standing(ref remediate.Ref) remediate.ObjectStatus {
	w.Helper()
	status := w.status()
	i := slices.IndexFunc(status.Objects, func(o remediate.ObjectStatus) bool { return o.Object == ref })
	if i < 0 {
		w.Fatalf("status knows nothing of %s", ref)
	}
	return status.Objects[i]
}

// changeOf is what a plan has for an object in a stage.
func changeOf(t *testing.T, plan *remediate.Plan, ref remediate.Ref, stage remediate.Stage) remediate.Change {
	t.Helper()
	for _, c := range plan.Changes {
		if c.Object == ref && c.Stage == stage {
			return c
		}
	}
	t.Fatalf("the plan has nothing for %s in %q", ref, stage)
	return remediate.Change{}
}

// What is edited by hand is told, put right by the next apply, and at the end all is as
// it was before.
func TestDrift(t *testing.T) {
	tools := func(w *world) remediate.Ref { return armorRef(w.two, w.name+"-tools") }
	tests := []struct {
		name  string
		ref   func(*world) remediate.Ref
		drift func(*world)
		want  remediate.State
		by    []string
		diff  string
	}{
		{"a value of ours", tools, func(w *world) {
			w.edit(armorKind(), w.two, w.name+"-tools", "kubectl-edit", func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["action"] = "Audit"
			})
		}, remediate.StateDrifted, []string{"kubectl-edit"}, "+  action: Audit"},
		{"another value", tools, func(w *world) {
			w.edit(armorKind(), w.two, w.name+"-tools", "kubectl-edit", func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["severity"] = int64(1)
			})
		}, remediate.StateDrifted, []string{"kubectl-edit"}, "-  severity: 8"},
		{"a field that somebody added", tools, func(w *world) {
			w.edit(armorKind(), w.two, w.name+"-tools", "kubectl-edit", func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["selector"] = map[string]any{"matchLabels": map[string]any{"app": "none"}}
			})
		}, remediate.StateDrifted, []string{"kubectl-edit"}, "+      app: none"},
		{"an owner that hides", tools, func(w *world) {
			w.edit(armorKind(), w.two, w.name+"-tools", remediate.FieldManager, func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["message"] = "hidden"
				u.Object["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{}}
			})
		}, remediate.StateDrifted, nil, "+  message: hidden"},
		{"gone", tools, func(w *world) {
			if err := w.other.Resource(armorKind()).Namespace(w.two).Delete(w.Context(), w.name+"-tools", metav1.DeleteOptions{}); err != nil {
				w.Fatal(err)
			}
		}, remediate.StateMissing, nil, ""},
		{"a label of a namespace", func(w *world) remediate.Ref { return namespaceRef(w.one) }, func(w *world) {
			w.edit(namespaceKind(), "", w.one, "kubectl-label", func(u *unstructured.Unstructured) {
				labels := u.GetLabels()
				labels[psa.EnforceLevelLabel] = "privileged"
				u.SetLabels(labels)
			})
		}, remediate.StateDrifted, []string{"kubectl-label"}, "+    pod-security.kubernetes.io/enforce: privileged"},
		{"no enforce label any more", func(w *world) remediate.Ref { return namespaceRef(w.two) }, func(w *world) {
			w.edit(namespaceKind(), "", w.two, "kubectl-label", func(u *unstructured.Unstructured) {
				labels := u.GetLabels()
				delete(labels, psa.EnforceLevelLabel)
				u.SetLabels(labels)
			})
		}, remediate.StateDrifted, nil, "-    pod-security.kubernetes.io/enforce: baseline"},
		{"a list of the API server's", func(w *world) remediate.Ref { return remediate.RefOf(w.policy().Enforce) }, func(w *world) {
			w.edit(admissionKind("validatingadmissionpolicies"), "", w.name, "kubectl-edit", func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["matchConditions"] = []any{map[string]any{"name": "never", "expression": "false"}}
			})
		}, remediate.StateDrifted, []string{"kubectl-edit"}, "+  matchConditions:"},
	}
	for _, direct := range []bool{false, true} {
		for _, test := range tests {
			name := test.name
			if direct {
				name += ", rolled back at once"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				before := w.dump()
				s := w.whole()
				w.must(s)
				inForce := w.contents()
				test.drift(w)
				o := w.standing(test.ref(w))
				if o.State != test.want || !slices.Equal(o.By, test.by) {
					t.Errorf("it is %q by %v, want %q by %v", o.State, o.By, test.want, test.by)
				}
				if text := diffText(o.Diff); !strings.Contains(text, test.diff) {
					t.Errorf("the difference is\n%s\nand lacks %q", text, test.diff)
				}
				if !direct {
					w.must(s)
					after := w.contents()
					for name, text := range inForce {
						if after[name] != text && !strings.HasPrefix(name, "ConfigMap") {
							t.Errorf("%s is\n%s\nand was\n%s", name, after[name], text)
						}
					}
					m := &mortal{Cluster: w.writer}
					if _, err := w.run(m, s); err != nil || m.writes > 0 {
						t.Errorf("the apply after that makes %d writes: %v", m.writes, err)
					}
				}
				w.must(nil)
				w.wantDump(before)
			})
		}
	}
}

func diffText(lines []remediate.Line) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(string(rune(line.Op)) + line.Text + "\n")
	}
	return b.String()
}

// What others did to other fields stays, through applies and a rollback.
func TestOthersKeepTheirs(t *testing.T) {
	w := newWorld(t)
	w.inTheWay()
	s := w.whole()
	w.must(s)
	for _, edit := range []func(){
		func() {
			w.edit(namespaceKind(), "", w.one, "kubectl-label", func(u *unstructured.Unstructured) {
				labels := u.GetLabels()
				labels["cost"] = "42"
				u.SetLabels(labels)
			})
		},
		func() {
			w.edit(armorKind(), w.one, w.name+"-chroot", "helm", func(u *unstructured.Unstructured) {
				u.Object["spec"].(map[string]any)["message"] = "newer"
			})
		},
	} {
		edit()
	}
	w.must(s)
	w.must(nil)
	if labels := w.get(namespaceRef(w.one)).GetLabels(); labels["cost"] != "42" || labels[psa.EnforceLevelLabel] != "privileged" {
		t.Errorf("the namespace's labels are %v", labels)
	}
	spec := w.get(armorRef(w.one, w.name+"-chroot")).Object["spec"].(map[string]any)
	if spec["message"] != "newer" || spec["action"] != "Audit" {
		t.Errorf("the policy of others is %v", spec)
	}
}

// Who declares an object of ours too keeps it.
func TestTakenOver(t *testing.T) {
	for _, test := range []struct {
		name string
		take func(*world, remediate.Ref)
		note string
	}{
		{"applied by somebody else too", func(w *world, ref remediate.Ref) {
			text, err := w.tools(w.two).Enforce.MarshalJSON()
			if err != nil {
				w.Fatal(err)
			}
			if _, err := w.other.Resource(armorKind()).Namespace(ref.Namespace).Patch(w.Context(), ref.Name, types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: "flux"}); err != nil {
				w.Fatal(err)
			}
		}, "flux manages it too"},
		{"label taken away", func(w *world, ref remediate.Ref) {
			w.edit(armorKind(), ref.Namespace, ref.Name, "kubectl-label", func(u *unstructured.Unstructured) { u.SetLabels(nil) })
		}, "it does not carry the set's label any more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.must(w.whole())
			ref := armorRef(w.two, w.name+"-tools")
			test.take(w, ref)
			spec := w.get(ref).Object["spec"]
			plan, err := remediate.NewRollback(t.Context(), w.writer, w.name, w.opts)
			if err != nil {
				t.Fatal(err)
			}
			change := changeOf(t, plan, ref, "")
			if !slices.ContainsFunc(change.Notes, func(n string) bool { return strings.Contains(n, test.note) }) {
				t.Errorf("the notes are %q", change.Notes)
			}
			w.must(nil)
			u := w.get(ref)
			if u == nil {
				t.Fatal("it is gone")
			}
			if a, b := diffOf(spec), diffOf(u.Object["spec"]); a != b {
				t.Errorf("it was\n%s\nand is\n%s", a, b)
			}
			w.wantNoOwner(ref)
			if w.status().Phase != remediate.PhaseNone {
				t.Error("the record is left")
			}
		})
	}
}

func diffOf(spec any) string {
	return diffText(remediate.Diff(nil, &unstructured.Unstructured{Object: map[string]any{"spec": spec}}))
}

// An object that somebody else has made between the plan and the apply is theirs.
func TestMadeMeanwhile(t *testing.T) {
	w := newWorld(t)
	s := w.setOf(w.tools(w.two))
	plan := w.mustPlan(s)
	theirs := parse(t, w.armor(w.two, "tools", "Audit", "{path: /usr/bin/apt}"))
	if _, err := w.other.Resource(armorKind()).Namespace(w.two).Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		t.Fatal(err)
	}
	before := w.dump()
	result, err := plan.Apply(t.Context(), w.writer, applyOptions())
	if err == nil || !strings.Contains(err.Error(), "changed since it was planned") || result.Left != 2 {
		t.Errorf("apply: %v, %+v", err, result)
	}
	w.must(nil)
	w.wantDump(before)
}

// Objects that a set has no more go back to what they were; what it has gained is
// recorded.
func TestAnotherSet(t *testing.T) {
	w := newWorld(t)
	w.inTheWay()
	before := w.dump()
	w.must(w.whole())
	smaller := w.setOf(w.labelled(w.one), w.tools(w.one))
	smaller.Options.Without = []string{string(set.PartChroot)}
	plan := w.mustPlan(smaller)
	for _, ref := range []remediate.Ref{namespaceRef(w.two), armorRef(w.one, w.name+"-chroot"), armorRef(w.two, w.name+"-tools")} {
		if c := changeOf(t, plan, ref, remediate.StageEnforce); c.Action != remediate.Restored {
			t.Errorf("%s would be %s", ref, c.Action)
		}
	}
	if c := changeOf(t, plan, namespaceRef(w.one), remediate.StageAudit); c.Action != remediate.Unchanged {
		t.Errorf("the namespace that refuses already would be %s to the audit form", c.Action)
	}
	w.must(smaller)
	if n := len(w.status().Objects); n != 2 {
		t.Errorf("status knows %d objects", n)
	}
	m := &mortal{Cluster: w.writer}
	if _, err := w.run(m, smaller); err != nil || m.writes > 0 {
		t.Errorf("a second apply makes %d writes: %v", m.writes, err)
	}
	w.must(w.whole())
	w.must(nil)
	w.wantDump(before)
}

// A stage by itself.
func TestStages(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	s := w.whole()
	all := w.opts
	w.opts.Stages = []remediate.Stage{remediate.StageAudit}
	w.must(s)
	if counts := states(w.status()); counts[remediate.StateAuditing] == 0 || counts[remediate.StateDrifted] > 0 {
		t.Errorf("after the audit stage: %v", counts)
	}
	w.opts.Stages = []remediate.Stage{remediate.StageEnforce}
	w.must(s)
	if counts := states(w.status()); counts[remediate.StateInPlace] != len(s.Objects) {
		t.Errorf("after the enforce stage: %v", counts)
	}
	w.opts.Stages = []remediate.Stage{remediate.StageAudit}
	if c := changeOf(t, w.mustPlan(s), namespaceRef(w.two), remediate.StageAudit); c.Action != remediate.Changed {
		t.Errorf("asked for the audit stage alone, the plan has %s", c.Action)
	}
	w.must(s)
	if got := w.get(namespaceRef(w.two)).GetLabels()[psa.EnforceLevelLabel]; got != "" {
		t.Errorf("enforce is %q", got)
	}
	w.opts = all
	w.must(s)
	w.must(nil)
	w.wantDump(before)
}

// From refusing to reporting.
func TestOnlyAuditFromNowOn(t *testing.T) {
	w := newWorld(t)
	w.inTheWay()
	before := w.dump()
	s := w.whole()
	w.must(s)
	audit := w.setOf()
	audit.Options.Action = set.ActionAudit
	for _, o := range s.Objects {
		if o.Audit != nil {
			o.Enforce = nil
			audit.Objects = append(audit.Objects, o)
		}
	}
	w.must(audit)
	if counts := states(w.status()); counts[remediate.StateInPlace] != len(audit.Objects) || len(counts) != 1 {
		t.Errorf("status: %v", counts)
	}
	if got := w.get(namespaceRef(w.two)).GetLabels()[psa.EnforceLevelLabel]; got != "" {
		t.Errorf("enforce is %q", got)
	}
	w.must(nil)
	w.wantDump(before)
}

// All that tells of the set is taken off a namespace, and an apply that would put it
// back ends before it comes there. It still goes back to what it was.
func TestWiped(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	s := w.setOf(w.tools(w.one), w.labelled(w.one))
	w.must(s)
	w.edit(namespaceKind(), "", w.one, "kubectl-replace", func(u *unstructured.Unstructured) {
		u.SetLabels(map[string]string{"team": "a", psa.EnforceLevelLabel: "restricted"})
		u.SetManagedFields(nil)
		u.Object["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{}}
	})
	if o := w.standing(namespaceRef(w.one)); o.State != remediate.StateDrifted {
		t.Errorf("it is %s", o.State)
	}
	if _, err := w.run(&mortal{Cluster: w.writer, at: 1, when: diesAfter}, s); !errors.Is(err, errDead) {
		t.Error(err)
	}
	if o := w.standing(namespaceRef(w.one)); o.State != remediate.StateDrifted {
		t.Errorf("it is %s", o.State)
	}
	w.must(nil)
	w.wantDump(before)
}

// What a rollback has put back is for others to change, also before the rollback ends.
func TestChangedAfterBeingPutBack(t *testing.T) {
	w := newWorld(t)
	s := w.setOf(w.tools(w.one), w.labelled(w.one))
	w.must(s)
	// The phase, then twice the namespace.
	if _, err := w.run(&mortal{Cluster: w.writer, at: 3, when: diesAfter}, nil); !errors.Is(err, errDead) {
		t.Error(err)
	}
	w.wantNoOwner(namespaceRef(w.one))
	w.edit(namespaceKind(), "", w.one, "kubectl-label", func(u *unstructured.Unstructured) {
		labels := u.GetLabels()
		labels[psa.EnforceLevelLabel] = "restricted"
		u.SetLabels(labels)
	})
	if o := w.standing(namespaceRef(w.one)); o.State != remediate.StateRestored || o.Message == "" {
		t.Errorf("it is %s: %q", o.State, o.Message)
	}
	want := w.contents()["Namespace "+w.one]
	w.must(nil)
	if got := w.contents()["Namespace "+w.one]; got != want {
		t.Errorf("it is\n%s\nand was\n%s", got, want)
	}
	if phase := w.status().Phase; phase != remediate.PhaseNone {
		t.Errorf("the phase is %q", phase)
	}
}

// Between a plan and its apply an object may change only in what is no concern of ours.
func TestChangedMeanwhile(t *testing.T) {
	for _, test := range []struct {
		name  string
		edit  func(*unstructured.Unstructured)
		fails bool
	}{
		{"an annotation", func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{"controller": "was here"}) }, false},
		{"a label", func(u *unstructured.Unstructured) {
			labels := u.GetLabels()
			labels[psa.AuditLevelLabel] = "privileged"
			u.SetLabels(labels)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			plan := w.mustPlan(w.setOf(w.tools(w.one), w.labelled(w.one)))
			w.edit(namespaceKind(), "", w.one, "controller", test.edit)
			before := w.dump()
			result, err := plan.Apply(t.Context(), w.writer, applyOptions())
			if test.fails != errors.Is(err, remediate.ErrChanged) || !test.fails && err != nil {
				t.Errorf("apply: %v", err)
			}
			if test.fails && (result.Left != 3 || !strings.Contains(err.Error(), "Namespace "+w.one)) {
				t.Errorf("%d changes are left: %v", result.Left, err)
			}
			w.must(nil)
			w.wantDump(before)
		})
	}
}
