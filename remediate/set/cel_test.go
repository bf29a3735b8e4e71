package set

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// celOptions are options for a set at a level and a version, in the namespaces.
func celOptions(name string, level psa.Level, version string, namespaces ...string) Options {
	return Options{
		Name: name, Level: level, PSSVersion: version, Action: ActionBlock, Scope: targets.Scope{Namespaces: namespaces},
	}
}

// The table has the official controls, each at its level, with its versions and with
// what it overrides.
func TestControlsAreTheOfficialOnes(t *testing.T) {
	t.Parallel()
	describe := func(id string, level psa.Level, overrides []string, since []int) string {
		return fmt.Sprintf("%s %s %q %v", level, id, overrides, since)
	}
	var want, got []string
	for _, check := range policy.DefaultChecks() {
		var overrides []string
		var since []int
		for _, v := range check.Versions {
			since = append(since, v.MinimumVersion.Minor())
			for _, id := range v.OverrideCheckIDs {
				overrides = append(overrides, string(id))
			}
		}
		slices.Sort(overrides)
		want = append(want, describe(string(check.ID), check.Level, slices.Compact(overrides), since))
	}
	newest := 0
	for _, c := range controls() {
		var since []int
		for _, v := range c.versions {
			since = append(since, v.since)
		}
		newest = max(newest, slices.Max(since))
		got = append(got, describe(c.id, c.level, c.overrides, since))
		if strings.Contains(c.message, "; ") || strings.Contains(c.message, ": ") && !strings.Contains(c.message, ".") {
			t.Errorf("%s: the message could not be told from others: %s", c.id, c.message)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if newest != newestStandards {
		t.Errorf("newest is %d, the table ends with %d", newestStandards, newest)
	}
}

// judges are rendered policies as the scan reads them.
type judges struct {
	vaps    []*admission.VAP
	kyverno []*admission.ValidatingPolicy
}

// read reads the enforced forms of objects as a scan would.
func read(t *testing.T, objects []Object) judges {
	t.Helper()
	byKind := map[string][][]byte{}
	for _, object := range objects {
		data, err := json.Marshal(object.Final())
		if err != nil {
			t.Fatal(err)
		}
		kind := object.Final().GetKind()
		byKind[kind] = append(byKind[kind], data)
	}
	var j judges
	var errs, more []error
	j.vaps, errs = admission.NewVAPs(byKind["ValidatingAdmissionPolicy"], byKind["ValidatingAdmissionPolicyBinding"], nil, "v1.36.3")
	kyverno := append(byKind["ValidatingPolicy"], byKind["NamespacedValidatingPolicy"]...)
	j.kyverno, more = admission.NewValidatingPolicies(kyverno, nil, "", time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	if err := errors.Join(append(errs, more...)...); err != nil {
		t.Fatal(err)
	}
	return j
}

// of are the policies of the set that is named like its one namespace.
func (j judges) of(space string) judges {
	var out judges
	for _, vap := range j.vaps {
		if vap.Ref().Name == space {
			out.vaps = append(out.vaps, vap)
		}
	}
	for _, vpol := range j.kyverno {
		if vpol.Ref().Namespace == space {
			out.kyverno = append(out.kyverno, vpol)
		}
	}
	return out
}

// refused are the controls for which a pod is refused, by its policies.
func (j judges) refused(t *testing.T, pod *corev1.Pod, namespace string) []string {
	t.Helper()
	subject := admission.Subject{
		Pod: pod.DeepCopy(), OwnerKind: "Pod", OwnerName: pod.Name,
		Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{corev1.LabelMetadataName: namespace}}},
	}
	subject.Pod.Namespace = namespace
	var rulings []admission.Ruling
	for _, vap := range j.vaps {
		rulings = append(rulings, vap.Rule(subject)...)
	}
	for _, vpol := range j.kyverno {
		rulings = append(rulings, vpol.Rule(subject)...)
	}
	if len(rulings) == 0 {
		t.Fatalf("no policy speaks of pods in %s", namespace)
	}
	controls := []string{}
	for _, ruling := range rulings {
		switch ruling.Answer {
		case admission.Refuses:
			controls = append(controls, named(t, ruling.Message)...)
		case admission.Unknown:
			t.Errorf("pod %s, %s: unknown: %s", pod.Name, ruling.By, ruling.Message)
		case admission.Admits:
		}
	}
	slices.Sort(controls)
	return controls
}

// named are the controls that a message names.
func named(t *testing.T, message string) []string {
	t.Helper()
	_, detail, ok := strings.Cut(message, "violates the Pod Security Standards ")
	_, list, found := strings.Cut(detail, ": ")
	if !ok || !found {
		t.Fatalf("the message names no control: %s", message)
	}
	var ids []string
	for part := range strings.SplitSeq(list, "; ") {
		id, _, _ := strings.Cut(part, ": ")
		ids = append(ids, id)
	}
	return ids
}

// rendering is one of the two ways in which CEL leaves the house.
type rendering struct {
	name   string
	render func(Options) ([]Object, []string, error)
	// everyControl is a policy of its own.
	everyControl bool
}

func renderings() []rendering {
	return []rendering{{"ValidatingAdmissionPolicy", renderVAP, false}, {"Kyverno ValidatingPolicy", renderKyvernoCEL, true}}
}

func (r rendering) mustRender(t *testing.T, o Options) []Object {
	t.Helper()
	objects, _, err := r.render(o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// Of all conformance pods, each rendering refuses at each level and version those
// that the official evaluator refuses, for the very same controls.
func TestCELRefusesWhatTheStandardsRefuse(t *testing.T) {
	t.Parallel()
	for _, r := range renderings() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			pods := oracle.ConformancePods(t, "*", "*")
			if r.everyControl {
				// A policy for each control takes its time: the versions at which a control
				// changes stand for those between.
				pods = slices.DeleteFunc(pods, func(p oracle.Pod) bool { return !turning(p.Version) })
			}
			var objects []Object
			rendered := map[string]bool{}
			spaceOf := func(p oracle.Pod) string {
				return strings.ReplaceAll(string(p.Level)+"-"+p.Version.String(), ".", "-")
			}
			for _, p := range pods {
				if space := spaceOf(p); !rendered[space] {
					rendered[space] = true
					objects = append(objects, r.mustRender(t, celOptions(space, p.Level, p.Version.String(), space))...)
				}
			}
			all := read(t, objects)
			bySpace := map[string]judges{}
			for space := range rendered {
				bySpace[space] = all.of(space)
			}
			refused := 0
			for _, p := range pods {
				got, want := bySpace[spaceOf(p)].refused(t, p.Pod, spaceOf(p)), oracle.Controls(p.Level, p.Version, p.Pod)
				if len(want) > 0 {
					refused++
				}
				if !slices.Equal(got, want) || p.Pass != (len(want) == 0) {
					t.Errorf("%s: refused for %q, want %q", p.Name, got, want)
				}
			}
			if len(rendered) < 20 || refused < len(pods)/4 {
				t.Errorf("%d levels and versions, %d of %d pods refused: this proves too little", len(rendered), refused, len(pods))
			}
		})
	}
}

// turning tells whether a control changes with the version.
func turning(version psa.Version) bool {
	return slices.ContainsFunc(controls(), func(c control) bool {
		return slices.ContainsFunc(c.versions, func(v controlVersion) bool { return version.Minor() == v.since })
	})
}
