package targets

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// joined is a workload that is being put together.
type joined struct {
	workload  scan.Workload
	selects   map[string]string
	specimens map[digest]*group
}

// join makes workloads of the templates and of the groups of pods.
func (r *reader) join(ctx context.Context) {
	// Owners are listed beside: nothing of that outlives the reading.
	reading, stop := context.WithCancel(ctx)
	chains := scan.NewChains(r.sources, len(r.scope.Namespaces) == 0 && !r.apart)
	defer chains.Wait()
	defer stop()
	for i := range r.sources.templates {
		chains.Expect(reading, &r.sources.templates[i].meta)
	}
	for _, g := range r.groups {
		chains.Expect(reading, &g.pod.ObjectMeta)
	}
	chains.Wait()

	all := map[scan.Workload]*joined{}
	for i := range r.sources.templates {
		t := &r.sources.templates[i]
		w, _ := chains.Workload(reading, &t.meta)
		j := find(all, cmp.Or(w, scan.Workload{Namespace: t.meta.Namespace, Kind: t.kind, Name: t.meta.Name}))
		j.add(digestOf(t.pod), &group{pod: t.pod})
		if w == (scan.Workload{}) {
			j.selects = t.selects
		}
	}
	for _, key := range sortedGroups(r.groups) {
		g := r.groups[key]
		w, _ := chains.Workload(reading, &g.pod.ObjectMeta)
		if w.Name != "" {
			find(all, w).add(key.digest, g)
			continue
		}
		// Pods whose controller is not to be believed, or that have none.
		j := find(all, scan.Workload{Namespace: key.namespace, Kind: "Pod", Name: g.pod.Name})
		j.add(key.digest, g)
		j.selects = g.pod.Labels
		if key.pod == "" {
			j.selects = withoutInstance(j.selects)
		}
	}
	r.inventory.Failures = append(r.inventory.Failures, chains.Failures()...)
	for _, w := range slices.SortedFunc(maps.Keys(all), scan.Workload.Compare) {
		r.inventory.Workloads = append(r.inventory.Workloads, all[w].result())
	}
	r.groups, r.sources = nil, nil
}

// sortedGroups puts the groups into an order that does not hang on a map's: it decides
// which of equal pods stands for the others.
func sortedGroups(groups map[groupKey]*group) []groupKey {
	return slices.SortedFunc(maps.Keys(groups), func(a, b groupKey) int {
		x, y := groups[a].pod, groups[b].pod
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), slices.Compare(a.digest[:], b.digest[:]))
	})
}

func find(all map[scan.Workload]*joined, w scan.Workload) *joined {
	j := all[w]
	if j == nil {
		j = &joined{workload: w, specimens: map[digest]*group{}}
		all[w] = j
	}
	return j
}

// add adds pods that look alike. The pod of a specimen is a live one where there is
// one, and one that runs before others.
func (j *joined) add(d digest, g *group) {
	known := j.specimens[d]
	if known == nil {
		copied := *g
		copied.nodes = maps.Clone(g.nodes)
		j.specimens[d] = &copied
		return
	}
	if known.rank() < g.rank() {
		known.pod, known.running = g.pod, g.running
	}
	known.live += g.live
	if known.nodes == nil {
		known.nodes = map[string]bool{}
	}
	maps.Copy(known.nodes, g.nodes)
}

// rank is how well the group's pod stands for a specimen.
func (g *group) rank() int {
	switch {
	case len(g.running) > 0:
		return 3
	case g.live > 0:
		return 2
	case g.pod.Name != "":
		return 1
	}
	return 0
}

// result puts the specimens in order: those with most pods first.
func (j *joined) result() Workload {
	w := Workload{Workload: j.workload}
	for _, d := range slices.SortedFunc(maps.Keys(j.specimens), func(a, b digest) int {
		x, y := j.specimens[a], j.specimens[b]
		return cmp.Or(cmp.Compare(y.live, x.live), cmp.Compare(x.pod.Name, y.pod.Name), slices.Compare(a[:], b[:]))
	}) {
		g := j.specimens[d]
		w.Specimens = append(w.Specimens, Specimen{
			Pod: g.pod, Live: g.live, Nodes: slices.Sorted(maps.Keys(g.nodes)), running: g.running,
		})
	}
	w.Selector = j.selector(w.Specimens)
	return w
}

// selector is what all specimens carry of the labels that the controller selects by,
// else of all labels that are not each pod's own. A Job has at least its name.
func (j *joined) selector(specimens []Specimen) map[string]string {
	if common := carried(j.selects, specimens); j.workload.Kind == "Pod" || len(withoutInstance(common)) > 0 {
		return common
	}
	labels := specimens[0].Pod.Labels
	if common := carried(withoutInstance(labels), specimens); common != nil || j.workload.Kind != "Job" {
		return common
	}
	return carried(map[string]string{labelJob: labels[labelJob]}, specimens)
}

// labelJob is what the pods of a Job carry, by its name.
const labelJob = "batch.kubernetes.io/job-name"

// carried are those of the labels that all specimens carry, nil for none.
func carried(labels map[string]string, specimens []Specimen) map[string]string {
	common := maps.Clone(labels)
	for i := range specimens {
		has := specimens[i].Pod.Labels
		maps.DeleteFunc(common, func(key, value string) bool {
			got, ok := has[key]
			return !ok || got != value
		})
	}
	if len(common) == 0 {
		return nil
	}
	return common
}

// maxInspections is how many containers are looked into at the same time.
const maxInspections = 8

// inspect looks into one running pod of each specimen.
func (r *reader) inspect(ctx context.Context) {
	if r.Inspect == nil {
		return
	}
	paths := r.Paths
	if paths == nil {
		paths = armor.PathsToInspect(nil)
	}
	type place struct {
		specimen  *Specimen
		container string
	}
	var places []place
	for i := range r.inventory.Workloads {
		for k := range r.inventory.Workloads[i].Specimens {
			s := &r.inventory.Workloads[i].Specimens[k]
			for _, name := range s.running {
				places = append(places, place{s, name})
			}
		}
	}
	found, errs := make([]map[string]string, len(places)), make([]error, len(places))
	var looking errgroup.Group
	looking.SetLimit(maxInspections)
	for i, p := range places {
		looking.Go(func() error {
			if errs[i] = ctx.Err(); errs[i] == nil {
				found[i], errs[i] = r.Inspect(ctx, p.specimen.Pod.Namespace, p.specimen.Pod.Name, p.container, paths)
			}
			return nil
		})
	}
	// They keep their errors for themselves: one does not end the others.
	_ = looking.Wait()
	for i, p := range places {
		if err := errs[i]; err != nil {
			pod := &p.specimen.Pod.ObjectMeta
			r.failed("image of "+pod.Namespace+"/"+pod.Name+" "+p.container, pod.Namespace, err, "which programs of the set are in it")
			continue
		}
		if p.specimen.Inspected == nil {
			p.specimen.Inspected = map[string]map[string]string{}
		}
		p.specimen.Inspected[p.container] = found[i]
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
