package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// surroundings are what of a cluster stands around its pods: namespaces, nodes and
// policies, and what of it could not be read. They are read before the pods and
// held whole.
type surroundings struct {
	now    time.Time
	probes Probes
	// manifests is true where all that is known comes from a folder of manifests, of
	// which nobody expects nodes, for instance.
	manifests bool

	namespaces map[string]*corev1.Namespace
	// namespacesUnknown says why not all namespaces are known, empty when they are.
	namespacesUnknown string
	namespacesErr     error

	nodes        map[string]*nodeState
	nodesUnknown string
	// nowhere is what holds for pods that have no node yet, strange what holds on
	// nodes that were not among those read.
	nowhere *nodeState
	strange map[string]*nodeState
	classes nodeClasses

	armor *armor.Index
	// armorUnknown says why not all of KubeArmor's policies are known, and armorHidden
	// the same where the server has them and did not show them: one of those may allow
	// what a known one blocks.
	armorUnknown, armorHidden string
	armorLabels               []string

	admission *admission.Set
	// kyvernoDoubt says why Kyverno may not be asked, empty where it is.
	kyvernoDoubt string
	// inCEL are the policies in CEL among them.
	inCEL []celPolicy
	// keys is what of a pod's identity admission reads.
	keys admission.Keys
	// decoded has what was decoded before, nil for nothing.
	decoded *decoded

	mu       sync.Mutex
	failures []Failure
}

// readSurroundings reads everything that is not pods. What cannot be read is a
// failure, and what hangs on it is unknown.
func readSurroundings(ctx context.Context, cluster Cluster, opts *ClusterOptions, server string) *surroundings {
	s := &surroundings{
		now: opts.Start.Time, probes: opts.Probes, manifests: opts.manifests,
		namespaces: map[string]*corev1.Namespace{}, nodes: map[string]*nodeState{}, strange: map[string]*nodeState{},
		classes: opts.classes, decoded: opts.decoded,
		admission: &admission.Set{Server: serverPSS(server), Standards: &admission.Standards{}},
	}
	if s.classes == nil {
		s.classes = nodeClasses{}
	}
	var nodes []corev1.Node
	var agents []corev1.Pod
	var agentsErr error
	raw := make([]objects, len(ObjectKinds()))
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		nodes, err = cluster.Nodes(ctx)
		s.failed("nodes", err, "what the nodes' kernels are and enforce")
		if err != nil {
			s.nodesUnknown = unread("nodes", err)
		}
	})
	wg.Go(func() {
		namespaces, err := cluster.Namespaces(ctx)
		s.namespacesErr = err
		s.failed("namespaces", err, "which namespaces there are, and what their labels ask of admission")
		if err != nil {
			s.namespacesUnknown = unread("namespaces", err)
		}
		for i := range namespaces {
			s.namespaces[namespaces[i].Name] = &namespaces[i]
		}
	})
	wg.Go(func() { agents, agentsErr = cluster.LabelledPods(ctx, kernel.AgentSelector) })
	// A few at a time: the API server has others to serve.
	eachLimited(len(raw), 4, func(i int) { raw[i] = readObjects(ctx, cluster, ObjectKinds()[i]) })
	wg.Wait()

	s.readPolicies(ctx, cluster, raw, server)
	s.readNodes(ctx, nodes, agents, agentsErr)
	return s
}

// failed records an error of reading subject, nil for none. What manifests do not tell
// is none.
func (s *surroundings) failed(subject string, err error, affects string) {
	if err == nil || s.untold(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, FailureOf(subject, "", err, affects))
}

// untold reports whether err says no more than that manifests do not tell of a thing.
func (s *surroundings) untold(err error) bool {
	return s.manifests && errors.Is(err, ErrNotRecorded)
}

// unread says for a verdict why something is not known.
func unread(subject string, err error) string {
	if errors.Is(err, ErrNotRecorded) {
		return subject + " are not in the dump"
	}
	return fmt.Sprintf("%s could not be read (%s)", subject, failureReason(err))
}

// unreadKinds says it of several kinds, those with the same reason in one sentence.
func unreadKinds(lists []objects) []string {
	var why []string
	kinds := map[string][]string{}
	for _, o := range lists {
		name := plural(o.kind)
		reason := strings.TrimPrefix(unread(name, o.err), name)
		if !slices.Contains(why, reason) {
			why = append(why, reason)
		}
		if !slices.Contains(kinds[reason], name) {
			kinds[reason] = append(kinds[reason], name)
		}
	}
	for i, reason := range why {
		names := kinds[reason]
		last := len(names) - 1
		why[i] = names[last] + reason
		if last > 0 {
			why[i] = strings.Join(names[:last], ", ") + " and " + why[i]
		}
	}
	return why
}

// objects are those of one kind, and why there may be more.
type objects struct {
	kind  schema.GroupKind
	items [][]byte
	err   error
}

func readObjects(ctx context.Context, cluster Cluster, kind schema.GroupKind) objects {
	o := objects{kind: kind}
	o.err = cluster.Objects(ctx, kind, func(object []byte) error {
		o.items = append(o.items, object)
		return nil
	})
	// Of a kind that is not served there is nothing.
	if errors.Is(o.err, ErrNotServed) {
		o.err = nil
	}
	return o
}

