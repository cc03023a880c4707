package virtiofs_test

import (
	"sync"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
	"vrafs/vhostuser/vhostusertest"
)

func TestTreeReadsBackThroughRings(t *testing.T) {
	images := map[rafs.Version]*testimage.Image{rafs.V5: image(t, rafs.V5), rafs.V6: image(t, rafs.V6)}
	tests := []struct {
		name    string
		version rafs.Version
		queues  int
		guest   vhostusertest.GuestConfig
		scatter bool
		long    bool
	}{
		{"v6_qemu_one_queue", rafs.V6, 1, vhostusertest.GuestConfig{QueueSize: 1024, EventIdx: true, Indirect: true}, false, true},
		{"v5_packed_four_queues", rafs.V5, 4, vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, QueueSize: 512, Packed: true, EventIdx: true}, true, false},
		{"v6_split_four_queues_direct", rafs.V6, 4, vhostusertest.GuestConfig{Order: vhostusertest.Crosvm, QueueSize: 512, Base: 65500}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long {
				testenv.Long(t)
			}
			im := images[tt.version]
			tt.guest.Rings, tt.guest.MemSize = 1+tt.queues, 128<<20
			r := newRig(t, im, fusesrvtest.StackOptions{}, virtiofs.Options{Queues: tt.queues}, tt.guest)
			r.start(t)
			want, err := testtree.Scan(im.Tree, testtree.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want = testimage.Expected(want, tt.version)
			for round := range 2 { // cold, then warm
				got := make([][]testtree.Entry, tt.queues)
				var wg sync.WaitGroup
				for q := range tt.queues {
					c := r.client(t, 1+q, vhostusertest.ClientConfig{Scatter: tt.scatter})
					wg.Go(func() {
						var err error
						if got[q], err = fusesrvtest.Walk(c, fusesrv.RootID, 4+q+round); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				for _, g := range got {
					testimage.Compare(t, want, g, testtree.DiffOptions{SkipRoot: true})
				}
			}
		})
	}
}
