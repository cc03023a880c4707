package build_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// variant is one way to store a tree.
type variant struct {
	version    rafs.Version
	compressor rafs.Compressor
	digester   rafs.Digester
}

func (v variant) String() string {
	return fmt.Sprintf("v%d_%v_%v", v.version, v.compressor, v.digester)
}

// variants are all versions, compressors and digesters together.
func variants() (list []variant) {
	for _, v := range []rafs.Version{rafs.V6, rafs.V5} {
		for _, c := range []rafs.Compressor{rafs.CompressorNone, rafs.CompressorLZ4, rafs.CompressorZstd} {
			for _, d := range []rafs.Digester{rafs.DigesterBLAKE3, rafs.DigesterSHA256} {
				list = append(list, variant{v, c, d})
			}
		}
	}
	return list
}

func TestTreeReadsBackIdentical(t *testing.T) {
	tree := smallTree(t)
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			testimage.Make(t, testimage.Options{
				Source: tree, Version: v.version, Compressor: v.compressor, Digester: v.digester,
			}).CheckTree(t)
		})
	}
}

// TestBatchesOfLargeFilesOnly makes an image whose blob has the feature, and no batch.
func TestBatchesOfLargeFilesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<14), 0o644); err != nil {
		t.Fatal(err)
	}
	testimage.Make(t, testimage.Options{Source: dir, BatchSize: 0x10000, Compressor: rafs.CompressorZstd}).CheckTree(t)
}

func TestEveryLayoutReadsBackIdentical(t *testing.T) {
	tree := smallTree(t)
	tests := []struct {
		name string
		o    testimage.Options
	}{
		{"toc", testimage.Options{Layout: testimage.SeparateTOC, Compressor: rafs.CompressorLZ4}},
		{"inline", testimage.Options{Layout: testimage.Inline, Compressor: rafs.CompressorZstd}},
		{"inline_v5", testimage.Options{Layout: testimage.Inline, Version: rafs.V5}},
		{"inline_toc", testimage.Options{Layout: testimage.InlineTOC, Compressor: rafs.CompressorZstd}},
		{"small_chunks", testimage.Options{ChunkSize: rafs.MinChunkSize, Compressor: rafs.CompressorLZ4}},
		{"large_chunks", testimage.Options{ChunkSize: rafs.MaxChunkSize}},
		{"batches", testimage.Options{BatchSize: 0x10000, Compressor: rafs.CompressorZstd}},
		{"batches_uncompressed", testimage.Options{BatchSize: 0x100000}},
		{"encrypted", testimage.Options{Encrypt: true, Compressor: rafs.CompressorLZ4}},
		{"encrypted_batches_inline_toc", testimage.Options{
			Encrypt: true, BatchSize: 0x4000, Compressor: rafs.CompressorZstd, Layout: testimage.InlineTOC,
		}},
		{"encrypted_uncompressed", testimage.Options{Encrypt: true, Layout: testimage.Inline}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.o.Source = tree
			testimage.Make(t, tt.o).CheckTree(t)
		})
	}
}
