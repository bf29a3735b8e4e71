package snapshot_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

func vap(expression string) string {
	return `{"metadata":{"name":"p"},"spec":{"matchConstraints":{"resourceRules":[{"resources":["pods"]}]},"validations":[{"expression":"` + expression + `","message":"env value args annotations"}]}}`
}

// A policy that may read what an inventory leaves out is not handed out from it:
// what it says is unknown. One that does not is.
func TestPoliciesThatReadWhatIsLeftOut(t *testing.T) {
	vapKind := schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
	kyverno := schema.GroupKind{Group: "kyverno.io", Kind: "ClusterPolicy"}
	for name, test := range map[string]struct {
		kind   schema.GroupKind
		policy string
		why    string
	}{
		"privileged":           {vapKind, vap("object.spec.containers.all(c, !has(c.securityContext.privileged))"), ""},
		"names of environment": {vapKind, vap("object.spec.containers.all(c, c.env.all(e, e.name != 'X'))"), ""},
		"values of it":         {vapKind, vap("object.spec.containers.all(c, c.env.all(e, e.value != 'X'))"), "values of the environment"},
		"where they come from": {vapKind, vap("object.spec.containers.all(c, c.env.all(e, !has(e.valueFrom.secretKeyRef)))"), ""},
		"arguments":            {vapKind, vap("object.spec.containers.all(c, !has(c.args))"), "arguments"},
		"a command":            {vapKind, vap("object.spec.containers[0].command[0] == 'sh'"), "commands"},
		"hosts of probes":      {vapKind, vap("object.spec.containers.all(c, !has(c.livenessProbe.httpGet.host)) && object.spec.volumes.all(v, v.hostPath.path == '/')"), ""},
		"paths of probes":      {vapKind, vap("object.spec.containers.all(c, c.livenessProbe.?httpGet.path.orValue('') == '')"), "paths of probes"},
		"another resource":     {vapKind, strings.ReplaceAll(vap("object.spec.args == []"), "pods", "services"), ""},
		"any resource":         {vapKind, strings.ReplaceAll(vap("object.spec.args == []"), "pods", "*"), "arguments"},
		"one annotation":       {vapKind, vap("object.metadata.annotations['a/b'] == 'c'"), ""},
		"one annotation, CEL's other ways": {
			vapKind, vap(`has(object.metadata.annotations) && \"a/b\" in object.metadata.annotations && object.metadata.?annotations[?'c'].orValue('') == ''`), "",
		},
		"annotations by a loop":     {vapKind, vap("object.metadata.annotations.all(k, k.startsWith('a'))"), "annotations"},
		"annotations by a variable": {vapKind, vap("variables.annotations[variables.key] == 'x'"), "annotations"},
		"annotations of Kyverno": {
			kyverno, `{"metadata":{"name":"p"},"spec":{"rules":[{"match":{"any":[{"resources":{"kinds":["Pod"],"annotations":{"a/b":"c"}}}]}}]}}`, "",
		},
		"annotations by a pattern": {
			kyverno, `{"metadata":{"name":"p"},"spec":{"rules":[{"match":{"any":[{"resources":{"kinds":["Pod"],"annotations":{"a/*":"c"}}}]}}]}}`, "annotations",
		},
		"a pattern of the environment": {
			kyverno, `{"metadata":{"name":"p"},"spec":{"rules":[{"match":{"any":[{"resources":{"kinds":["Pod"]}}]},"validate":{"pattern":{"spec":{"containers":[{"env":[{"value":"x"}]}]}}}}]}}`, "values of the environment",
		},
		"what is no JSON object": {kyverno, `{"metadata":{"name":"p"},"spec":"args pods"}`, "arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			version := test.kind.Group + "/v1"
			policy := `{"apiVersion":"` + version + `","kind":"` + test.kind.Kind + `",` + test.policy[1:]
			s := cluster(t, [3]string{version, test.kind.Kind, policy},
				[3]string{"v1", "Pod", `{"metadata":{"name":"p","namespace":"n","annotations":{"a/b":"kept","c":"kept","d":"s3cr3t"}},"spec":{"containers":[{"name":"c"}]}}`},
				[3]string{"v1", "Pod", `{"metadata":{"name":"q","namespace":"n","annotations":{"d":"s3cr3t"}},"spec":{"containers":[{"name":"c"}]}}`})
			var file bytes.Buffer
			r := snapshot.NewRecorder(&file, snapshot.Begin{}, s, scan.Probes{})
			if err := r.Objects(t.Context(), test.kind, func([]byte) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := r.Pods(t.Context(), "", func(scan.PodPage) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := r.Finish(); err != nil {
				t.Fatal(err)
			}
			d := readBack(t, file.String())
			handed := 0
			err := d.Objects(t.Context(), test.kind, func([]byte) error { handed++; return nil })
			switch {
			case test.why == "" && (err != nil || handed != 1):
				t.Errorf("%d objects, %v", handed, err)
			case test.why != "" && (handed != 0 || !errors.Is(err, scan.ErrNotRecorded) || !strings.Contains(err.Error(), "p reads "+test.why)):
				t.Errorf("%d objects, %v, want one that says %s", handed, err, test.why)
			}
			wantAnnotations(t, d, name)
			// Another dump has the pods as they were.
			if err := s.Objects(t.Context(), test.kind, func([]byte) error { return nil }); err != nil {
				t.Errorf("the cluster itself: %v", err)
			}
		})
	}
}

// wantAnnotations checks that the annotations that policies name are there, and that
// there being some still shows.
func wantAnnotations(t *testing.T, d *snapshot.Dump, name string) {
	t.Helper()
	err := d.Pods(t.Context(), "", func(page scan.PodPage) error {
		for i := range page.Items {
			p := &page.Items[i]
			if p.Annotations["d"] != "" {
				t.Errorf("%s: annotations %q", p.Name, p.Annotations)
			}
			if named := strings.HasPrefix(name, "one annotation"); named && len(p.Annotations) == 0 || named && p.Name == "p" && p.Annotations["a/b"] != "kept" {
				t.Errorf("%s: annotations %q", p.Name, p.Annotations)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Policies that are read after the pods come too late for their annotations, and so
// does one that is put into the file.
func TestPoliciesThatComeTooLate(t *testing.T) {
	kind := schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
	object := [3]string{"admissionregistration.k8s.io/v1", kind.Kind, vap("object.metadata.annotations['a/b'] == 'c'")}
	s := cluster(t, object)
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{}, s, scan.Probes{})
	if err := r.Pods(t.Context(), "", func(scan.PodPage) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.Objects(t.Context(), kind, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := readBack(t, file.String()).Objects(t.Context(), kind, func([]byte) error { return nil }); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("%v", err)
	}
}
