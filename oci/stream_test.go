package oci

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"vrafs/oci/ocitest"
)

// TestOddStreamsAreConvertedWholeOrNotAtAll: layers of several gzip members or zstd frames,
// with zeros behind them or something else, and streams that were cut.
func TestOddStreamsAreConvertedWholeOrNotAtAll(t *testing.T) {
	tar := ocitest.Tar(t, ocitest.Dir("d"), ocitest.File("d/a", strings.Repeat("a", 1000)), ocitest.File("d/b", "b"))
	cut := len(tar) / 3
	gz := func(p []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := w.Write(p)
		must(t, err)
		must(t, w.Close())
		return b.Bytes()
	}
	zst := func(p []byte) []byte {
		w, err := zstd.NewWriter(nil)
		must(t, err)
		return w.EncodeAll(p, nil)
	}
	skip := []byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4} // a frame that decoders skip
	for _, tt := range []struct {
		name, typ string
		bytes     []byte
		refused   bool
	}{
		{"members", "+gzip", join(gz(tar[:cut]), gz(tar[cut:2*cut]), gz(nil), gz(tar[2*cut:])), false},
		{"zeros", "+gzip", join(gz(tar), make([]byte, 2048)), false},
		{"frames", "+zstd", join(zst(tar[:cut]), zst(tar[cut:])), false},
		{"skipped", "+zstd", join(skip, zst(tar), skip), false},
		{"garbage", "+gzip", join(gz(tar), []byte("garbage")), true},
		{"short", "+gzip", gz(tar)[:20], true},
		{"sum", "+gzip", flipped(gz(tar), -6), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := ocitest.Layer{MediaType: "application/vnd.oci.image.layer.v1.tar" + tt.typ, DiffID: sha(tar), Bytes: tt.bytes}
			dir := filepath.Join(t.TempDir(), "src")
			ocitest.Layout(t, dir, "1", l)
			src, dst := parse(t, "oci:"+dir+":1"), parse(t, "oci:"+t.TempDir()+"/l:1")
			_, err := Convert(t.Context(), src, dst, defaults())
			if tt.refused {
				if err == nil || !strings.Contains(err.Error(), sha(tt.bytes).String()) {
					t.Errorf("got %v", err)
				}
				return
			}
			must(t, err)
			report, err := Check(t.Context(), dst, CheckOptions{Source: &src})
			if must(t, err); report.Entries != 3 {
				t.Errorf("%+v", report)
			}
		})
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// flipped changes a bit of the byte at off, from the end if negative.
func flipped(p []byte, off int) []byte {
	p[(len(p)+off)%len(p)] ^= 1
	return p
}
