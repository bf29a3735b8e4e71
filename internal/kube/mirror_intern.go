package kube

import (
	"crypto/sha256"
	"runtime"
	"sync"
	"weak"
)

// intern keeps one of each value that is in use, told apart by their encodings. What
// nobody holds any more is let go: over days nothing piles up.
type intern[T any] struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]weak.Pointer[T]
}

// one is the value under an encoding: the one that is in use already, or fresh.
func (in *intern[T]) one(encoded []byte, fresh *T) *T {
	key := sha256.Sum256(encoded)
	in.mu.Lock()
	defer in.mu.Unlock()
	if known := in.by[key].Value(); known != nil {
		return known
	}
	if in.by == nil {
		in.by = map[[sha256.Size]byte]weak.Pointer[T]{}
	}
	in.by[key] = weak.Make(fresh)
	runtime.AddCleanup(fresh, in.drop, key)
	return fresh
}

// drop forgets a value that nobody holds, unless an equal one took its place.
func (in *intern[T]) drop(key [sha256.Size]byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.by[key].Value() == nil {
		delete(in.by, key)
	}
}
