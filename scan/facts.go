package scan

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// factSource reads what some pods' verdicts depend on beyond their own spec, each
// thing once and only when the first such pod shows up. It is safe for concurrent
// use.
type factSource struct {
	handlers func() (map[string]string, error)
	// volumes leaves out paths that no rule speaks of: the claims of a StatefulSet's
	// pods lead to a folder each, and must not make the pods look different.
	volumes func() (map[Claim]string, error)

	mu     sync.Mutex
	failed map[string]Failure
}

func newFactSource(ctx context.Context, cluster Cluster) *factSource {
	s := &factSource{failed: map[string]Failure{}}
	s.handlers = sync.OnceValues(func() (map[string]string, error) {
		handlers, err := cluster.RuntimeClasses(ctx)
		s.fail(err, classesFailure)
		return handlers, err
	})
	s.volumes = sync.OnceValues(func() (map[Claim]string, error) {
		volumes, err := cluster.HostVolumes(ctx)
		s.fail(err, volumesFailure)
		return toldVolumes(volumes), err
	})
	return s
}

func toldVolumes(volumes map[Claim]string) map[Claim]string {
	special := specialHostPaths()
	told := make(map[Claim]string, len(volumes))
	for claim, path := range volumes {
		if spokenOf(path, special) {
			told[claim] = path
		}
	}
	return told
}

func classesFailure(err error) Failure {
	return FailureOf("runtime classes", "", err, "which pods run in a sandbox: none is assumed to")
}

func volumesFailure(err error) Failure {
	return FailureOf("persistent volumes", "", err, "which claims lead to a path of the host")
}

func (s *factSource) fail(err error, failure func(error) Failure) {
	if err == nil {
		return
	}
	f := failure(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[f.Subject] = f
}

// failures are what was asked for and could not be read.
func (s *factSource) failures() []Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Failure
	for _, f := range s.failed {
		list = append(list, f)
	}
	return list
}

// pod is a pod of the cluster with what lies behind its claims.
func (s *factSource) pod(p *corev1.Pod) Pod {
	pod := Pod{Meta: &p.ObjectMeta, Spec: &p.Spec}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		name, ok := ClaimOf(p.Name, v)
		if !ok {
			continue
		}
		// What was read before an error is still true.
		volumes, _ := s.volumes()
		if path := volumes[Claim{p.Namespace, name}]; path != "" {
			if pod.HostPaths == nil {
				pod.HostPaths = map[string]string{}
			}
			pod.HostPaths[v.Name] = path
		}
	}
	return pod
}

// facts are what the trimmed pod's rules ask for.
func (s *factSource) facts(pod Pod) Facts {
	var f Facts
	if pod.Spec.RuntimeClassName != nil {
		handlers, err := s.handlers()
		f.RuntimeHandlers, f.RuntimeHandlersKnown = handlers, err == nil
	}
	if hasClaims(pod.Spec) {
		_, err := s.volumes()
		f.ClaimsUnknown = err != nil
	}
	return f
}

func hasClaims(spec *corev1.PodSpec) bool {
	for i := range spec.Volumes {
		if _, ok := ClaimOf("", &spec.Volumes[i]); ok {
			return true
		}
	}
	return false
}

// ClaimOf is the claim behind a volume of the pod. That of an ephemeral volume is made
// for the pod, and named for both.
func ClaimOf(pod string, v *corev1.Volume) (name string, ok bool) {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName, true
	case v.Ephemeral != nil:
		return pod + "-" + v.Name, true
	}
	return "", false
}
