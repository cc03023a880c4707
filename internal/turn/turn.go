// Package turn lets the scheduler in where a goroutine makes system calls without end.
//
//	system call, Step, system call, Step, ... 4 ms ... Step: others may run, the next turn
//
// A goroutine that makes one system call after the other is never scheduled. After 10 ms
// of that the monitor of Go's runtime takes its processor away whenever it finds it in a
// call, wakes threads that find nothing to do, and looks again every 20 µs for a while,
// each time anew (sysmon and retake of Go 1.26). Under 2 s of writes of 1 MiB to a shared
// directory, on 2 vCPUs, it looked 8,637 times, for 205 ms of 750 ms of processor time; with
// turns 1,111 times, for 32 ms.
//
// Trust: none needed. Concurrency: a Turn belongs to one goroutine. Source: proc.go of Go's
// runtime.
package turn

import (
	"runtime"
	"time"
)

const (
	length = 4 * time.Millisecond // well below what the runtime waits
	steps  = 16                   // between two looks at the clock
)

// A Turn is how long a goroutine has gone on. Its zero value is ready.
type Turn struct {
	steps int
	began time.Time
}

// Step is called between pieces of work, of which 16 should take no more than some
// milliseconds. It ends the turn now and then.
func (t *Turn) Step() {
	if t.steps++; t.steps < steps {
		return
	}
	t.steps = 0
	if t.over(time.Now()) {
		runtime.Gosched()
	}
}

// over reports whether the turn has been long enough by now; the next one begins then.
func (t *Turn) over(now time.Time) bool {
	if now.Sub(t.began) < length {
		return false
	}
	t.began = now
	return true
}