// readPolicies decodes what was read of each kind of policy.
func (s *surroundings) readPolicies(ctx context.Context, cluster Cluster, raw []objects, server string) {
	byKind := map[schema.GroupKind]objects{}
	var missing []objects
	for _, o := range raw {
		byKind[o.kind] = o
		if o.err == nil || o.kind.Group == kindKSP.Group && s.untold(o.err) {
			continue
		}
		affects := "what admission refuses"
		if o.kind.Group == kindKSP.Group {
			affects = "what KubeArmor blocks at run time"
			why := unread(plural(o.kind), o.err)
			s.armorUnknown = cmp.Or(s.armorUnknown, why)
			if !errors.Is(o.err, ErrNotRecorded) {
				s.armorHidden = cmp.Or(s.armorHidden, why)
			}
		} else {
			missing = append(missing, o)
		}
		s.failed(o.kind.String(), o.err, affects)
	}
	s.admission.Missing = unreadKinds(missing)
	s.readKyverno(ctx, cluster, byKind)
	s.readArmor(byKind[kindKSP], byKind[kindCSP])
	s.readAdmission(ctx, cluster, byKind, server)
	s.keys = s.admission.Keys()
}

// plural is the name of a kind's objects for people.
func plural(kind schema.GroupKind) string {
	if base, ok := strings.CutSuffix(kind.Kind, "y"); ok {
		return base + "ies"
	}
	return kind.Kind + "s"
}

func (s *surroundings) readArmor(lists ...objects) {
	var policies []*armor.Policy
	for _, list := range lists {
		for _, item := range list.items {
			p, err := s.decoded.armorPolicy(list.kind, item)
			if err != nil {
				s.broken(list.kind, err, &s.armorUnknown)
				continue
			}
			policies = append(policies, p)
		}
	}
	s.armor = s.decoded.index(policies)
	s.armorLabels = s.armor.LabelKeys()
}

// broken records a policy that cannot be understood: what it does is not known.
func (s *surroundings) broken(kind schema.GroupKind, err error, unknown *string) {
	s.failures = append(s.failures, Failure{
		Subject: kind.String(), Reason: FailureInvalid, Message: err.Error(), Affects: "what this policy does",
	})
	*unknown = cmp.Or(*unknown, "a "+kind.Kind+" could not be understood: "+err.Error())
}

// readKyverno finds out whether Kyverno runs, where there are policies of it. Manifests do
// not tell, and are judged as where it does; a dump without its pods may be whole.
func (s *surroundings) readKyverno(ctx context.Context, cluster Cluster, kinds map[schema.GroupKind]objects) {
	policies := 0
	for _, kind := range []schema.GroupKind{kindKyverno, kindKyvernoNS, kindValidating, kindValidNS} {
		policies += len(kinds[kind].items)
	}
	if policies == 0 || s.manifests {
		return
	}
	pods, err := cluster.LabelledPods(ctx, admission.KyvernoSelector)
	s.kyvernoDoubt = admission.KyvernoDoubt(pods)
	if err != nil {
		if !errors.Is(err, ErrNotRecorded) {
			s.failed("pods of Kyverno", err, "whether its policies are asked at all")
		}
		if s.kyvernoDoubt != "" {
			s.kyvernoDoubt = "whether Kyverno runs is not known: " + unread("its pods", err)
		}
	}
	s.admission.KyvernoDoubt = s.kyvernoDoubt
}

func (s *surroundings) readAdmission(ctx context.Context, cluster Cluster, kinds map[schema.GroupKind]objects, server string) {
	missing := func(kind schema.GroupKind, err error) {
		var why string
		s.broken(kind, err, &why)
		s.admission.Missing = append(s.admission.Missing, why)
	}
	for _, kind := range []schema.GroupKind{kindKyverno, kindKyvernoNS} {
		for _, item := range kinds[kind].items {
			p, err := s.decoded.kyvernoPolicy(kind, item)
			if err != nil {
				missing(kind, err)
				continue
			}
			s.admission.Kyverno = append(s.admission.Kyverno, p)
		}
	}
	if err := kinds[kindException].err; err != nil && s.admission.KyvernoDoubt == "" {
		s.admission.KyvernoDoubt = unread(plural(kindException), err) + ", and one of them may let the pod pass"
	}
	for _, item := range kinds[kindException].items {
		x, err := s.decoded.kyvernoException(item)
		if err != nil {
			missing(kindException, err)
			continue
		}
		s.admission.Exceptions = append(s.admission.Exceptions, x)
	}
	s.readExpressions(ctx, cluster, kinds, server, missing)
}

// namespace is what is known of a namespace: nil with the reason when it is not.
func (s *surroundings) namespace(name string) (*corev1.Namespace, string) {
	if ns := s.namespaces[name]; ns != nil {
		return ns, ""
	}
	return nil, cmp.Or(s.namespacesUnknown, "namespace "+name+" was not among those read")
}

// sortedNodes are the nodes in the order of their names.
func (s *surroundings) sortedNodes() []*nodeState {
	list := make([]*nodeState, 0, len(s.nodes))
	for _, n := range s.nodes {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *nodeState) int { return cmp.Compare(a.node.Name, b.node.Name) })
	return list
}
