package admission

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fiftyVAPs are the first fifty policies that are compared with a real server.
func fiftyVAPs(b *testing.B) (policies, bindings [][]byte) {
	b.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "expression", "policies.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		switch {
		case bytes.Contains(document, []byte("kind: ValidatingAdmissionPolicyBinding\n")):
			bindings = append(bindings, asJSON(b, string(document)))
		case bytes.Contains(document, []byte("kind: ValidatingAdmissionPolicy\n")):
			policies = append(policies, asJSON(b, string(document)))
		}
	}
	if len(policies) < 50 {
		b.Fatalf("%d policies", len(policies))
	}
	return policies[:50], bindings
}

// What one pod costs under fifty policies, and compiling these.
func BenchmarkFiftyVAPs(b *testing.B) {
	policies, bindings := fiftyVAPs(b)
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, errs := NewVAPs(policies, bindings, nil, "v1.36.3"); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	})
	vaps, _ := NewVAPs(policies, bindings, nil, "v1.36.3")
	for _, containers := range []int{1, 10} {
		s := podSubject()
		for i := range containers - 1 {
			c := *s.Pod.Spec.Containers[0].DeepCopy()
			c.Name = fmt.Sprintf("c%d", i)
			s.Pod.Spec.Containers = append(s.Pod.Spec.Containers, c)
		}
		b.Run(fmt.Sprintf("pod with %d containers", containers), func(b *testing.B) {
			b.ReportAllocs()
			rulings := 0
			for b.Loop() {
				rulings = 0
				for _, v := range vaps {
					rulings += len(v.Rule(s))
				}
			}
			if rulings < 40 {
				b.Fatalf("%d rulings", rulings)
			}
		})
	}
}
