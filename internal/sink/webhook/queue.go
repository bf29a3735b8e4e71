package webhook

import "container/list"

// item is an event that waits.
type item struct {
	// number is its place in the order of the stream.
	number uint64
	rank   rank
	body   []byte
	// name, where it is set, is the same for events of which the later takes the place
	// of the earlier.
	name string
}

// queue keeps events in their order. It is full by number or by bytes: then the oldest
// of the least important goes.
type queue struct {
	most, mostBytes int

	next          uint64
	length, bytes int
	// lists are the events by rank, each in the order of the stream.
	lists [ranks]*list.List
	named map[string]*list.Element
}

func newQueue(most, mostBytes int) *queue {
	q := &queue{most: most, mostBytes: mostBytes, named: map[string]*list.Element{}}
	for r := range q.lists {
		q.lists[r] = list.New()
	}
	return q
}

// put adds an event and says how many had to go, which may be this one.
func (q *queue) put(i item) (dropped int) {
	i.number = q.next
	q.next++
	if old := q.named[i.name]; i.name != "" && old != nil {
		// Told anew before it was sent: one event, at the place of the first.
		i.number = old.Value.(*item).number
		if was := old.Value.(*item); was.rank == i.rank {
			q.bytes += len(i.body) - len(was.body)
			*was = i
			return q.shrink()
		}
		q.remove(old)
	}
	q.insert(i)
	return q.shrink()
}

// insert keeps the order: only one that takes the place of another comes not last.
func (q *queue) insert(i item) {
	of := q.lists[i.rank]
	at := of.Back()
	for at != nil && at.Value.(*item).number > i.number {
		at = at.Prev()
	}
	var e *list.Element
	if at == nil {
		e = of.PushFront(&i)
	} else {
		e = of.InsertAfter(&i, at)
	}
	if i.name != "" {
		q.named[i.name] = e
	}
	q.length++
	q.bytes += len(i.body)
}

func (q *queue) remove(e *list.Element) item {
	i := e.Value.(*item)
	q.lists[i.rank].Remove(e)
	if i.name != "" {
		delete(q.named, i.name)
	}
	q.length--
	q.bytes -= len(i.body)
	return *i
}

func (q *queue) shrink() (dropped int) {
	for q.length > q.most || q.bytes > q.mostBytes {
		for _, of := range q.lists {
			if first := of.Front(); first != nil {
				q.remove(first)
				dropped++
				break
			}
		}
	}
	return dropped
}

// first is the earliest event of all, nil where there is none.
func (q *queue) first() *list.Element {
	var first *list.Element
	for _, of := range q.lists {
		if e := of.Front(); e != nil && (first == nil || e.Value.(*item).number < first.Value.(*item).number) {
			first = e
		}
	}
	return first
}

// ready tells whether a batch should be sent without waiting for more.
func (q *queue) ready(most, mostBytes int) bool {
	return q.length >= most || q.bytes >= mostBytes || q.lists[rankIncident].Len() > 0
}

// take removes what goes into one batch: the earliest, at least one.
func (q *queue) take(most, mostBytes int) (bodies [][]byte) {
	bytes := 0
	for len(bodies) < most {
		e := q.first()
		if e == nil {
			break
		}
		size := len(e.Value.(*item).body)
		if len(bodies) > 0 && bytes+size > mostBytes {
			break
		}
		bytes += size
		bodies = append(bodies, q.remove(e).body)
	}
	return bodies
}

// clear empties the queue and says how many were in it.
func (q *queue) clear() int {
	n := q.length
	for r := range q.lists {
		q.lists[r].Init()
	}
	clear(q.named)
	q.length, q.bytes = 0, 0
	return n
}
