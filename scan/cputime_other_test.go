//go:build !unix

package scan

import "time"

// cpuTime is not known here: the benchmarks report the time on the clock only.
func cpuTime() time.Duration { return 0 }
