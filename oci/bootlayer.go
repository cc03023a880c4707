package oci

import (
	"archive/tar"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// bootstrapLayer is the layer with the bootstrap, which must be the same whenever and
// wherever it is made, and its diff id (RAFS, section 7.3).
func bootstrapLayer(boot []byte) (layer []byte, diffID digest.Digest, err error) {
	var out bytes.Buffer
	plain := digest.SHA256.Digester()
	z, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	if err != nil {
		return nil, "", err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain.Hash()))
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "image/", Mode: 0o755, Format: tar.FormatGNU}); err != nil {
		return nil, "", err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: bootstrapName, Mode: 0o444, Size: int64(len(boot)), Format: tar.FormatGNU}); err != nil {
		return nil, "", err
	}
	if _, err := w.Write(boot); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return out.Bytes(), plain.Digest(), nil
}
