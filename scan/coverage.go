package scan

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// coverage is what KubeArmor's policies see of pods: those that look the same to
// their selectors share one.
type coverage struct {
	*stance
	key string
	// labels are those that a selector reads, no others.
	labels map[string]string
	pods   int
}

// stance is all that decides what policies do to pods, beside their spec and their
// node: what the coverages with the same policies have in common.
type stance struct {
	namespace           string
	labels, annotations map[string]string
	policies            []*armor.Policy
}

// key is the same for stances that are one.
func (s *stance) key() string {
	parts := []string{fmt.Sprint(s.namespace, s.labels, s.annotations)}
	for _, p := range s.policies {
		// Two of one name, as in a folder of overlays, are two.
		parts = append(parts, fmt.Sprintf("%p", p))
	}
	return strings.Join(parts, "\x00")
}

// coverages keeps one coverage for each look.
type coverages struct {
	s  *surroundings
	mu sync.Mutex
	by map[string]*coverage
	// stances has the stance of each set of policies.
	stances map[string]*stance
}

func newCoverages(s *surroundings) *coverages {
	return &coverages{s: s, by: map[string]*coverage{}, stances: map[string]*stance{}}
}

// of finds the coverage of a pod. It may be called from several goroutines.
func (c *coverages) of(pod *corev1.Pod) *coverage {
	key := c.key(pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	cov := c.by[key]
	if cov == nil {
		cov = &coverage{key: key, labels: only(pod.Labels, c.s.armorLabels), stance: c.stance(pod)}
		c.by[key] = cov
	}
	cov.pods++
	return cov
}

// stance finds what policies do to pods like this one.
func (c *coverages) stance(pod *corev1.Pod) *stance {
	s := &stance{
		namespace: strings.Clone(pod.Namespace), labels: only(pod.Labels, armor.JudgeLabels()), annotations: only(pod.Annotations, armor.JudgeAnnotations()),
		policies: c.s.armor.Select(pod.Namespace, pod.Labels),
	}
	return c.keep(s)
}

// keep gives the stance that is the same as s and was kept before, or s.
func (c *coverages) keep(s *stance) *stance {
	key := s.key()
	if known := c.stances[key]; known != nil {
		return known
	}
	c.stances[key] = s
	return s
}

// leave takes out a pod. A coverage without pods is forgotten.
func (c *coverages) leave(cov *coverage) {
	if cov.pods--; cov.pods == 0 && c.by[cov.key] == cov {
		delete(c.by, cov.key)
	}
}

// key is different for pods that a selector could tell apart.
func (c *coverages) key(pod *corev1.Pod) string {
	var b strings.Builder
	b.WriteString(pod.Namespace)
	writeOnly(&b, pod.Labels, c.s.armorLabels)
	writeOnly(&b, pod.Annotations, armor.JudgeAnnotations())
	return b.String()
}

// writeOnly writes what is under the keys as a part of a longer key. Values are
// anybody's, and quoted; the keys are those that policies read.
func writeOnly(b *strings.Builder, from map[string]string, keys []string) {
	for _, k := range keys {
		if v, ok := from[k]; ok {
			b.WriteByte(0)
			b.WriteString(k)
			b.WriteByte('=')
			b.WriteString(strconv.Quote(v))
		}
	}
	b.WriteByte(1)
}

// only copies what is under the keys. Nothing of it is shared with the pod, which
// may be large and is let go.
func only(from map[string]string, keys []string) map[string]string {
	var kept map[string]string
	for _, k := range keys {
		if v, ok := from[k]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[k] = strings.Clone(v)
		}
	}
	return kept
}

// inspected is what --inspect-images finds in a running pod: for each container the
// real paths behind those that the policies name. It is nil when nobody asked.
func (s *surroundings) inspect(ctx context.Context, pod *corev1.Pod, cov *coverage) map[string]map[string]string {
	if s.probes.Inspect == nil || len(cov.policies) == 0 {
		return nil
	}
	paths := armor.PathsToInspect(cov.policies)
	if len(paths) == 0 {
		return nil
	}
	found := map[string]map[string]string{}
	for i := range pod.Status.ContainerStatuses {
		status := &pod.Status.ContainerStatuses[i]
		if status.State.Running == nil {
			continue
		}
		real, err := s.probes.Inspect(ctx, pod.Namespace, pod.Name, status.Name, paths)
		if err != nil {
			s.failed("image of "+pod.Namespace+"/"+pod.Name+" "+status.Name, err, "which programs are behind the paths that policies name")
			continue
		}
		found[strings.Clone(status.Name)] = real
	}
	return found
}
