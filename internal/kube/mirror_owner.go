package kube

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/escape-scanner/escape-scanner/internal/pause"
	"github.com/escape-scanner/escape-scanner/scan"
)

// ownerKey names an owner.
type ownerKey struct {
	kind            schema.GroupVersionKind
	namespace, name string
}

// none says that there is no such owner.
func (key ownerKey) none() error {
	return subject("get "+key.kind.Kind+" "+key.name, key.namespace,
		apierrors.NewNotFound(schema.GroupResource{Group: key.kind.Group, Resource: key.kind.Kind}, key.name))
}

// singles are owners that were asked for one by one.
type singles struct {
	mu sync.Mutex
	// owners are those of kinds that cannot be followed.
	owners map[ownerKey]*single
	// refused has, of the kinds of which not even one object may be read, one such.
	refused map[ownerScope]refusal
	// gone are those that a followed kind does not have, and that the server does not
	// have either, as of some time. doubted are those of which it gave no answer.
	gone    map[ownerKey]time.Time
	doubted map[ownerKey]doubt
}

// doubt is why it is not known whether there is an owner, and when it may be asked again.
type doubt struct {
	err   error
	again time.Time
}

type single struct {
	owner scan.Owner
	err   error
	asked time.Time
}

type ownerScope struct {
	kind      schema.GroupVersionKind
	namespace string
}

type refusal struct {
	name string
	err  error
}

// forgotten is how long an owner is kept that nobody asks for.
const forgotten = 24 * time.Hour

