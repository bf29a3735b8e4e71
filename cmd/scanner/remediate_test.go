package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// What a plan proposes can be pasted into a shell, and means the same.
func TestCommandsCanBePasted(t *testing.T) {
	t.Parallel()
	a := &app{deps: deps{program: "kubectl-escape_scanner"}}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringP("namespace", "n", "", "")
	fs.StringP("selector", "l", "", "")
	fs.StringSlice("without", nil, "")
	fs.StringArray("accept", nil, "")
	fs.BoolP("all-namespaces", "A", false, "")
	fs.String("context", "", "")
	fs.String("probe-nodes", "", "")
	fs.Lookup("probe-nodes").NoOptDefVal = "run"
	if err := fs.Parse([]string{"-A", "-l", "app=it's $HOME", "--without", "tools,curl", "--context", "", "--probe-nodes", "--accept", "a/Pod/b"}); err != nil {
		t.Fatal(err)
	}
	want := `kubectl escape-scanner remediate apply --accept a/Pod/b -A --context '' --probe-nodes=run -l 'app=it'\''s $HOME' --without tools,curl`
	if got := a.command("apply", fs); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := (&app{}).command("apply", fs, "accept", "context", "selector", "probe-nodes"); got != "escape-scanner remediate apply -A --without tools,curl" {
		t.Error(got)
	}
}

func TestRecordedOptionsAsFlags(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]set.Options{
		" -A --admission vap": {Admission: set.AdmissionVAP, Level: "baseline", PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull},
		" -n a,b -l x=y --admission none --level restricted --pss-version v1.30 --action audit --fit precise --only tools --without curl,make": {
			Scope:     targets.Scope{Namespaces: []string{"a", "b"}, Labels: map[string]string{"x": "y"}},
			Admission: set.AdmissionNone, Level: "restricted", PSSVersion: "v1.30", Action: set.ActionAudit, Fit: set.FitPrecise,
			Only: []string{"tools"}, Without: []string{"curl", "make"},
		},
		" -A --exclude lab --admission psa": {Scope: targets.Scope{Exclude: []string{"lab"}}, Admission: set.AdmissionPSA, Level: "baseline", PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull},
	} {
		if got := meantBy(&o); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The demo's API server refuses to be changed, merges what is applied, and knows which
// kinds and namespaces there are.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	p, err := demoPatient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shop := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "shop", "labels": map[string]any{"new": "label"}},
	}}
	before, err := p.writes.Get(t.Context(), remediate.RefOf(shop))
	if err != nil {
		t.Fatal(err)
	}
	written, err := p.writes.Apply(t.Context(), shop, remediate.WriteOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := written.Object.GetLabels(); got["new"] != "label" || len(got) != len(before.GetLabels())+1 {
		t.Errorf("labels %v, before %v", got, before.GetLabels())
	}
	if after, err := p.writes.Get(t.Context(), remediate.RefOf(shop)); err != nil || after.GetLabels()["new"] != "" {
		t.Errorf("a rehearsal has changed the namespace: %v, %v", after, err)
	}
	for name, err := range map[string]error{
		"apply":  second(p.writes.Apply(t.Context(), shop, remediate.WriteOptions{})),
		"create": second(p.writes.Create(t.Context(), shop, remediate.WriteOptions{})),
		"update": second(p.writes.Update(t.Context(), shop, remediate.WriteOptions{})),
		"delete": p.writes.Delete(t.Context(), remediate.RefOf(shop), "", "", remediate.WriteOptions{}),
	} {
		if !errors.Is(err, errRehearsal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy", "metadata": map[string]any{"name": "p", "namespace": "nowhere"},
	}}
	if _, err := p.writes.Apply(t.Context(), lost, remediate.WriteOptions{DryRun: true}); !apierrors.IsNotFound(err) {
		t.Errorf("a policy in a namespace that is not there: %v", err)
	}
	if _, err := p.writes.List(t.Context(), schema.GroupKind{Group: "example.com", Kind: "Thing"}, "", ""); !errors.Is(err, scan.ErrNotServed) {
		t.Errorf("a kind that is not served: %v", err)
	}
}

func second(_ *remediate.Written, err error) error { return err }

// still is a cluster in which an object is as it is given, or not at all.
type still struct {
	remediate.Cluster
	objects map[remediate.Ref]*unstructured.Unstructured
	err     error
}

func (c still) Get(_ context.Context, ref remediate.Ref) (*unstructured.Unstructured, error) {
	if c.err != nil {
		return nil, c.err
	}
	if u := c.objects[ref]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("get %s: %w", ref, apierrors.NewNotFound(schema.GroupResource{}, ref.Name))
}

func TestAsBefore(t *testing.T) {
	t.Parallel()
	object := func(value string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "K", "metadata": map[string]any{"name": "n"}, "spec": value}}
	}
	ref := remediate.RefOf(object(""))
	for name, test := range map[string]struct {
		live, after *unstructured.Unstructured
		err         error
		want        kernel.Answer
		message     string
	}{
		"gone, as meant": {nil, nil, nil, kernel.Yes, "gone"},
		"still there":    {object("a"), nil, nil, kernel.No, "still there"},
		"as before":      {object("a"), object("a"), nil, kernel.Yes, "as before"},
		"differs":        {object("b"), object("a"), nil, kernel.No, "differs"},
		"lost":           {nil, object("a"), nil, kernel.No, "not there"},
		"unreadable":     {nil, nil, errors.New("timeout"), kernel.Unknown, "timeout"},
	} {
		c := still{objects: map[remediate.Ref]*unstructured.Unstructured{ref: test.live}, err: test.err}
		checks := asBefore(t.Context(), c, &remediate.Plan{Changes: []remediate.Change{{Object: ref, After: test.after}}})
		if len(checks) != 1 || checks[0].Answer != test.want || !strings.Contains(checks[0].Message, test.message) {
			t.Errorf("%s: %+v", name, checks)
		}
	}
}

// However often a thing is seen it is kept once, and what is left out is said.
func TestAlertsAreKeptOnce(t *testing.T) {
	t.Parallel()
	k := &alertKeeper{}
	for i := range 3 {
		k.take(armor.Alert{Pod: "p", Resource: "/usr/bin/curl", Time: time.Unix(int64(i), 0)})
	}
	if len(k.alerts) != 1 || k.raised != 3 || len(k.failures()) != 0 {
		t.Errorf("%d kept of %d, %v", len(k.alerts), k.raised, k.failures())
	}
	for i := range maxAlertKinds + 5 {
		k.take(armor.Alert{Pod: "p", Resource: fmt.Sprint(i)})
	}
	if len(k.alerts) != maxAlertKinds || len(k.failures()) != 1 || !strings.Contains(k.failures()[0].Message, "6 were left out") {
		t.Errorf("%d kept, %v", len(k.alerts), k.failures())
	}
}

// Where nobody answers the plan does not wait for the end of the window.
func TestObserveWithoutKubeArmor(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := &app{deps: testDeps(""), stderr: &out}
	nobody := source.Target{Address: "nobody", Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("no relay") }}
	begun := time.Now()
	_, err := a.observe(t.Context(), []source.Target{nobody}, time.Hour, &alertKeeper{}, a.liveLine())
	if err == nil || !strings.Contains(err.Error(), "no relay") || time.Since(begun) > time.Minute {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	if !strings.Contains(out.String(), "listening to KubeArmor for 1h0m0s") {
		t.Errorf("stderr %q", out.String())
	}
}
