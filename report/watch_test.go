package report

import (
	"bytes"
	"fmt"
	"testing"
)

// watchLog is what the log of a watch says of a story, flushed after each batch.
func watchLog(t testing.TB, opts WatchTextOptions, s *story) string {
	t.Helper()
	var out bytes.Buffer
	h := NewWatchText(&out, opts)
	for i, e := range s.events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
		if s.batches[i+1] {
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.String()
}

func TestX(t *testing.T) {
	fmt.Println(watchLog(t, WatchTextOptions{Width: 120}, watchStory()))
}
