package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// readExpressions makes rules of the policies in CEL.
func (s *surroundings) readExpressions(ctx context.Context, cluster Cluster, kinds map[schema.GroupKind]objects, server string, missing func(schema.GroupKind, error)) {
	params := newParamReader(ctx, cluster)
	vaps, errs := admission.NewVAPs(kinds[kindVAP].items, kinds[kindVAPBinding].items, params.find, server)
	for _, err := range errs {
		missing(kindVAP, err)
	}
	for _, v := range vaps {
		if err := kinds[kindVAPBinding].err; err != nil {
			v.BindingsUnread(unread(plural(kindVAPBinding), err))
		}
		s.admission.Expressions = append(s.admission.Expressions, v)
		s.inCEL = append(s.inCEL, v)
	}
	items := slices.Concat(kinds[kindValidating].items, kinds[kindValidNS].items)
	policies, errs := admission.NewValidatingPolicies(items, kinds[kindCELExcept].items, "", s.now)
	for _, err := range errs {
		missing(kindValidating, err)
	}
	for _, p := range policies {
		if err := kinds[kindCELExcept].err; err != nil {
			p.ExceptionsUnread(unread(plural(kindCELExcept), err))
		}
		s.admission.Expressions = append(s.admission.Expressions, p)
		s.inCEL = append(s.inCEL, p)
	}
}

// celPolicy is a policy in CEL, of either kind.
type celPolicy interface {
	Ref() admission.Ref
	Action() string
	Faults() []admission.Toothless
}

// admissionPolicies are all policies of admission.
func (s *surroundings) admissionPolicies() []admissionPolicy {
	var list []admissionPolicy
	for _, p := range s.admission.Kyverno {
		list = append(list, admissionPolicy{p.Ref(), p.Action(), p.Faults()})
	}
	for _, p := range s.inCEL {
		list = append(list, admissionPolicy{p.Ref(), p.Action(), p.Faults()})
	}
	return list
}

// paramReader finds the parameters of policies. Each kind is listed once, when the
// first policy asks for it.
type paramReader struct {
	ctx     context.Context
	cluster Cluster
	mu      sync.Mutex
	kinds   map[schema.GroupKind]objects
}

func newParamReader(ctx context.Context, cluster Cluster) *paramReader {
	return &paramReader{ctx: ctx, cluster: cluster, kinds: map[schema.GroupKind]objects{}}
}

// find answers a query of a policy. Secrets are never read, whatever a policy asks.
func (r *paramReader) find(q admission.ParamQuery) ([]map[string]any, error) {
	gv, err := schema.ParseGroupVersion(q.APIVersion)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.Kind, err)
	}
	kind := schema.GroupKind{Group: gv.Group, Kind: q.Kind}
	if kind == (schema.GroupKind{Kind: "Secret"}) {
		return nil, errors.New("secrets are never read")
	}
	r.mu.Lock()
	list, ok := r.kinds[kind]
	if !ok {
		list = readObjects(r.ctx, r.cluster, kind)
		r.kinds[kind] = list
	}
	r.mu.Unlock()
	if list.err != nil {
		return nil, list.err
	}
	var found []map[string]any
	for _, item := range list.items {
		var object struct {
			Metadata struct {
				Name, Namespace string
				Labels          map[string]string
			}
		}
		if err := json.Unmarshal(item, &object); err != nil {
			return nil, fmt.Errorf("%s: %w", q.Kind, err)
		}
		m := object.Metadata
		if m.Namespace != "" && m.Namespace != q.Namespace || q.Name != "" && m.Name != q.Name ||
			q.Name == "" && q.Selector != nil && !q.Selector.Matches(labels.Set(m.Labels)) {
			continue
		}
		var decoded map[string]any
		if err := json.Unmarshal(item, &decoded); err != nil {
			return nil, fmt.Errorf("%s: %w", q.Kind, err)
		}
		found = append(found, decoded)
	}
	return found, nil
}
