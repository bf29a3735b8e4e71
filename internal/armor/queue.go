package armor

import (
	"sync"
	"time"
)

// maxQueued and maxQueuedBytes bound what waits for the visitor. As much again may be in
// its hands.
const (
	maxQueued      = 32 << 10
	maxQueuedBytes = 16 << 20
)

// item is a message as it came, or something to be done between two of them.
type item struct {
	message  []byte
	received time.Time
	do       func()
}

// loss counts alerts that are missing, and when the first and the last of them were
// missed.
type loss struct {
	alerts      int
	first, last time.Time
	why         string
}

func (l *loss) add(at time.Time, why string) {
	if l.alerts == 0 {
		l.first, l.why = at, why
	}
	l.alerts++
	l.last = at
}

// missed is what was received and is told as missing only.
type missed struct{ dropped, unreadable loss }

// queue stands between who receives and who visits, so that the first never waits.
type queue struct {
	mu     sync.Mutex
	items  []item
	alerts int
	bytes  int
	missed missed
	closed bool
	// wake holds a token when there is something to take.
	wake chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// push adds a message, or drops it where there are too many.
func (q *queue) push(message []byte) {
	now := time.Now()
	q.mu.Lock()
	if q.alerts == maxQueued || q.bytes+len(message) > maxQueuedBytes {
		q.missed.dropped.add(now, "")
	} else {
		q.items = append(q.items, item{message: message, received: now})
		q.alerts++
		q.bytes += len(message)
	}
	q.mu.Unlock()
	q.rouse()
}

// unread counts a message that could not be received.
func (q *queue) unread(why error) {
	q.mu.Lock()
	q.missed.unreadable.add(time.Now(), why.Error())
	q.mu.Unlock()
	q.rouse()
}

// then has something done after what is there.
func (q *queue) then(do func()) {
	q.mu.Lock()
	q.items = append(q.items, item{do: do})
	q.mu.Unlock()
	q.rouse()
}

// close says that nothing more comes.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.rouse()
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives all that is there, in exchange for room for more, and what was missed
// since. done is true when nothing follows.
func (q *queue) take(room []item) (items []item, m missed, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, m, done = q.items, q.missed, q.closed
	q.items, q.alerts, q.bytes, q.missed = room[:0], 0, 0, missed{}
	return items, m, done
}
