package scan

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// trackedCohort is a cohort whose groups come and go, and what is known of its owner.
type trackedCohort struct {
	key    cohort
	groups map[*trackedGroup]bool
	// shares are its part of the result, as it was found last.
	shares []share
	// resolved is true where workload and claims are those of the owner as it is now;
	// looked are the objects that were asked for, failed those that could not be read.
	resolved bool
	workload Workload
	claims   string
	looked   []ownerName
	failed   map[ownerScope]error
}

// trackedRow is a row of the result.
type trackedRow struct {
	ref RowRef
	// cohorts counts the groups in it by cohort.
	cohorts map[*trackedCohort]int
	// now is what holds, told what was told of it.
	now, told rowFacts
	// counted is since when the counts that hold are other than told, zero where they
	// are not.
	counted time.Time
	// moved is true where a group went from it to another row.
	moved bool
	// policies is what policies do to it, used counts its findings by exception.
	policies []policyPart
	used     []int
}

// rowFacts are what is said of a row.
type rowFacts struct {
	findings []namedFinding
	verdict  *WorkloadVerdict
}

// namedFinding is a finding with its fingerprint.
type namedFinding struct {
	print   string
	finding *Finding
}

// joinGroup puts a new group into its cohort.
func (t *Tracker) joinGroup(g *trackedGroup) {
	co := t.cohorts[g.key.cohort]
	if co == nil {
		co = &trackedCohort{key: g.key.cohort, groups: map[*trackedGroup]bool{}}
		t.cohorts[co.key] = co
	}
	g.cohort = co
	co.groups[g] = true
	t.unjoined[co] = true
}

// dropGroup takes a group without pods out of all that knows it.
func (t *Tracker) dropGroup(g *trackedGroup) {
	delete(t.groups, g.key)
	delete(g.cohort.groups, g)
	t.unjoined[g.cohort] = true
	t.leaveRow(g)
	if t.digests[g.key.digest]--; t.digests[g.key.digest] == 0 {
		// Another pod of the same changes may look so: what was judged goes later.
		delete(t.digests, g.key.digest)
		t.idle[g.key.digest] = true
	}
}

func (t *Tracker) leaveRow(g *trackedGroup) {
	if g.row == nil {
		return
	}
	if g.row.cohorts[g.cohort]--; g.row.cohorts[g.cohort] == 0 {
		delete(g.row.cohorts, g.cohort)
	}
	t.mark(g.row, urgentOwn)
	g.row = nil
}

// touch says that a group is other than it was.
func (t *Tracker) touch(g *trackedGroup) {
	g.touched = true
	t.unjoined[g.cohort] = true
}

// mark says that a row is to be judged again, and how soon.
func (t *Tracker) mark(row *trackedRow, u urgency) {
	if row == nil {
		return
	}
	was, dirty := t.dirty[row]
	if dirty && was >= u {
		return
	}
	if u > urgentLater && (!dirty || was == urgentLater) {
		t.pressing++
	}
	t.dirty[row] = u
}

// clean says that a row is judged.
func (t *Tracker) clean(row *trackedRow) {
	if t.dirty[row] > urgentLater {
		t.pressing--
	}
	delete(t.dirty, row)
}

// joinCohorts finds the rows of the cohorts that changed.
func (t *Tracker) joinCohorts(ctx context.Context) {
	for _, co := range slices.SortedFunc(maps.Keys(t.unjoined), func(a, b *trackedCohort) int { return compareCohorts(a.key, b.key) }) {
		delete(t.unjoined, co)
		if len(co.groups) == 0 {
			t.unresolve(co)
			delete(t.unjoined, co)
			if t.cohorts[co.key] == co {
				delete(t.cohorts, co.key)
			}
			continue
		}
		t.joinCohort(ctx, co)
	}
}

func (t *Tracker) joinCohort(ctx context.Context, co *trackedCohort) {
	groups := make([]*group, 0, len(co.groups))
	for g := range co.groups {
		g.recount()
		groups = append(groups, &g.group)
	}
	co.shares = shares(t.start.Cluster, co.key, groups, func(ref *metav1.OwnerReference) (Workload, string) {
		t.resolve(ctx, co, ref)
		return co.workload, co.claims
	})
	for _, s := range co.shares {
		g := t.groups[s.group.key]
		if row := t.row(s.row); g.row != row {
			if g.row != nil {
				g.row.moved = true
			}
			t.leaveRow(g)
			g.row, row.moved = row, false
			row.cohorts[co]++
			t.mark(row, urgentOwn)
		} else if g.touched {
			t.mark(row, urgentOwn)
		}
		g.touched = false
	}
}

