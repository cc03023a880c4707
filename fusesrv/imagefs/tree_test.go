package imagefs_test

import (
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// small makes a small image.
func small(t testing.TB, o testimage.Options) *testimage.Image {
	t.Helper()
	testenv.Need(t, testenv.Root)
	o.Tree = testtree.Options{Seed: 1, Entries: 700, BigDir: 100, DataBytes: 1 << 20}
	return testimage.Make(t, o)
}

// compare walks the tree and compares it with what the image was made from.
func compare(t testing.TB, im *testimage.Image, c fusesrvtest.Caller, seed int) {
	t.Helper()
	want, err := testtree.Scan(im.Tree, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fusesrvtest.Walk(c, fusesrv.RootID, seed)
	if err != nil {
		t.Fatal(err)
	}
	testimage.Compare(t, testimage.Expected(want, im.Result.Version), got, testtree.DiffOptions{SkipRoot: true})
}

func TestTreeReadsBack(t *testing.T) {
	tests := []struct {
		name string
		long bool
		o    testimage.Options
	}{
		{"v5_lz4", false, testimage.Options{Version: rafs.V5, Compressor: rafs.CompressorLZ4}},
		{"v6_zstd", false, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd}},
		{"v5_none", true, testimage.Options{Version: rafs.V5}},
		{"v6_small_chunks", true, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4, ChunkSize: 4096}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long {
				testenv.Long(t)
			}
			im := small(t, tt.o)
			s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{})
			d := s.Start(t)
			for seed := range 2 { // cold, then warm
				compare(t, im, d, seed)
			}
			if st := s.Server.Stats().Totals(); st.Malformed+st.Dropped != 0 {
				t.Errorf("got %d malformed, %d dropped requests, want none", st.Malformed, st.Dropped)
			}
		})
	}
}
