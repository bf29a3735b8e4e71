package scan

import (
	"bytes"
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
	if s.decoded != nil {
		params = s.decoded.params
	}
	vaps, errs := s.decoded.newVAPs(kinds[kindVAP].items, kinds[kindVAPBinding].items, whyUnread(kinds[kindVAPBinding]), params.find, server)
	for _, err := range errs {
		missing(kindVAP, err)
	}
	for _, v := range vaps {
		s.admission.Expressions = append(s.admission.Expressions, v)
		s.inCEL = append(s.inCEL, v)
	}
	items := slices.Concat(kinds[kindValidating].items, kinds[kindValidNS].items)
	policies, errs := s.decoded.newValidating(items, kinds[kindCELExcept].items, whyUnread(kinds[kindCELExcept]), s.kyvernoDoubt, s.now)
	for _, err := range errs {
		missing(kindValidating, err)
	}
	for _, p := range policies {
		s.admission.Expressions = append(s.admission.Expressions, p)
		s.inCEL = append(s.inCEL, p)
	}
}

// whyUnread says why not all objects of a kind are known, empty where they are.
func whyUnread(o objects) string {
	if o.err == nil {
		return ""
	}
	return unread(plural(o.kind), o.err)
}

// celPolicy is a policy in CEL, of either kind.
type celPolicy interface {
	Ref() admission.Ref
	Action() string
	Faults() []admission.Toothless
}

// admissionPolicies are all policies of admission.
func (s *surroundings) admissionPolicies() []AdmissionOutline {
	var list []AdmissionOutline
	for _, p := range s.admission.Kyverno {
		list = append(list, AdmissionOutline{p.Ref(), p.Action(), p.Faults(), s.kyvernoDoubt})
	}
	for _, p := range s.inCEL {
		outlined := AdmissionOutline{Policy: p.Ref(), Action: p.Action(), Faults: p.Faults()}
		if p.Ref().Mechanism == admission.KyvernoValidatingPolicy {
			outlined.Doubt = s.kyvernoDoubt
		}
		list = append(list, outlined)
	}
	return list
}

// paramReader finds the parameters of policies. Each kind is listed once, when the
// first policy asks for it, or again by refresh.
type paramReader struct {
	ctx     context.Context
	cluster Cluster
	mu      sync.Mutex
	kinds   map[schema.GroupKind]objects
}

func newParamReader(ctx context.Context, cluster Cluster) *paramReader {
	return &paramReader{ctx: ctx, cluster: cluster, kinds: map[schema.GroupKind]objects{}}
}

// follow makes what is read from now on hang on the context.
func (r *paramReader) follow(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
}

// refresh reads again what was asked for, and reports whether any of it is other.
func (r *paramReader) refresh(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
	changed := false
	for kind, was := range r.kinds {
		is := readObjects(ctx, r.cluster, kind)
		changed = changed || !slices.EqualFunc(was.items, is.items, bytes.Equal) || whyUnread(was) != whyUnread(is) || fmt.Sprint(was.err) != fmt.Sprint(is.err)
		r.kinds[kind] = is
	}
	return changed
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
