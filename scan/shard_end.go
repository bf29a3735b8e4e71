package scan

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// divide makes the run one of a shard.
func (r *clusterRun) divide() error {
	if !r.Shard.Valid() {
		return errors.New("shard " + r.Shard.String() + ": there is no such shard")
	}
	if _, ok := r.cluster.(Templates); ok {
		return errors.New("shard: a dump is not divided")
	}
	r.cluster = &shardCluster{Cluster: r.cluster, shard: *r.Shard}
	return nil
}

// endShard sends what end would make results of.
func (r *clusterRun) endShard(ctx context.Context) error {
	made := r.collector.shardRows(ctx)
	if ctx.Err() != nil {
		return r.interrupted()
	}
	counts := r.shardCounts()
	for _, piece := range r.outline().pieces() {
		if err := r.send(Event{Part: &Part{Around: piece}}); err != nil {
			return err
		}
	}
	if err := r.send(Event{Part: &Part{Counts: counts}}); err != nil {
		return err
	}
	for _, m := range made {
		if err := r.send(Event{Part: &Part{Row: m.row()}}); err != nil {
			return err
		}
	}
	// These are in the counts too: here they are for people who look into the file.
	missing := slices.Concat(counts.Failures, counts.Owners)
	if err := sendFailures(missing, r.next); err != nil {
		return err
	}
	return r.send(Event{End: &End{Pods: counts.Pods, Incomplete: len(missing) > 0}})
}

func (r *clusterRun) shardCounts() *ShardCounts {
	c := &ShardCounts{
		Pods: r.collector.pods, Containers: map[string]int{}, Found: r.pods.found, Partial: r.pods.partial,
		Owners: r.collector.owners.missing(), Halves: r.around.halves(r.collector.covers),
		Failures: slices.Concat(r.missing, r.unread(), r.pods.missing),
	}
	for n := range r.around.everyNode() {
		if n.containers > 0 {
			c.Containers[n.name] = n.containers
		}
	}
	seen := r.collector.seen()
	for _, ns := range slices.Sorted(maps.Keys(r.pods.partial)) {
		if seen[ns] {
			c.Seen = append(c.Seen, ns)
		}
	}
	for _, ns := range r.Namespaces {
		if f := r.around.absent(ns); f != nil && r.Shard.Has(ns) {
			c.Absent = append(c.Absent, *f)
		}
	}
	slices.SortStableFunc(c.Owners, compareFailures)
	slices.SortStableFunc(c.Failures, compareFailures)
	return c
}

// placedRows are rows of which it is not known yet what the layers say, as it hangs on
// what else runs on the nodes.
type placedRows struct {
	*rows
	places []placedPods
}

type placedPods struct {
	quiet, crowded *Layers
	admitted       *admitted
	node           *nodeState
}

// shardRows is rows for a shard.
func (c *collector) shardRows(ctx context.Context) []*placedRows {
	c.layers.prepareBoth(maps.Values(c.groups), c.judged)
	byRef := map[RowRef]*placedRows{}
	c.resolve(ctx, func(s share) {
		r := byRef[s.row]
		if r == nil {
			r = &placedRows{rows: newRows(s.row.Workload, s.row.Claims)}
			byRef[s.row] = r
		}
		r.place(s.group, c.judged[s.group.key.digest], c.layers)
	})
	return slices.SortedFunc(maps.Values(byRef), func(a, b *placedRows) int { return compareRows(a.rows, b.rows) })
}

// place is take, with both of what the layers may say.
func (r *placedRows) place(g *group, j *Judgement, layers *layering) {
	r.add(j, g.count)
	for _, at := range g.sorted() {
		quiet, crowded := bothKeys(j, at.cover.stance, at.node, g)
		placed := placedPods{layers.find(quiet, at.node), layers.find(crowded, at.node), g.admitted, at.node}
		// Pods that look otherwise to selectors are often the same to the layers.
		if n := len(r.places); n == 0 || r.places[n-1] != placed {
			r.places = append(r.places, placed)
		}
	}
}

// row is what of the rows has to be known to make them again.
func (r *placedRows) row() *ShardRow {
	row := &ShardRow{
		Workload: r.workload, Claims: r.claims, Pods: r.pods, Findings: r.findings, Allowed: r.allowed,
		Controls: r.controls, Paths: r.paths, Severity: r.severity, Exposed: r.exposed, Unsure: r.unsure, More: r.more,
	}
	layers, decided := map[*Layers]int{}, map[*admitted]int{}
	sources, nodes := map[ShardSource]int{}, map[string]int{}
	for _, p := range r.places {
		source := ShardSource{
			Quiet: indexOf(layers, &row.Layers, p.quiet, p.quiet), Crowded: indexOf(layers, &row.Layers, p.crowded, p.crowded),
		}
		if at, ok := decided[p.admitted]; ok {
			source.Admitted = at
		} else {
			source.Admitted = indexOf(decided, &row.Admitted, p.admitted, p.admitted.part())
		}
		row.Places = append(row.Places, [2]int{indexOf(nodes, &row.Nodes, p.node.name, p.node.name), indexOf(sources, &row.Sources, source, source)})
	}
	return row
}

// indexOf is where a value is in a list, at whose end it is put where it is new. at knows
// them by key.
func indexOf[K comparable, V any](at map[K]int, list *[]V, key K, value V) int {
	i, known := at[key]
	if !known {
		i = len(*list)
		at[key] = i
		*list = append(*list, value)
	}
	return i
}
