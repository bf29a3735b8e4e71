package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// briskly is a pace for tests.
func briskly() pace {
	return pace{
		grace: 300 * time.Millisecond, request: 5 * time.Second, stands: 100 * time.Millisecond, silence: time.Minute,
		served: 500 * time.Millisecond, doubt: 300 * time.Millisecond, owners: 200 * time.Millisecond, first: 5 * time.Second,
		backoff: wait.Backoff{Duration: 20 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 300 * time.Millisecond},
	}
}

// follow runs a mirror of a cluster until the test ends, and returns when it is read.
func follow(t *testing.T, config *rest.Config, opts Options, mirror MirrorOptions, adapt ...func(*pace)) *Mirror {
	t.Helper()
	m, ended := launch(t, config, opts, mirror, adapt...)
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended at once: %v", err)
	default:
	}
	return m
}

// launch is follow without waiting. ended gets what Run returns.
func launch(t *testing.T, config *rest.Config, opts Options, mirror MirrorOptions, adapt ...func(*pace)) (m *Mirror, ended chan error) {
	t.Helper()
	cluster, err := NewCluster(config, opts)
	if err != nil {
		t.Fatal(err)
	}
	m = cluster.Mirror(mirror)
	m.pace = briskly()
	for _, f := range adapt {
		f(&m.pace)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m, ended
}

// told collects what a mirror says of changes.
type told struct {
	m       *Mirror
	changes scan.Changes
}

// until takes changes until they satisfy holds.
func (c *told) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		next := c.m.Take()
		c.changes.Pods = append(c.changes.Pods, next.Pods...)
		c.changes.Owners = append(c.changes.Owners, next.Owners...)
		c.changes.OwnerKinds = append(c.changes.OwnerKinds, next.OwnerKinds...)
		c.changes.Around = c.changes.Around || next.Around
		c.changes.Facts = c.changes.Facts || next.Facts
		c.changes.AllPods = c.changes.AllPods || next.AllPods
		if holds() {
			return
		}
		select {
		case <-c.m.Ready():
		case <-timeout:
			t.Fatalf("%s: not within 30 s; changes so far: %+v", what, c.changes)
		}
	}
}

// read is all that a cluster says, with errors as texts.
type read struct {
	namespaces, nodes, agents map[string]any
	pods                      map[string]any
	objects                   map[string]any
	owners                    map[string]any
	facts                     map[string]any
}

// readAll reads a cluster by every method, and leaves out what a mirror does not keep.
func readAll(t *testing.T, c scan.Cluster, namespaces []string, kinds []schema.GroupKind) read {
	t.Helper()
	ctx := t.Context()
	r := read{
		namespaces: map[string]any{}, nodes: map[string]any{}, agents: map[string]any{}, pods: map[string]any{},
		objects: map[string]any{}, owners: map[string]any{}, facts: map[string]any{},
	}
	note := func(in map[string]any, err error) {
		if err != nil {
			in["error"] = err.Error()
		}
	}
	nss, err := c.Namespaces(ctx)
	note(r.namespaces, err)
	for i := range nss {
		n, err := cutNamespace(&nss[i])
		note(r.namespaces, err)
		r.namespaces[n.Name] = n
	}
	nodes, err := c.Nodes(ctx)
	note(r.nodes, err)
	for i := range nodes {
		n, err := cutNode(&nodes[i])
		note(r.nodes, err)
		r.nodes[n.Name] = n
	}
	for _, selector := range []string{kernel.AgentSelector, admission.KyvernoSelector} {
		agents, err := c.LabelledPods(ctx, selector)
		note(r.agents, err)
		for i := range agents {
			p, err := cutAgent(&agents[i])
			note(r.agents, err)
			r.agents[selector+" "+p.Namespace+"/"+p.Name] = p
		}
	}
	order := ""
	for _, ns := range namespaces {
		note(r.pods, c.Pods(ctx, ns, func(page scan.PodPage) error {
			for i := range page.Items {
				p := cutForReading(&page.Items[i])
				r.pods[p.Namespace+"/"+p.Name] = p
				order += p.Namespace + "/" + p.Name + " "
			}
			return nil
		}))
		for _, kind := range commonOwners() {
			note(r.owners, c.Owners(ctx, ns, kind, func(list []scan.Owner) error {
				for _, o := range list {
					r.owners[fmt.Sprint(kind.Kind, o.Namespace, "/", o.Name)] = o
				}
				return nil
			}))
		}
	}
	r.pods["order"] = order
	for _, kind := range kinds {
		err := c.Objects(ctx, kind, func(text []byte) error {
			var u map[string]any
			if err := json.Unmarshal(text, &u); err != nil {
				return err
			}
			m := u["metadata"].(map[string]any)
			delete(m, "managedFields")
			delete(m, "resourceVersion")
			r.objects[fmt.Sprint(kind, m["namespace"], "/", m["name"])] = u
			return nil
		})
		if errors.Is(err, scan.ErrNotServed) {
			r.objects[kind.String()] = "not served"
		} else {
			note(r.objects, err)
		}
	}
	handlers, err := c.RuntimeClasses(ctx)
	note(r.facts, err)
	r.facts["handlers"] = handlers
	volumes, err := c.HostVolumes(ctx)
	note(r.facts, err)
	r.facts["volumes"] = volumes
	r.facts["version"], err = c.ServerVersion(ctx)
	note(r.facts, err)
	return r
}

// cutForReading leaves of a pod what a mirror keeps, by hand.
func cutForReading(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	m := p.ObjectMeta
	p.ObjectMeta = metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, GenerateName: m.GenerateName, CreationTimestamp: m.CreationTimestamp,
		Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences, Finalizers: m.Finalizers,
	}
	delete(p.Annotations, corev1.LastAppliedConfigAnnotation)
	s := p.Status
	p.Status = corev1.PodStatus{Phase: s.Phase}
	for _, c := range s.ContainerStatuses {
		kept := corev1.ContainerStatus{Name: c.Name}
		if c.State.Running != nil {
			kept.State.Running = &corev1.ContainerStateRunning{}
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, kept)
	}
	return p
}

// differences names what of two readings is not the same.
func differences(a, b read) []string {
	var list []string
	for name, pair := range map[string][2]map[string]any{
		"namespaces": {a.namespaces, b.namespaces}, "nodes": {a.nodes, b.nodes}, "agents": {a.agents, b.agents},
		"pods": {a.pods, b.pods}, "objects": {a.objects, b.objects}, "owners": {a.owners, b.owners}, "facts": {a.facts, b.facts},
	} {
		for key := range pair[0] {
			if !equality.Semantic.DeepEqual(pair[0][key], pair[1][key]) {
				list = append(list, fmt.Sprintf("%s %s:\n%s\n%s", name, key, text(pair[0][key]), text(pair[1][key])))
			}
		}
		for key := range pair[1] {
			if _, ok := pair[0][key]; !ok {
				list = append(list, fmt.Sprintf("%s %s: only in the second", name, key))
			}
		}
	}
	return list
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// matches waits until the mirror says the same as the cluster by every method.
func matches(t *testing.T, m *Mirror, c *Cluster, namespaces []string, kinds []schema.GroupKind) {
	t.Helper()
	var last []string
	eventually(t, "the mirror is the same as the cluster", func() bool {
		last = differences(readAll(t, c, namespaces, kinds), readAll(t, m, namespaces, kinds))
		return len(last) == 0
	})
	for _, d := range last {
		t.Log(d)
	}
}

func isNotServed(err error) bool { return errors.Is(err, scan.ErrNotServed) }
