package scan

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Template is a pod template of a dump: a workload that may have no pod there.
type Template struct {
	Workload Workload
	Pod      Pod
	// Declaration is where it stands, nil when that is not known.
	Declaration Declaration
}

// Templates is a Cluster that knows the pod templates of its workloads as well: those
// that no pod was made of are judged by themselves.
type Templates interface {
	Templates(ctx context.Context, visit func(Template) error) error
}

// Context is what of a cluster stands around pods that come from elsewhere: the
// documents of a folder of manifests, for instance.
type Context struct {
	start  Start
	engine *Engine
	facts  *factSource
	around *surroundings
	covers *coverages
	layers *layering
	door   *doorman
	rules  *ruleIndex
	tally  *policyTally
}

// NewContext reads what stands around documents. What is not among them is unknown:
// only of KubeArmor's policies those that are there are taken for all there are, as
// a folder of manifests cannot say more.
func NewContext(ctx context.Context, cluster Cluster, engine *Engine, opts ClusterOptions) (*Context, error) {
	server, err := cluster.ServerVersion(ctx)
	if err != nil {
		return nil, err
	}
	opts.manifests = true
	around := readSurroundings(ctx, cluster, &opts, server)
	return &Context{
		start: opts.Start, engine: engine, facts: newFactSource(ctx, cluster), around: around, covers: newCoverages(around), layers: newLayering(around), door: newDoorman(around),
		rules: newRuleIndex(around.admissionPolicies()), tally: newPolicyTally(),
	}, nil
}

// Judge judges the pod of a document by its spec and by what stands around it. It may
// be called from several goroutines.
func (c *Context) Judge(ctx context.Context, w Workload, pod Pod, decl Declaration) *Document {
	// Claims that nothing in the files tells of are none, as for all manifests.
	pod = c.facts.pod(templatePod(w, pod))
	facts := c.facts.facts(pod)
	facts.ClaimsUnknown = false
	j := c.engine.Judge(pod, facts)
	r := newRows(w, "")
	r.add(j, 0)
	c.addLayers(ctx, r, j, w, pod)
	return &Document{rows: r, decl: decl, rules: c.rules}
}

// addLayers asks the layers about a pod that is on no node.
func (c *Context) addLayers(ctx context.Context, r *rows, j *Judgement, w Workload, pod Pod) {
	like := templatePod(w, pod)
	cov := c.covers.of(like)
	admitted := c.door.decide(ctx, like, DigestOf(Trim(pod)), j)
	r.addLayers(c.layers.of(j, cov.stance, c.around.nowhere, nil), admitted, c.around.nowhere)
}

// templatePod is the pod that a template makes.
func templatePod(w Workload, pod Pod) *corev1.Pod {
	made := &corev1.Pod{ObjectMeta: *pod.Meta, Spec: *pod.Spec}
	made.Namespace = w.Namespace
	if made.Namespace == "" {
		made.Namespace = corev1.NamespaceDefault
	}
	if w.Kind != "Pod" {
		made.Name, made.GenerateName = w.Name, w.Name+"-"
	}
	return made
}

// Document is what was judged of one document.
type Document struct {
	rows  *rows
	decl  Declaration
	rules *ruleIndex
}

// Events are the findings of the document, worst first, and its verdict.
func (d *Document) Events() []Event { return d.rows.events(d.decl, d.rules) }

// Count takes a document's verdict into what the policies do. It is not to be called
// concurrently.
func (c *Context) Count(d *Document) { c.tally.add(d.rows.policyParts(c.rules)) }

// Failures are what stands around the documents and could not be read. Kinds that
// are not among the files are none.
func (c *Context) Failures() []Failure { return c.around.failures }

// Events are what is wrong with the policies themselves, and the policies with what
// they do to the documents.
func (c *Context) Events() []Event {
	scope := policyScope{whole: func(string) bool { return false }}
	findings, policies := c.around.policyEvents(c.start.Cluster, c.rules, c.tally, scope, c.covers)
	events := make([]Event, 0, len(findings)+len(policies))
	for i := range findings {
		events = append(events, Event{Finding: &findings[i]})
	}
	for i := range policies {
		events = append(events, Event{Policy: &policies[i]})
	}
	return events
}

// addTemplates judges the templates of a dump that no pod there was made of.
func (r *clusterRun) addTemplates(ctx context.Context, all []*rows) ([]*rows, error) {
	source, ok := r.cluster.(Templates)
	if !ok {
		return all, nil
	}
	seen := map[string]bool{}
	for _, row := range all {
		seen[row.workload.String()] = true
	}
	c := &Context{
		start: r.Start, engine: r.collector.engine, around: r.around,
		covers: r.collector.covers, layers: r.collector.layers, door: r.collector.door,
	}
	err := source.Templates(ctx, func(t Template) error {
		w := t.Workload
		w.Cluster = r.Start.Cluster
		if seen[w.String()] || len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, w.Namespace) {
			return nil
		}
		seen[w.String()] = true
		pod := r.collector.facts.pod(templatePod(w, t.Pod))
		j := c.engine.Judge(pod, r.collector.facts.facts(pod))
		row := newRows(w, "")
		row.decl = t.Declaration
		row.add(j, 0)
		c.addLayers(ctx, row, j, w, pod)
		all = append(all, row)
		r.documents++
		return nil
	})
	slices.SortStableFunc(all, compareRows)
	return all, err
}
