package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// benchFile is the large file of the benchmark's tree.
const benchFile = "large-file"

// BenchmarkGuest measures what programs in a guest get from vrafsd, with an image
// in v6 without compression, beside Debian's C virtiofsd on the image's source, told
// to let the guest cache everything for a day as vrafsd does for ever.
// The emulated CPU takes most of the time in both. Use -benchtime 1x.
func BenchmarkGuest(b *testing.B) {
	testenv.Need(b, testenv.Root, testenv.QEMU, testenv.GuestKernel, testenv.Virtiofsd)
	tree := testtree.Make(b, testtree.Options{Seed: 5, Entries: 4000, BigDir: 1000, DataBytes: 16 << 20})
	fio := fioFiles(b)
	writeLargeFile(b, filepath.Join(tree, benchFile), 64<<20)
	for _, server := range []struct {
		name  string
		serve func(b *testing.B) *share
	}{
		{"vrafsd", func(b *testing.B) *share {
			s := makeImage(b, variants[2], tree).serve(b)
			s.device.Queues = 1
			return s
		}},
		{"vrafsd4", func(b *testing.B) *share { return makeImage(b, variants[2], tree).serve(b) }},
		{"virtiofsd", func(b *testing.B) *share {
			return &share{tag: "peer", device: startVirtiofsd(b, tree, "cache=always"), tree: tree}
		}},
	} {
		b.Run(server.name, func(b *testing.B) {
			s := server.serve(b)
			m := bootWith(b, Series[1], Options{MemMB: 1024, Files: fio}, s)
			s.mount(b, m)
			for b.Loop() {
				r := call[guestapi.BenchResult](b, m, guestapi.Bench, guestapi.BenchArgs{Path: s.dir(), File: s.dir() + "/" + benchFile})
				for _, f := range r.Figures {
					report(b, f)
				}
				runFio(b, m, s.dir()+"/"+benchFile)
			}
		})
	}
}

// report prints a figure as a rate: operations, or bytes where a file is read in
// order.
func report(b *testing.B, f guestapi.Figure) {
	rate := float64(f.Ops) / f.Took.Seconds()
	b.Logf("%-30s %8.0f ops/s %8.1f MiB/s", f.Name, rate, float64(f.Bytes)/(1<<20)/f.Took.Seconds())
	b.ReportMetric(rate, strings.NewReplacer(" ", "-", ",", "").Replace(f.Name)+"/s")
}

// writeLargeFile fills a file with bytes that do not repeat.
func writeLargeFile(b *testing.B, path string, size int) {
	b.Helper()
	data := make([]byte, size)
	x := uint64(88172645463325252)
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
}
