package images

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testtree"
)

// TestDuCountsWhatImagesTakeAndShare against the files that umoci unpacked.
func TestDuCountsWhatImagesTakeAndShare(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.ImageTools)
	testenv.Long(t)
	im, u := testoci.Nginx(t), newUser(t)
	entries, err := testtree.Scan(im.Tree, testtree.ScanOptions{NoData: true})
	must(t, err)
	var files, size uint64
	for _, e := range entries {
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			files++
			if e.Link == "" {
				size += uint64(e.Size)
			}
		}
	}
	nydus := "oci:" + u.converted(im)
	var got []map[string]any
	for line := range strings.Lines(u.vrafs("du", "--json", im.Reference(), nydus, nydus)) {
		var v map[string]any
		must(t, json.Unmarshal([]byte(line), &v))
		got = append(got, v)
	}
	number := func(i int, key string) uint64 { n, _ := got[i][key].(float64); return uint64(n) }
	if len(got) != 3 || got[0]["nydus"] != false || got[1]["nydus"] != true {
		t.Fatalf("got %v", got)
	}
	var layers uint64
	for _, l := range im.Layers(t) {
		layers += uint64(l.Size)
	}
	if number(0, "stored") != layers {
		t.Errorf("%d bytes of layers, want %d", number(0, "stored"), layers)
	}
	if number(1, "files") != files || number(1, "size") != size || number(1, "prefetch") != size {
		t.Errorf("%v, want %d files of %d bytes, all to be fetched", got[1], files, size)
	}
	if d := number(1, "distinct"); d == 0 || d > size || number(1, "shared") != 0 || number(2, "shared") != d {
		t.Errorf("the first shares nothing and the same again everything: %v", got[1:])
	}
	said := u.vrafs("du", im.Reference(), nydus)
	for _, want := range []string{"all of it: this is no Nydus image", "for the bootstrap, and what it reads", "compression    saves "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
}
