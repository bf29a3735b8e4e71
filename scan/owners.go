package scan

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ownerIndex follows the owners of pods. Kinds that have many objects are listed
// once, as soon as a pod names the first of them; others are read one by one.
type ownerIndex struct {
	cluster OwnerReader
	// everywhere tells that a kind is listed in all namespaces at once, and not in
	// each that has a pod which names it. It changes only before the first pod.
	everywhere bool

	mu    sync.Mutex
	kinds map[ownerScope]*ownerKind
	loads sync.WaitGroup
	// single keeps what was read one by one, failed why not all owners that pods name
	// could be read.
	single map[ownerName]ownerAnswer
	failed map[ownerScope]error
}

// ownerScope is what one list covers: a kind in a namespace, "" for all.
type ownerScope struct {
	kind      schema.GroupVersionKind
	namespace string
}

type ownerName struct {
	kind            schema.GroupVersionKind
	namespace, name string
}

type ownerAnswer struct {
	owner Owner
	err   error
}

type ownerKind struct {
	byName map[[2]string]Owner
	err    error
}

func newOwnerIndex(cluster OwnerReader, everywhere bool) *ownerIndex {
	return &ownerIndex{
		cluster: cluster, everywhere: everywhere,
		kinds: map[ownerScope]*ownerKind{}, single: map[ownerName]ownerAnswer{}, failed: map[ownerScope]error{},
	}
}

func (x *ownerIndex) scope(kind schema.GroupVersionKind, namespace string) ownerScope {
	if x.everywhere {
		namespace = ""
	}
	return ownerScope{kind, namespace}
}

// listed reports whether a kind is common enough to be listed whole.
func listed(kind schema.GroupVersionKind) bool {
	switch kind {
	case schema.GroupVersionKind{Version: "v1", Kind: "ReplicationController"},
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"},
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"},
		schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"},
		schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJob"}:
		return true
	}
	return false
}

// prefetch starts to list the owner's kind while pods are still being read.
func (x *ownerIndex) prefetch(ctx context.Context, namespace string, ref *metav1.OwnerReference) {
	kind := refKind(ref)
	if !listed(kind) {
		return
	}
	scope := x.scope(kind, namespace)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kinds[scope] != nil {
		return
	}
	k := &ownerKind{byName: map[[2]string]Owner{}}
	x.kinds[scope] = k
	x.loads.Go(func() { x.load(ctx, scope, k) })
}

func (x *ownerIndex) load(ctx context.Context, scope ownerScope, k *ownerKind) {
	k.err = x.cluster.Owners(ctx, scope.namespace, scope.kind, func(page []Owner) error {
		for _, o := range page {
			k.byName[[2]string{o.Namespace, o.Name}] = o
			if o.Controller != nil {
				x.prefetch(ctx, o.Namespace, o.Controller)
			}
		}
		return nil
	})
}

// wait returns when every list that was started is there. Lists start further
// ones before they end, so none is missed.
func (x *ownerIndex) wait() { x.loads.Wait() }

// failures are the kinds of which an owner could not be read, and where.
func (x *ownerIndex) failures() map[ownerScope]error { return x.failed }

// missing are the owners that could not be read, one failure for all of a kind.
func (x *ownerIndex) missing() []Failure {
	var missing []Failure
	for scope, err := range x.failed {
		missing = append(missing, scope.failure(err))
	}
	return missing
}

// fail takes down that an owner could not be read. One speaks for all of its kind, and
// it must not be the order of a map that chooses which.
func (x *ownerIndex) fail(scope ownerScope, err error) {
	if known := x.failed[scope]; known == nil || err.Error() < known.Error() {
		x.failed[scope] = err
	}
}

// find reads one owner; the error is a not-found error when it does not exist.
func (x *ownerIndex) find(ctx context.Context, namespace string, ref *metav1.OwnerReference) (Owner, error) {
	kind := refKind(ref)
	scope := x.scope(kind, namespace)
	if k := x.kinds[scope]; k != nil {
		o, ok := k.byName[[2]string{namespace, ref.Name}]
		switch {
		case ok:
			return o, nil
		case k.err != nil:
			x.fail(scope, k.err)
			return Owner{}, k.err
		default:
			return Owner{}, apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, ref.Name)
		}
	}
	name := ownerName{kind, namespace, ref.Name}
	answer, ok := x.single[name]
	if !ok {
		answer.owner, answer.err = x.cluster.Owner(ctx, namespace, kind, ref.Name)
		x.single[name] = answer
	}
	if answer.err != nil && !apierrors.IsNotFound(answer.err) {
		x.fail(scope, answer.err)
	}
	return answer.owner, answer.err
}

// maxOwners bounds the length of a chain of owners, which may be a ring.
const maxOwners = 10

// top follows the chain from a pod's controller upwards. The workload has no name
// when not even the first owner was followed. claims says where and why it ends
// before its end. hash is the template hash of the first owner; podHash is that of
// the pods.
func (x *ownerIndex) top(ctx context.Context, namespace string, ref *metav1.OwnerReference, podHash string) (w Workload, claims, hash string) {
	for depth := range maxOwners {
		owner, err := x.find(ctx, namespace, ref)
		switch {
		case apierrors.IsNotFound(err):
			return w, claim(ref, "does not exist"), hash
		case err != nil:
			// What cannot be checked is taken at its word, and said to be.
			if depth > 0 {
				return w, claim(ref, "not verified: could not be read"), hash
			}
			w, claims = atItsWord(namespace, ref, podHash)
			return w, claims, hash
		case owner.UID != ref.UID:
			return w, claim(ref, fmt.Sprintf("exists with another UID than %s", ref.UID)), hash
		}
		if depth == 0 {
			hash = owner.TemplateHash
		}
		w = Workload{Namespace: namespace, Kind: ref.Kind, Name: ref.Name}
		if owner.Controller == nil {
			return w, "", hash
		}
		ref = owner.Controller
	}
	return w, claim(ref, "the chain of owners does not end"), hash
}

// atItsWord is the workload that a pod claims to belong to when that cannot be
// checked. A ReplicaSet whose name ends in the pods' template hash stands for its
// Deployment: the hash changes with every rollout, so it must not name a workload.
func atItsWord(namespace string, ref *metav1.OwnerReference, podHash string) (w Workload, claims string) {
	name, ok := strings.CutSuffix(ref.Name, "-"+podHash)
	if ok && podHash != "" && name != "" && refKind(ref) == (schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}) {
		return Workload{Namespace: namespace, Kind: "Deployment", Name: name},
			fmt.Sprintf("Deployment/%s (not verified: its ReplicaSets could not be read)", name)
	}
	return Workload{Namespace: namespace, Kind: ref.Kind, Name: ref.Name}, claim(ref, "not verified: could not be read")
}