// recount finds the first and the oldest pod of the group where they may be others.
func (g *trackedGroup) recount() {
	if !g.aged {
		return
	}
	g.aged = false
	none := true
	for name, p := range g.pods {
		if none || name < g.first {
			g.first = name
		}
		if none || p.created.Before(g.oldest) {
			g.oldest = p.created
		}
		none = false
	}
}

func (t *Tracker) row(ref RowRef) *trackedRow {
	row := t.rows[ref]
	if row == nil {
		row = &trackedRow{ref: ref, cohorts: map[*trackedCohort]int{}}
		t.rows[ref] = row
	}
	return row
}

// resolve follows the owners of a cohort's pods, unless they are as they were.
func (t *Tracker) resolve(ctx context.Context, co *trackedCohort, ref *metav1.OwnerReference) {
	if co.resolved {
		return
	}
	index := newOwnerIndex(listedOwners{t.mirror, t.reading.everywhere()}, t.reading.everywhere())
	co.workload, co.claims = index.workload(ctx, co.key.namespace, ref, co.key.hash)
	co.resolved, co.failed = true, index.failed
	if len(co.failed) > 0 {
		t.failing[co] = true
	}
	for name := range index.single {
		co.looked = append(co.looked, name)
		if t.owners[name] == nil {
			t.owners[name] = map[*trackedCohort]bool{}
		}
		t.owners[name][co] = true
	}
}

// listedOwners reads owners one by one, as far as a scan would read them so: of the kinds
// that it lists, none is known where the list could not be read.
type listedOwners struct {
	OwnerReader
	everywhere bool
}

// errEnough ends a list of which nothing but its error is asked.
var errEnough = errors.New("enough")

// Owner implements OwnerReader.
func (l listedOwners) Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (Owner, error) {
	if listed(kind) {
		scope := namespace
		if l.everywhere {
			scope = ""
		}
		if err := l.unlisted(ctx, scope, kind); err != nil {
			return Owner{}, err
		}
	}
	return l.OwnerReader.Owner(ctx, namespace, kind, name)
}

