package snapshot_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// pod is a hardened pod with a claim and, if class is not empty, a runtime class.
func pod(name, claim, class, security string) string {
	return `{"metadata":{"namespace":"shop","name":"` + name + `"},"spec":{"runtimeClassName":` + class + `,
	"containers":[{"name":"c","image":"i","securityContext":` + security + `,"volumeMounts":[{"name":"data","mountPath":"/data"}]}],
	"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"` + claim + `"}}]}}`
}

func volume(claim, source string) string {
	return `{"metadata":{"name":"` + claim + `"},"spec":{"claimRef":{"namespace":"shop","name":"` + claim + `"},` + source + `}}`
}

func cluster(t *testing.T, objects ...[3]string) *snapshot.Snapshot {
	t.Helper()
	s := &snapshot.Snapshot{Version: "v1.36.3", Complete: true}
	for _, o := range objects {
		if err := s.Add(o[0], o[1], []byte(o[2])); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// outcome is what a scan says: verdicts by workload, findings by workload and rule,
// and the subjects of failures.
type outcome struct {
	verdicts map[string]*scan.WorkloadVerdict
	findings map[string]*scan.Finding
	failures []string
}

func scanned(t *testing.T, c scan.Cluster) outcome {
	t.Helper()
	out := outcome{verdicts: map[string]*scan.WorkloadVerdict{}, findings: map[string]*scan.Finding{}}
	err := scan.ScanCluster(t.Context(), c, scan.ClusterOptions{Level: psa.LevelBaseline, PSSVersion: "server"}, scan.HandlerFunc(func(e scan.Event) error {
		switch {
		case e.Verdict != nil:
			out.verdicts[e.Verdict.Workload.Name] = e.Verdict
		case e.Finding != nil:
			out.findings[e.Finding.Workload.Name+" "+e.Finding.Rule] = e.Finding
		case e.Failure != nil:
			out.failures = append(out.failures, e.Failure.Subject)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestClaimsLeadToTheHost(t *testing.T) {
	out := scanned(t, cluster(t,
		[3]string{"v1", "PersistentVolume", volume("root", `"hostPath":{"path":"/"}`)},
		[3]string{"v1", "PersistentVolume", volume("manifests", `"local":{"path":"/etc/kubernetes/manifests"}`)},
		[3]string{"v1", "PersistentVolume", volume("folder", `"hostPath":{"path":"/srv/data"}`)},
		[3]string{"v1", "PersistentVolume", volume("made", `"hostPath":{"path":"/var/lib/rancher/k3s/storage/pvc-1"}`)},
		[3]string{"v1", "PersistentVolume", volume("disk", `"csi":{"driver":"d","volumeHandle":"h"}`)},
		[3]string{"v1", "Pod", pod("root", "root", "null", "{}")},
		[3]string{"v1", "Pod", pod("manifests", "manifests", "null", "{}")},
		[3]string{"v1", "Pod", pod("folder", "folder", "null", "{}")},
		[3]string{"v1", "Pod", pod("made", "made", "null", "{}")},
		[3]string{"v1", "Pod", pod("disk", "disk", "null", "{}")},
	))
	for name, want := range map[string]scan.Verdict{
		"root": scan.VerdictExposed, "manifests": scan.VerdictExposed,
		"folder": scan.VerdictClosed, "made": scan.VerdictClosed, "disk": scan.VerdictClosed,
	} {
		if v := out.verdicts[name]; v == nil || v.Verdict != want || !v.PSSAllowed {
			t.Errorf("%s: verdict %+v, want %s and no objection of the standards", name, v, want)
		}
	}
	f := out.findings["root escape-host-root"]
	if f == nil || f.Field != "spec.volumes[0].persistentVolumeClaim" || f.Container != "c" || f.Fix == nil || !strings.Contains(string(f.Now), `"root"`) {
		t.Errorf("finding of the host's root behind a claim: %+v", f)
	}
	if len(out.failures) > 0 {
		t.Errorf("failures: %v", out.failures)
	}
}

// The claims of a StatefulSet's pods lead to a folder each, and the pods are alike.
func TestPodsWithFoldersOfTheirOwnAreOneWorkload(t *testing.T) {
	objects := [][3]string{{"apps/v1", "StatefulSet", `{"metadata":{"namespace":"shop","name":"db","uid":"u"}}`}}
	for i, folder := range []string{"/var/lib/rancher/k3s/storage/pvc-0", "/srv/data-1", "/data/db-2"} {
		name := fmt.Sprintf("db-%d", i)
		owned := strings.Replace(pod(name, name, "null", "{}"), `"name":"`+name+`"`,
			`"name":"`+name+`","ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"db","uid":"u","controller":true}]`, 1)
		objects = append(objects,
			[3]string{"v1", "PersistentVolume", volume(name, `"local":{"path":"`+folder+`"}`)}, [3]string{"v1", "Pod", owned})
	}
	out := scanned(t, cluster(t, objects...))
	if v := out.verdicts["db"]; len(out.verdicts) != 1 || v == nil || v.Pods != 3 || v.Verdict != scan.VerdictClosed {
		t.Errorf("verdicts: %+v", out.verdicts)
	}
}

// forbidden is a cluster whose cluster-wide objects may not be read.
type forbidden struct{ *snapshot.Snapshot }

func (forbidden) HostVolumes(context.Context) (map[scan.Claim]string, error) {
	return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumes"}, "", nil)
}

func (forbidden) RuntimeClasses(context.Context) (map[string]string, error) {
	return nil, apierrors.NewForbidden(schema.GroupResource{Group: "node.k8s.io", Resource: "runtimeclasses"}, "", nil)
}

func TestWhatDecidesAndCannotBeReadIsUnknown(t *testing.T) {
	const admin, mount = `{"capabilities":{"add":["SYS_ADMIN"]}}`, `{"privileged":true}`
	c := cluster(t,
		[3]string{"v1", "PersistentVolume", volume("data", `"csi":{"driver":"d","volumeHandle":"h"}`)},
		[3]string{"node.k8s.io/v1", "RuntimeClass", `{"metadata":{"name":"box"},"handler":"runsc"}`},
		[3]string{"v1", "Pod", pod("claims", "data", "null", "{}")},
		[3]string{"v1", "Pod", pod("boxed", "data", `"box"`, admin)},
		[3]string{"v1", "Pod", pod("bare", "data", "null", mount)},
		[3]string{"v1", "Pod", `{"metadata":{"namespace":"shop","name":"plain"},"spec":{"containers":[{"name":"c","image":"i"}]}}`},
	)
	for name, want := range map[string]scan.Verdict{
		"claims": scan.VerdictClosed, "boxed": scan.VerdictClosed, "bare": scan.VerdictExposed, "plain": scan.VerdictClosed,
	} {
		if v := scanned(t, c).verdicts[name]; v.Verdict != want {
			t.Errorf("%s, all readable: %s (%s), want %s", name, v.Verdict, v.Reason, want)
		}
	}
	out := scanned(t, forbidden{c})
	for name, want := range map[string]scan.Verdict{
		"claims": scan.VerdictUnknown, "boxed": scan.VerdictUnknown, "bare": scan.VerdictExposed, "plain": scan.VerdictClosed,
	} {
		if v := out.verdicts[name]; v.Verdict != want {
			t.Errorf("%s, forbidden: %s (%s), want %s", name, v.Verdict, v.Reason, want)
		}
	}
	if !slices.Equal(out.failures, []string{"persistent volumes", "runtime classes"}) {
		t.Errorf("failures: %v", out.failures)
	}
}
