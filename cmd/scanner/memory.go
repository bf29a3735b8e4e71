package main

import (
	"os"
	"runtime/debug"
)

// watchGC has memory collected when it has grown by half, and not by as much again: what
// runs for weeks beside others takes less of it, for some CPU time in a storm. Who has
// set GOGC knows better.
const watchGC = 50

func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(watchGC)
	}
}
