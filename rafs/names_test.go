package rafs_test

import (
	"testing"

	"vrafs/rafs"
)

// TestFlagsGiveAlgorithms decodes super block flags in the order of section 0.4.
func TestFlagsGiveAlgorithms(t *testing.T) {
	const all = rafs.FlagsCompression | rafs.FlagsHash
	for _, tt := range []struct {
		flags      rafs.SuperFlags
		compressor rafs.Compressor
		digester   rafs.Digester
	}{
		{0, rafs.CompressorLZ4, rafs.DigesterBLAKE3},
		{all, rafs.CompressorNone, rafs.DigesterBLAKE3},
		{all &^ rafs.FlagCompressionNone &^ rafs.FlagHashBLAKE3, rafs.CompressorLZ4, rafs.DigesterSHA256},
		{rafs.FlagCompressionGzip | rafs.FlagCompressionZstd, rafs.CompressorGzip, rafs.DigesterBLAKE3},
		{rafs.FlagCompressionZstd | rafs.FlagHashSHA256, rafs.CompressorZstd, rafs.DigesterSHA256},
	} {
		if c, d := tt.flags.Compressor(), tt.flags.Digester(); c != tt.compressor || d != tt.digester {
			t.Errorf("%v: %v, %v; want %v, %v", tt.flags, c, d, tt.compressor, tt.digester)
		}
	}
	for c := rafs.CompressorNone; c.Valid(); c++ {
		if got := rafs.CompressorFlag(c).Compressor(); got != c {
			t.Errorf("%v becomes %v", c, got)
		}
	}
	for d := rafs.DigesterBLAKE3; d.Valid(); d++ {
		if got := rafs.DigesterFlag(d).Digester(); got != d {
			t.Errorf("%v becomes %v", d, got)
		}
	}
	if rafs.CompressorFlag(9) != 0 || rafs.DigesterFlag(9) != 0 {
		t.Error("flags of unknown algorithms")
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		rafs.CompressorNone.String():                               "none",
		rafs.CompressorLZ4.String():                                "lz4_block",
		rafs.CompressorGzip.String():                               "gzip",
		rafs.CompressorZstd.String():                               "zstd",
		rafs.Compressor(7).String():                                "compressor(7)",
		rafs.DigesterBLAKE3.String():                               "blake3",
		rafs.DigesterSHA256.String():                               "sha256",
		rafs.Digester(7).String():                                  "digester(7)",
		rafs.CipherAES128XTS.String():                              "aes-128-xts",
		rafs.Cipher(9).String():                                    "cipher(9)",
		rafs.SuperFlags(0).String():                                "0",
		rafs.BlobFeatures(0).String():                              "0",
		(rafs.FlagHashSHA256 | rafs.FlagHasXattr | 1<<40).String(): "HASH_SHA256|HAS_XATTR|0x10000000000",
		(rafs.BlobAligned | rafs.BlobZran | 0x1000).String():       "ALIGNED|ZRAN|0x1000",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