// owner gives one of a kind that cannot be followed.
func (s *singles) owner(ctx context.Context, m *Mirror, key ownerKey) (scan.Owner, error) {
	scope := ownerScope{key.kind, key.namespace}
	s.mu.Lock()
	refused, no := s.refused[scope]
	var known single
	kept := s.owners[key]
	if kept != nil {
		kept.asked = time.Now()
		known = *kept
	}
	s.mu.Unlock()
	switch {
	case kept != nil:
		return known.owner, known.err
	case no:
		return scan.Owner{}, refused.err
	}
	owner, err := m.ask(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if apierrors.IsForbidden(err) {
		if s.refused == nil {
			s.refused = map[ownerScope]refusal{}
		}
		s.refused[scope] = refusal{key.name, err}
		return owner, err
	}
	if s.owners == nil {
		s.owners = map[ownerKey]*single{}
	}
	s.owners[key] = &single{owner: owner, err: err, asked: time.Now()}
	return owner, err
}

// missing answers for an owner that its kind's feed does not have. Its watch may be
// behind that of the pods, so the server is asked; what it says holds for a while.
func (s *singles) missing(ctx context.Context, m *Mirror, key ownerKey) (scan.Owner, error) {
	s.mu.Lock()
	at, known := s.gone[key]
	d, doubted := s.doubted[key]
	s.mu.Unlock()
	switch {
	case known && time.Since(at) < m.pace.owners:
		return scan.Owner{}, key.none()
	case doubted && time.Now().Before(d.again):
		// To wait for an answer again takes as long as it did.
		return scan.Owner{}, d.err
	}
	owner, err := m.ask(ctx, key)
	switch {
	case err == nil:
		return owner, nil
	case !answered(err):
		return scan.Owner{}, s.doubt(key, err, m.pace.owners)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = map[ownerKey]time.Time{}
	}
	s.gone[key] = time.Now()
	return scan.Owner{}, key.none()
}

// errUnfollowed says that an owner is of a kind that is not followed at the moment.
func errUnfollowed(key ownerKey) error {
	return subject("get "+key.kind.Kind+" "+key.name, key.namespace,
		apierrors.NewServiceUnavailable("changes of "+key.kind.Kind+" are not seen at the moment"))
}

// doubt notes that it is not known whether there is such an owner, and gives the error
// back. It is said when it may be asked again.
func (s *singles) doubt(key ownerKey, err error, pause time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubted == nil {
		s.doubted = map[ownerKey]doubt{}
	}
	s.doubted[key] = doubt{err, time.Now().Add(pause)}
	return err
}

// leave forgets of namespaces that are gone that nothing may be read there.
func (s *singles) leave(gone func(namespace string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.refused, func(scope ownerScope, _ refusal) bool { return gone(scope.namespace) })
}

// keepDoubts says, until ctx ends, of the owners of which nothing was known that they may
// be asked for again, where their kind is followed by now.
func (m *Mirror) keepDoubts(ctx context.Context) {
	s := &m.single
	for pause.For(ctx, wait.Jitter(m.pace.doubt, 0.2)) == nil {
		s.mu.Lock()
		doubted := maps.Clone(s.doubted)
		s.mu.Unlock()
		for key, d := range doubted {
			if time.Now().Before(d.again) || m.losing(key) {
				continue
			}
			s.mu.Lock()
			delete(s.doubted, key)
			s.mu.Unlock()
			m.change(func(c *changeSet) {
				add(&c.owners, scan.OwnerName{Kind: key.kind, Namespace: key.namespace, Name: key.name})
			})
		}
	}
}

// losing reports whether nobody follows the kind of an owner at the moment.
func (m *Mirror) losing(key ownerKey) bool {
	for _, ns := range []string{"", key.namespace} {
		if r := m.have(feedKey{role: roleOwners, kind: key.kind, namespace: ns}); r != nil && !r.feed.refused() {
			return r.feed.lost()
		}
	}
	return false
}

// ask reads one owner from the server.
func (m *Mirror) ask(ctx context.Context, key ownerKey) (scan.Owner, error) {
	ctx, cancel := context.WithTimeout(ctx, m.pace.first)
	defer cancel()
	return m.cluster.Owner(ctx, key.namespace, key.kind, key.name)
}

// keepSingles asks again for what cannot be followed, until ctx ends.
func (m *Mirror) keepSingles(ctx context.Context) {
	s := &m.single
	for pause.For(ctx, wait.Jitter(m.pace.owners, 0.2)) == nil {
		s.mu.Lock()
		maps.DeleteFunc(s.gone, func(_ ownerKey, at time.Time) bool { return time.Since(at) > m.pace.owners })
		maps.DeleteFunc(s.owners, func(_ ownerKey, o *single) bool { return time.Since(o.asked) > forgotten })
		keys, scopes := slices.Collect(maps.Keys(s.owners)), maps.Clone(s.refused)
		s.mu.Unlock()
		for _, key := range keys {
			m.askAgain(ctx, key)
			// There are others who ask the server too.
			if pause.For(ctx, 20*time.Millisecond) != nil {
				return
			}
		}
		for scope, r := range scopes {
			if _, err := m.ask(ctx, ownerKey{scope.kind, scope.namespace, r.name}); ctx.Err() == nil && !apierrors.IsForbidden(err) && answered(err) {
				s.mu.Lock()
				delete(s.refused, scope)
				s.mu.Unlock()
				m.change(func(c *changeSet) { add(&c.kinds, scope.kind) })
			}
		}
	}
}

// answered reports whether the server said something, if only that there is nothing.
func answered(err error) bool { return err == nil || apierrors.IsNotFound(err) }

// askAgain asks for an owner that was read before. Only an answer changes what is
// known of it.
func (m *Mirror) askAgain(ctx context.Context, key ownerKey) {
	owner, err := m.ask(ctx, key)
	if ctx.Err() != nil {
		return
	}
	s := &m.single
	s.mu.Lock()
	known := s.owners[key]
	if known == nil || known.err == nil && !answered(err) {
		s.mu.Unlock()
		return
	}
	changed := !equal(known.owner, owner) || (known.err == nil) != (err == nil) || known.err != nil && reasonOf(known.err) != reasonOf(err)
	known.owner, known.err = owner, err
	s.mu.Unlock()
	if changed {
		m.change(func(c *changeSet) {
			add(&c.owners, scan.OwnerName{Kind: key.kind, Namespace: key.namespace, Name: key.name})
		})
	}
}
