package armor

import (
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// visitor tells what waits in the queue of an ear.
type visitor struct {
	*ear
	decoder  decoder
	recorder recorder

	dropped, unreadable counted
}

// visit tells the listener what was received until nothing follows.
func (e *ear) visit() {
	v := &visitor{ear: e}
	v.dropped = counted{reason: scan.LostDropped, source: e.target.Address, message: "there were more alerts than could be taken in", tell: v.lost}
	v.unreadable = counted{reason: scan.LostUnreadable, source: e.target.Address, message: "what came could not be read", tell: v.lost}
	tick := time.NewTicker(tellEvery)
	tick.Stop() // Only where a gap is open.
	defer tick.Stop()
	ticking := false
	var items []item
	for done := false; !done; {
		select {
		case <-e.queue.wake:
		case <-tick.C:
		}
		var m missed
		items, m, done = e.queue.take(items)
		v.tell(func(now time.Time) {
			v.dropped.add(m.dropped, now)
			v.unreadable.add(m.unreadable, now)
		})
		for i := range items {
			v.one(&items[i])
			items[i] = item{} // What was told need not be kept until the last one is.
		}
		if cap(items) > maxQueued/4 {
			items = nil
		}
		v.tell(func(now time.Time) {
			v.dropped.tick(now)
			v.unreadable.tick(now)
		})
		if open := v.dropped.open || v.unreadable.open; open && !ticking {
			tick.Reset(tellEvery)
		} else if !open && ticking {
			tick.Stop()
		}
		ticking = v.dropped.open || v.unreadable.open
	}
	v.tell(func(now time.Time) {
		v.dropped.end(now)
		v.unreadable.end(now)
	})
}

// tell does something that calls the listener.
func (v *visitor) tell(do func(now time.Time)) {
	v.telling.Lock()
	defer v.telling.Unlock()
	do(time.Now())
}

func (v *visitor) lost(l scan.Lost) {
	if v.listener.Lost != nil {
		v.listener.Lost(l)
	}
}

func (v *visitor) one(it *item) {
	if it.do != nil {
		v.tell(func(time.Time) { it.do() })
		return
	}
	alert, ok, err := v.decoder.decode(it.message)
	var line []byte
	if ok && v.listener.Raw != nil {
		line, err = v.recorder.record(&v.decoder.message, it.received)
	}
	switch {
	case err != nil:
		var l loss
		l.add(it.received, err.Error())
		v.tell(func(now time.Time) { v.unreadable.add(l, now) })
	case ok:
		v.telling.Lock()
		defer v.telling.Unlock()
		if line != nil {
			v.listener.Raw(line)
		}
		if v.listener.Alert != nil {
			v.listener.Alert(alert)
		}
	}
}
