package webhook

import (
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
)

const sinkName = "webhook"

// sayEvery is how often it is said that events are given up.
const sayEvery = 10 * time.Second

// teller calls Notify, one call at a time and never from Handle.
type teller struct {
	notify func(sink.Notice)

	mu      sync.Mutex
	notices []sink.Notice
	lost    int
	// err is what was wrong last, nil where it works.
	err      error
	wake     chan struct{}
	finished chan struct{}
}

func newTeller(notify func(sink.Notice)) *teller {
	return &teller{notify: notify, wake: make(chan struct{}, 1), finished: make(chan struct{})}
}

// dropped says that events were given up: soon, together with others.
func (t *teller) dropped(n int) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	t.lost += n
	t.mu.Unlock()
	t.call()
}

// trouble says what is wrong, once as long as it is the same, and nil when it is over.
func (t *teller) trouble(err error) {
	t.mu.Lock()
	news := (err == nil) != (t.err == nil) || err != nil && err.Error() != t.err.Error()
	if news {
		t.err = err
		t.notices = append(t.notices, sink.Notice{Sink: sinkName, Err: err})
	}
	t.mu.Unlock()
	if news {
		t.call()
	}
}

func (t *teller) call() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run tells until end is called, then what is left.
func (t *teller) run() {
	var next <-chan time.Time
	for {
		select {
		case <-t.finished:
			t.say(true)
			return
		case <-next:
			next = nil
		case <-t.wake:
		}
		if t.say(next == nil) {
			next = time.After(sayEvery)
		}
	}
}

func (t *teller) end() { close(t.finished) }

// say tells of trouble and, where it is time for that, how many were given up.
func (t *teller) say(lost bool) (saidLost bool) {
	t.mu.Lock()
	notices := t.notices
	t.notices = nil
	if lost && t.lost > 0 {
		saidLost = true
		notices = append(notices, sink.Notice{Sink: sinkName, Err: t.err, Dropped: t.lost})
		t.lost = 0
	}
	t.mu.Unlock()
	if t.notify != nil {
		for _, n := range notices {
			t.notify(n)
		}
	}
	return saidLost
}
