// Package testleak finds what a test has left behind in its own process.
//
//	before := Descriptors(t) --> what is tested --> Descriptors(t) is no more
//	check  := Growth(t)      --> what is tested --> check(): no goroutine more, no more heap
//
// What grows once (pools, caches) has to have grown before the first call. Goroutines
// that may still be ending are goleak's, which waits for them.
//
// Trust: none needed. Concurrency: nothing else may run in the process meanwhile.
// Source: proc(5), /proc/pid/fd.
package testleak

import (
	"os"
	"runtime"
	"testing"
)

// heapRoom is how many bytes of heap may come and go without being a leak.
const heapRoom = 1 << 20

// Descriptors counts the open descriptors of this process. One of them is its own.
func Descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Growth returns a check that fails the test if there are more goroutines, or more
// than a MiB of heap more, than now.
func Growth(t testing.TB) (check func()) {
	goroutines, before := runtime.NumGoroutine(), heap()
	return func() {
		t.Helper()
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, %d before", n, goroutines)
		}
		if after := heap(); after > before+heapRoom {
			t.Errorf("heap has grown from %d to %d bytes", before, after)
		}
	}
}

// heap is the memory in use, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