// unlisted is why the owners of a kind cannot be listed, nil where they can.
func (l listedOwners) unlisted(ctx context.Context, namespace string, kind schema.GroupVersionKind) error {
	if quick, ok := l.OwnerReader.(interface {
		OwnersUnread(ctx context.Context, namespace string, kind schema.GroupVersionKind) error
	}); ok {
		return quick.OwnersUnread(ctx, namespace, kind)
	}
	err := l.Owners(ctx, namespace, kind, func([]Owner) error { return errEnough })
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// unresolve forgets the owners of a cohort's pods.
func (t *Tracker) unresolve(co *trackedCohort) {
	for _, name := range co.looked {
		if delete(t.owners[name], co); len(t.owners[name]) == 0 {
			delete(t.owners, name)
		}
	}
	delete(t.failing, co)
	co.resolved, co.looked, co.failed = false, nil, nil
	t.unjoined[co] = true
}

// updateOwners takes in owners that may be others.
func (t *Tracker) updateOwners(c *Changes) {
	for _, o := range c.Owners {
		for co := range maps.Clone(t.owners[ownerName{o.Kind, o.Namespace, o.Name}]) {
			t.unresolve(co)
		}
	}
	if len(c.OwnerKinds) == 0 {
		return
	}
	for name, cohorts := range maps.Clone(t.owners) {
		if slices.Contains(c.OwnerKinds, name.kind) {
			for co := range maps.Clone(cohorts) {
				t.unresolve(co)
			}
		}
	}
}

// tellRows judges rows, the most urgent first, until so many groups were
// judged, and tells what is other.
func (t *Tracker) tellRows(ctx context.Context, budget int) error {
	rows := slices.SortedFunc(maps.Keys(t.dirty), func(a, b *trackedRow) int {
		return cmp.Or(cmp.Compare(t.dirty[b], t.dirty[a]), RowRef.Compare(a.ref, b.ref))
	})
	var groups []*trackedGroup
	n := 0
	for n < len(rows) && (n == 0 || len(groups) < budget) {
		groups = slices.AppendSeq(groups, rows[n].groups(t))
		n++
	}
	rows = rows[:n]
	answered := t.ask(ctx, groups)
	if err := ctx.Err(); err != nil {
		return err
	}
	t.judge.layers.prepare(func(yield func(*group) bool) {
		for _, g := range groups {
			if !yield(&g.group) {
				return
			}
		}
	}, t.judge.judged)
	built := make([]*builtRow, len(rows))
	parallel(len(rows), func(i int) { built[i] = t.build(rows[i], answered) })
	for i, row := range rows {
		t.clean(row)
		if built[i] == nil {
			// A pod of it goes, or has gone: the mirror is ahead, and will say so.
			continue
		}
		t.takeBuilt(row, built[i])
		if err := t.tellRow(row); err != nil {
			return err
		}
	}
	return nil
}

// groups are those of a row, in the order of a scan.
func (row *trackedRow) groups(t *Tracker) func(yield func(*trackedGroup) bool) {
	return func(yield func(*trackedGroup) bool) {
		for _, co := range slices.SortedFunc(maps.Keys(row.cohorts), func(a, b *trackedCohort) int { return compareCohorts(a.key, b.key) }) {
			for _, s := range co.shares {
				if s.row != row.ref {
					continue
				}
				if g := t.groups[s.group.key]; g != nil && g.row == row && !yield(g) {
					return
				}
			}
		}
	}
}

// ask asks admission about the first pod of each group, where it was not asked about it.
// It tells for which groups there is an answer.
func (t *Tracker) ask(ctx context.Context, groups []*trackedGroup) map[*trackedGroup]bool {
	there := make([]bool, len(groups))
	parallel(len(groups), func(i int) {
		g := groups[i]
		if g.admitted != nil && !g.check {
			there[i] = true
			return
		}
		pod := t.mirror.Pod(g.key.namespace, g.first)
		if pod == nil {
			return
		}
		there[i] = true
		asked := askedOf(pod)
		if g.admitted == nil || asked != g.asked {
			g.admitted = t.judge.door.decide(ctx, pod, g.key.digest, t.judge.judged[g.key.digest])
		}
		g.asked, g.check = asked, false
	})
	answered := make(map[*trackedGroup]bool, len(groups))
	for i, g := range groups {
		answered[g] = there[i]
	}
	return answered
}

// askedOf is the digest of all that admission can read of a pod.
func askedOf(pod *corev1.Pod) Digest {
	raw, err := asCreated(pod).Marshal()
	if err != nil {
		// As for the digest of a trimmed pod.
		panic("digest of a pod: " + err.Error())
	}
	return sha256.Sum256(raw)
}

// builtRow is a row as it is now.
type builtRow struct {
	rowFacts
	policies []policyPart
	used     []int
}

// build makes a row by the code of a scan. It is nil where admission could not be asked.
func (t *Tracker) build(row *trackedRow, answered map[*trackedGroup]bool) *builtRow {
	made := &builtRow{}
	if len(row.cohorts) == 0 {
		return made
	}
	r := newRows(row.ref.Workload, row.ref.Claims)
	for g := range row.groups(t) {
		if !answered[g] {
			return nil
		}
		r.take(&g.group, t.judge.judged[g.key.digest], t.judge.layers)
	}
	var findings []*Finding
	// Appending cannot fail.
	_ = r.emit(nil, t.reading.finish(r), t.rules, HandlerFunc(func(e Event) error {
		if e.Verdict != nil {
			made.verdict = e.Verdict
		}
		if e.Finding != nil {
			findings = append(findings, e.Finding)
		}
		return nil
	}))
	made.policies = r.policyParts(t.rules)
	made.used, made.findings = t.marked(findings)
	return made
}

// marked marks what exceptions cover. Of findings with one fingerprint the last stays.
func (t *Tracker) marked(findings []*Finding) (used []int, named []namedFinding) {
	used = make([]int, len(t.marker.exceptions))
	at := make(map[string]int, len(findings))
	for _, f := range findings {
		f = t.marker.mark(f, used)
		n := namedFinding{f.Fingerprint(), f}
		if i, ok := at[n.print]; ok {
			named[i] = n
			continue
		}
		at[n.print] = len(named)
		named = append(named, n)
	}
	return used, named
}

func (t *Tracker) takeBuilt(row *trackedRow, b *builtRow) {
	if !slices.Equal(row.used, b.used) || !reflect.DeepEqual(row.policies, b.policies) {
		t.wholeDirty = true
	}
	row.now, row.policies, row.used = b.rowFacts, b.policies, b.used
}
