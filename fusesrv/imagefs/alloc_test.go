package imagefs_test

import (
	"testing"

	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

func warm(t testing.TB) (*fusesrvtest.Stack, *fusesrvtest.Direct) {
	im := small(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4})
	s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{})
	return s, s.Start(t)
}

func TestHotRequestsAllocateNothing(t *testing.T) {
	s, d := warm(t)
	for _, p := range s.HotRequests(t, d) {
		t.Run(p.Name, func(t *testing.T) {
			allocs := testing.AllocsPerRun(200, func() {
				n, pending := s.Server.Handle(d.W, &d.R, p.In, p.Out)
				if pending || n != p.Want {
					t.Fatalf("got %d bytes, pending %v, want %d at once", n, pending, p.Want)
				}
			})
			if allocs != 0 {
				t.Errorf("got %v allocations per request, want 0", allocs)
			}
		})
	}
}

func BenchmarkHandle(b *testing.B) {
	s, d := warm(b)
	for _, p := range s.HotRequests(b, d) {
		b.Run(p.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, pending := s.Server.Handle(d.W, &d.R, p.In, p.Out); pending {
					b.Fatal("not served at once")
				}
			}
		})
	}
}
