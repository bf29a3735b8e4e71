package alerts

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// containerKey says where something was done.
type containerKey struct{ node, namespace, pod, container string }

// foldKey is what repeats of an alert have in common. Long texts are there by their
// beginnings and ends.
type foldKey struct {
	containerKey
	operation, policy          string
	program, programEnd        string
	resource, resourceEnd      string
	blocked, orphan, byRuntime bool
	// kind is set where different deeds of a container were joined.
	kind string
}

func keyOf(a *armor.Alert) foldKey {
	k := foldKey{
		containerKey: containerKey{ends(a.Node, longText), ends(a.Namespace, longText), ends(a.Pod, longText), ends(a.Container, longText)},
		operation:    ends(a.Operation, shortText), policy: ends(a.Policy, longText),
		blocked: blocked(a), orphan: a.Parent == "", byRuntime: runtimeAlike(a.Parent),
	}
	k.program, k.programEnd = halves(a.Process)
	switch a.Operation {
	case operationProcess:
		// The command line is as the caller likes it, except where it alone says what was run.
		if manyNamed(base(a.Process)) {
			k.resource = ends(nameOf(a), shortText)
		}
	case operationCapability:
		k.resource = ends(a.Resource, shortText)
		if manyNamed(base(a.Process)) {
			k.resourceEnd = ends(nameOf(a), shortText)
		}
	default:
		k.resource, k.resourceEnd = halves(a.Resource)
	}
	return k
}

// fields are the key's, for an ID.
func (k foldKey) fields() []string {
	all := []string{k.node, k.namespace, k.pod, k.container, k.operation, k.policy, k.program, k.programEnd, k.resource, k.resourceEnd, k.kind}
	for _, flag := range []bool{k.blocked, k.orphan, k.byRuntime} {
		all = append(all, strconv.FormatBool(flag))
	}
	return all
}

// texts are those of the key.
func (k *foldKey) texts() []*string {
	return []*string{&k.node, &k.namespace, &k.pod, &k.container, &k.operation, &k.policy, &k.program, &k.programEnd, &k.resource, &k.resourceEnd, &k.kind}
}

// joined is the key for a container that has too many: deeds of one kind, whichever
// programs and files they were.
func (k foldKey) joined(a *armor.Alert) foldKey {
	d := deedOf(a)
	kind := string(d.class) + "/" + string(d.step) + "/" + string(d.by.step)
	if d.dual {
		kind += "/dual"
	}
	if d.scratch {
		kind += "/scratch"
	}
	if d.runtime {
		kind += "/runtime"
	}
	j := foldKey{containerKey: k.containerKey, operation: k.operation, blocked: k.blocked, orphan: k.orphan, byRuntime: k.byRuntime, kind: kind}
	if known(d.capability) {
		j.resource = d.capability
	}
	return j
}

// ends bounds a name that is not chosen freely.
func ends(text string, most int) string {
	if len(text) > most {
		return text[:most]
	}
	return text
}

// halves are the beginning and the end of a text that is too long to be kept.
func halves(text string) (beginning, end string) {
	if len(text) <= longText {
		return text, ""
	}
	return text[:longText/2], text[len(text)-longText/2:]
}

// fold is one deed, as often as it was done.
type fold struct {
	key foldKey
	seq uint64
	id  string
	// sample is the first of its alerts, with texts cut, and deed what it tells of.
	sample armor.Alert
	deed   deed
	// count is how often, told how much of that was told, toldAt when.
	count, told uint64
	toldAt      time.Time
	// first and last are by the node's clock.
	first, last time.Time
	// flushed is the count at the last Flush, grew the last Flush that saw it grow: the
	// alerts of a recording are of another time.
	flushed uint64
	grew    time.Time
	// judged is how it was told first as an incident of a place that was known: what
	// becomes of the place later takes nothing of it back.
	judged *scan.Alert
	// astray: it was told without a place. closed: it takes no more.
	astray, closed bool
	older, newer   *fold
}

