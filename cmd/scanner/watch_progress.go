package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// drawnEvery is how often the line of a watch that begins is drawn anew. Who begins
// faster sees none.
const drawnEvery = 500 * time.Millisecond

// beginning is the line on a terminal that says how far a watch has come to its first
// picture. All that is written to standard error meanwhile goes through it, so that
// nothing is written into the line.
type beginning struct {
	mu   sync.Mutex
	w    io.Writer
	line *liveLine
	pods int
	over bool
}

// Write implements io.Writer: it wipes the line, which comes again with its time.
func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line.say("")
	return b.w.Write(p)
}

// Handle implements scan.Handler: with the picture the line is gone, before anything of
// it is written.
func (b *beginning) Handle(e scan.Event) error {
	switch {
	case e.Progress != nil:
		b.mu.Lock()
		b.pods = e.Progress.Pods
		b.mu.Unlock()
	case e.Picture != nil:
		b.end()
	}
	return nil
}

// end wipes the line for good.
func (b *beginning) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line.say("")
	b.over = true
}

// begin draws the line from time to time, until the first picture is there or stop is
// called.
func (b *beginning) begin() (stop func()) {
	if b.line.w == nil {
		return b.end
	}
	began, tick, stopped := time.Now(), time.NewTicker(drawnEvery), make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		for {
			select {
			case <-stopped:
				return
			case <-tick.C:
				b.draw(time.Since(began))
			}
		}
	})
	return func() {
		tick.Stop()
		close(stopped)
		drawing.Wait()
		b.end()
	}
}

func (b *beginning) draw(since time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	text := "reading the cluster"
	if b.pods > 0 {
		text = "judging " + counted(b.pods, "pod")
	}
	if s := int(since.Seconds()); s > 0 {
		text += fmt.Sprintf(", %d s", s)
	}
	b.line.say(text)
}
