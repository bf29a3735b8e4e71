package alerts

import (
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// quiet is for how long KubeArmor says nothing of a container that was too loud.
	quiet = 30 * time.Second
	// apart is how far gaps of one kind lie apart at least; nearer ones are one.
	apart = 5 * time.Second
	// mostGaps bounds the gaps that are held. Further ones are joined by their reason.
	mostGaps = 1000
)

const (
	throttledMessage = "KubeArmor keeps quiet about the container for 30 s, as it raised too many alerts: what was done there in that time is not known"
	droppedMessage   = "more different alerts were raised than can be told"
	manyMessage      = "there were too many gaps to tell of each"
)

// gapKey says what gaps have in common that are told as one.
type gapKey struct {
	reason                          scan.LostReason
	id, source                      string
	workload                        scan.Workload
	namespace, node, pod, container string
	// from tells gaps of a connection apart: each has a beginning and an end.
	from int64
}

// named tells whether the gap is one that its source knows by name, or by when it began.
func (k *gapKey) named() bool { return k.id != "" || k.from != 0 }

// gap is a time of which alerts are missing.
type gap struct {
	key gapKey
	seq uint64
	scan.Lost
	// namespace is that of the pod.
	namespace string
	// dirty: it is other than it was told. toldAt is when it was told.
	dirty  bool
	toldAt time.Time
}

// droppedSpan is what was dropped since it was told.
type droppedSpan struct {
	alerts   uint64
	from, to time.Time
}

func (s *droppedSpan) add(n uint64, first, last time.Time) {
	if s.alerts == 0 || first.Before(s.from) {
		s.from = first
	}
	if last.After(s.to) {
		s.to = last
	}
	s.alerts += n
}

func (s *droppedSpan) lost() scan.Lost {
	return scan.Lost{Reason: scan.LostDropped, From: s.from, To: s.to, Alerts: int(s.alerts), Message: droppedMessage}
}

// gapBook holds the gaps that may still change or are not told.
type gapBook struct {
	gaps  map[gapKey]*gap
	order []*gap
	ids   idBook
}

func newGapBook() gapBook { return gapBook{gaps: map[gapKey]*gap{}, ids: newIDBook()} }

// throttled takes in that KubeArmor says no more of a container.
func (f *Folder) throttled(a *armor.Alert, seen time.Time) {
	from := usable(a.Time, seen)
	w := workloadOf(a, f.options.Cluster)
	w.Namespace, w.Kind, w.Name = cut(w.Namespace, longText), cut(w.Kind, shortText), cut(w.Name, longText)
	l := scan.Lost{
		Reason: scan.LostThrottled, From: from, To: from.Add(quiet), Workload: &w,
		Node: cut(a.Node, longText), Pod: cut(a.Pod, longText), Container: cut(a.Container, longText), Message: throttledMessage,
	}
	pack(&w.Namespace, &w.Kind, &w.Name, &l.Node, &l.Pod, &l.Container)
	f.seq++
	f.gaps.put(l, w.Namespace, f.seq)
}

func (b *gapBook) put(l scan.Lost, namespace string, seq uint64) {
	key := gapKey{reason: l.Reason, id: l.ID, source: l.Source, namespace: namespace, node: l.Node, pod: l.Pod, container: l.Container}
	if l.Workload != nil {
		key.workload = *l.Workload
	}
	if l.Reason == scan.LostDeaf {
		key.from = l.From.UnixNano()
	}
	had := b.gaps[key]
	// Those of a stream have names, and are few: it has one of a kind at a time.
	if had == nil && len(b.gaps) >= mostGaps && l.ID == "" {
		key = gapKey{reason: l.Reason}
		l.Source, l.Node, l.Pod, l.Container, l.Workload = "", "", "", "", nil
		l.Message = manyMessage
		namespace = ""
		had = b.gaps[key]
	}
	if had != nil && (key.named() || had.near(l)) {
		had.extend(l)
		return
	}
	g := &gap{key: key, seq: seq, Lost: l, namespace: namespace, dirty: true}
	if g.ID == "" {
		g.ID = b.ids.of([]string{string(l.Reason), l.Source, namespace, l.Node, l.Pod, l.Container}, l.From, 4*mostGaps)
	}
	b.gaps[key] = g
	b.order = append(b.order, g)
}

// near reports whether another gap of the kind begins before this one is long over.
func (g *gap) near(l scan.Lost) bool {
	return g.To.IsZero() || !l.From.After(g.To.Add(apart)) && !l.From.Before(g.From.Add(-apart))
}

// extend takes in another gap, or the newer word on this one.
func (g *gap) extend(l scan.Lost) {
	g.dirty = true
	if g.key.named() {
		// The whole of it is told each time, and its count is no addition.
		g.To, g.Alerts, g.Message = l.To, l.Alerts, l.Message
		return
	}
	if l.From.Before(g.From) {
		g.From = l.From
	}
	if l.To.After(g.To) || l.To.IsZero() {
		g.To = l.To
	}
	g.Alerts += l.Alerts
	if l.Message != "" {
		g.Message = l.Message
	}
}

// due takes what is to be told of, and forgets what will not change any more.
func (b *gapBook) due(now time.Time, all bool, o Options) []telling {
	var due []telling
	kept := b.order[:0]
	for _, g := range b.order {
		current := b.gaps[g.key] == g
		// What was replaced is told at once and for the last time, and an end is no repeat.
		if g.dirty && (all || !current || g.toldAt.IsZero() || g.key.from != 0 || now.Sub(g.toldAt) >= o.Window) {
			g.dirty, g.toldAt = false, now
			due = append(due, telling{seq: g.seq, gap: g, lost: g.Lost})
		}
		switch {
		case g.dirty, current && !all && (g.To.IsZero() || now.Sub(g.toldAt) < quiet+apart):
			kept = append(kept, g)
		case current:
			delete(b.gaps, g.key)
		}
	}
	clear(b.order[len(kept):])
	b.order = kept
	return due
}

// giveBack is a gap that could not be told.
func (b *gapBook) giveBack(g *gap) {
	g.dirty, g.toldAt = true, time.Time{}
	if slices.Contains(b.order, g) {
		return
	}
	b.order = append(b.order, g)
	if b.gaps[g.key] == nil {
		b.gaps[g.key] = g
	}
}

// told is a gap as it is told: its workload as it is known now.
func (t *telling) told(place Places) *scan.Lost {
	l := t.lost
	if l.Pod != "" {
		if where, known := place(t.gap.namespace, l.Pod); known {
			l.Workload = &where.Workload
		}
	}
	return &l
}
