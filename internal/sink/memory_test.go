package sink_test

import (
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/sink"
)

func TestMemoryForgetsTheFirst(t *testing.T) {
	t.Parallel()
	m := sink.NewMemory[string, int](2)
	m.Put("a", 1)
	m.Put("b", 2)
	m.Put("a", 3)
	m.Put("c", 4)
	for name, want := range map[string]int{"a": 0, "b": 2, "c": 4} {
		if got, known := m.Get(name); got != want || known != (want > 0) {
			t.Errorf("%s is %d, %v; want %d", name, got, known, want)
		}
	}
}
