package armor

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Index finds the policies that select a pod without trying each of them.
type Index struct {
	// given are the policies as they were given, policies the same in order, marked.
	given    []*Policy
	policies []*Policy
	// namespaces has for each namespace the policies that can only select there,
	// cluster those that can select in any.
	namespaces map[string]*bucket
	cluster    bucket
	keys       []string
}

// bucket finds policies by a label that a pod must carry to be selected; those that
// need no label are in always. Both hold places in the sorted list.
type bucket struct {
	always []int
	byPair map[pair][]int
}

type pair struct{ key, value string }

// ciliumLabel marks Cilium's own pods, in which KubeArmor only audits.
const ciliumLabel = "io.cilium/app"

// NewIndex indexes policies. What it returns is in the order of kind, namespace and
// name, whatever the order here.
func NewIndex(policies []*Policy) *Index {
	ix := &Index{
		given:      slices.Clone(policies),
		policies:   slices.SortedFunc(slices.Values(policies), func(a, b *Policy) int { return compareRefs(a.Ref, b.Ref) }),
		namespaces: map[string]*bucket{},
	}
	ix.shadow()
	keys := map[string]bool{ciliumLabel: true}
	common := ix.pairs()
	for i, p := range ix.policies {
		for _, key := range p.Selector.keys() {
			keys[key] = true
		}
		anchors := p.Selector.anchors(common)
		switch {
		case p.Kind == KubeArmorPolicy:
			ix.bucket(p.Namespace).add(i, anchors)
		case p.Selector.Namespaces != nil:
			for _, namespace := range slices.Compact(slices.Sorted(slices.Values(p.Selector.Namespaces))) {
				ix.bucket(namespace).add(i, anchors)
			}
		default:
			ix.cluster.add(i, anchors)
		}
	}
	ix.keys = slices.Sorted(maps.Keys(keys))
	return ix
}

// shadow marks cluster policies that share their name with a namespaced one. The
// policies given to NewIndex stay as they are.
func (ix *Index) shadow() {
	named := map[string]*Ref{}
	for _, p := range ix.policies {
		if p.Kind == KubeArmorPolicy && named[p.Name] == nil {
			named[p.Name] = &p.Ref
		}
	}
	for i, p := range ix.policies {
		if by := named[p.Name]; by != nil && p.Kind == KubeArmorClusterPolicy {
			marked := *p
			marked.shadow = by
			ix.policies[i] = &marked
		}
	}
}

func compareRefs(a, b Ref) int {
	return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// pairs counts how many policies ask for each label.
func (ix *Index) pairs() map[pair]int {
	n := map[pair]int{}
	for _, p := range ix.policies {
		for key, value := range p.Selector.Labels {
			n[pair{key, value}]++
		}
	}
	return n
}

// anchors are labels of which a selected pod carries at least one, nil when it need
// carry none. Of labels that are all needed, the one that the fewest policies ask
// for tells most.
func (s *Selector) anchors(common map[pair]int) []pair {
	if len(s.Labels) > 0 {
		var best pair
		for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
			p := pair{key, s.Labels[key]}
			if best == (pair{}) || common[p] < common[best] {
				best = p
			}
		}
		return []pair{best}
	}
	if len(s.NoneOf) > 0 || len(s.AnyOf) == 0 {
		return nil
	}
	var anchors []pair
	for _, identity := range s.AnyOf {
		key, value, _ := strings.Cut(identity, "=")
		if key == "namespaceName" {
			return nil
		}
		anchors = append(anchors, pair{key, value})
	}
	return anchors
}

func (ix *Index) bucket(namespace string) *bucket {
	b := ix.namespaces[namespace]
	if b == nil {
		b = &bucket{}
		ix.namespaces[namespace] = b
	}
	return b
}

func (b *bucket) add(i int, anchors []pair) {
	if anchors == nil {
		b.always = append(b.always, i)
		return
	}
	if b.byPair == nil {
		b.byPair = map[pair][]int{}
	}
	for _, a := range anchors {
		if at := b.byPair[a]; len(at) == 0 || at[len(at)-1] != i {
			b.byPair[a] = append(at, i)
		}
	}
}

// Select returns the policies that select a pod with these labels in this
// namespace, in the order of kind, namespace and name; nil for none.
func (ix *Index) Select(namespace string, labels map[string]string) []*Policy {
	var places []int
	for _, b := range [...]*bucket{ix.namespaces[namespace], &ix.cluster} {
		if b == nil {
			continue
		}
		places = append(places, b.always...)
		if len(b.byPair) == 0 {
			continue
		}
		for key, value := range labels {
			places = append(places, b.byPair[pair{key, value}]...)
		}
	}
	if len(places) == 0 {
		return nil
	}
	slices.Sort(places)
	var selected []*Policy
	for n, i := range places {
		if n > 0 && places[n-1] == i {
			continue
		}
		if p := ix.policies[i]; p.Selects(namespace, labels) {
			selected = append(selected, p)
		}
	}
	return selected
}

// LabelKeys are the keys of the labels that decide what Select returns and what
// Judge makes of it, sorted: pods of a namespace that agree in them are selected by
// the same policies.
func (ix *Index) LabelKeys() []string { return slices.Clone(ix.keys) }

// Given are the policies of which the index was made.
func (ix *Index) Given() []*Policy { return ix.given }

// Policies are all policies of the index, in its order.
func (ix *Index) Policies() []*Policy { return slices.Clone(ix.policies) }