func newFold(key foldKey, a *armor.Alert, at time.Time) *fold {
	d := &fold{key: key, count: 1, first: at, last: at}
	d.sample = armor.Alert{
		Time: at, Node: cut(a.Node, longText), Namespace: cut(a.Namespace, longText), Pod: cut(a.Pod, longText), Container: cut(a.Container, longText),
		OwnerKind: cut(a.OwnerKind, shortText), OwnerName: cut(a.OwnerName, longText),
		Type: cut(a.Type, shortText), Operation: cut(a.Operation, shortText), Policy: cut(a.Policy, longText),
		Action: cut(a.Action, shortText), Result: cut(a.Result, shortText), Enforcer: cut(a.Enforcer, shortText),
		Resource: cutBoth(a.Resource), Process: cutBoth(a.Process), Parent: cutBoth(a.Parent), Command: cut(a.Command, shortText),
	}
	d.deed = deedOf(a)
	if d.key.kind != "" && a.Operation == operationFile && d.deed.step == "" {
		// Which of the files it was is not known any more.
		d.deed.file, d.sample.Resource = "", ""
	}
	d.deed.name, d.deed.file, d.deed.capability = cut(d.deed.name, shortText), cutBoth(d.deed.file), cut(d.deed.capability, shortText)
	s := &d.sample
	pack(append(d.key.texts(), &s.Node, &s.Namespace, &s.Pod, &s.Container, &s.OwnerKind, &s.OwnerName, &s.Type, &s.Operation, &s.Policy, &s.Action,
		&s.Result, &s.Enforcer, &s.Resource, &s.Process, &s.Parent, &s.Command, &d.deed.name, &d.deed.file, &d.deed.capability)...)
	return d
}

// alert is the fold as it is told, without its numbers.
func (d *fold) alert(place *scan.Place, cluster string) *scan.Alert {
	a := &d.sample
	w := weigh(a, d.deed, place)
	out := &scan.Alert{
		ID: d.id, Class: d.deed.class, Incident: w.Incident, Severity: w.Severity, Reason: w.Reason,
		Blocked: d.deed.blocked, Techniques: slices.Clone(d.deed.techniques),
		Workload: workloadOf(a, cluster), Paths: w.Paths,
		Node: a.Node, Pod: a.Pod, Container: a.Container,
		Operation: a.Operation, Policy: a.Policy, Action: a.Action, Result: a.Result, Enforcer: a.Enforcer,
		Resource: a.Resource, Process: a.Process, Parent: a.Parent,
	}
	if place != nil {
		out.Workload, out.Claims = place.Workload, place.Claims
		if place.Verdict != nil {
			out.Verdict = place.Verdict.Verdict
		}
	}
	if d.key.kind != "" {
		out.Reason += joinedReason
	}
	switch {
	case out.Incident && place != nil && d.judged == nil:
		d.judged = out
	case !out.Incident && d.judged != nil:
		was := *d.judged
		out = &was
	}
	return out
}

// joinedReason ends the reason of a fold of different deeds.
const joinedReason = "; others of this kind are counted with it, as the container raises too many different ones"

// workloadOf is the workload as KubeArmor names it.
func workloadOf(a *armor.Alert, cluster string) scan.Workload {
	w := scan.Workload{Cluster: cluster, Namespace: a.Namespace, Kind: a.OwnerKind, Name: a.OwnerName}
	switch {
	case a.Pod == "" && a.Namespace == "":
		w.Kind, w.Name = "Node", a.Node
	case w.Kind == "" || w.Name == "":
		w.Kind, w.Name = "Pod", a.Pod
	}
	return w
}

// foldList keeps folds by their latest alert.
type foldList struct{ first, last *fold }

func (l *foldList) oldest() *fold { return l.first }

func (l *foldList) touch(d *fold) {
	if l.last == d {
		return
	}
	l.remove(d)
	d.older = l.last
	if l.last != nil {
		l.last.newer = d
	} else {
		l.first = d
	}
	l.last = d
}

func (l *foldList) remove(d *fold) {
	if d.older != nil {
		d.older.newer = d.newer
	} else if l.first == d {
		l.first = d.newer
	}
	if d.newer != nil {
		d.newer.older = d.older
	} else if l.last == d {
		l.last = d.older
	}
	d.older, d.newer = nil, nil
}

// idBook gives out IDs: by what a fold is and when it began, so that a replay and another
// replica come to the same, and never one twice.
type idBook struct {
	given map[string]uint64
	text  []byte
	// era is counted on when the book is full and begun anew.
	era uint64
}

func newIDBook() idBook { return idBook{given: map[string]uint64{}} }

// of is the ID of what the fields say and what began at a time. The book holds at most
// the last most of them.
func (b *idBook) of(fields []string, at time.Time, most int) string {
	b.text = binary.BigEndian.AppendUint64(b.text[:0], b.era)
	b.text = binary.BigEndian.AppendUint64(b.text, uint64(at.UnixNano()))
	for _, field := range fields {
		b.text = binary.AppendUvarint(b.text, uint64(len(field)))
		b.text = append(b.text, field...)
	}
	sum := sha256.Sum256(b.text)
	id := hex.EncodeToString(sum[:10])
	b.given[id]++
	if n := b.given[id]; n > 1 {
		return id + "-" + strconv.FormatUint(n, 10)
	}
	if len(b.given) > most {
		clear(b.given)
		b.era++
	}
	return id
}
