package oci

import (
	"archive/tar"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"path"

	"github.com/opencontainers/go-digest"

	"vrafs/backend"
	"vrafs/build"
	"vrafs/internal/bootload"
)

// bootstrapName is the bootstrap's place in its layer (RAFS, section 7.3).
const bootstrapName = "image/image.boot"

// IsNydus reports whether this is a Nydus image.
func (im *Image) IsNydus() bool {
	n := len(im.Manifest.Layers)
	return n > 0 && im.Manifest.Layers[n-1].IsNydusBootstrap()
}

// BootstrapLayer is the layer that holds the bootstrap of a Nydus image.
func (im *Image) BootstrapLayer() (Descriptor, error) {
	if !im.IsNydus() {
		return Descriptor{}, fmt.Errorf("%s: %w: it is no Nydus image: convert it first", im.Ref, ErrUnsupported)
	}
	return im.Manifest.Layers[len(im.Manifest.Layers)-1], nil
}

// BlobLayers are the data blobs of a Nydus image, in order.
func (im *Image) BlobLayers() []Descriptor {
	var out []Descriptor
	for _, l := range im.Manifest.Layers {
		if l.IsNydusBlob() && !l.IsNydusBootstrap() {
			out = append(out, l)
		}
	}
	return out
}

// Bootstrap writes the bootstrap of a Nydus image to w. What was written is good only
// if there is no error.
func (im *Image) Bootstrap(ctx context.Context, w io.Writer) error {
	d, err := im.BootstrapLayer()
	if err != nil {
		return err
	}
	rc, err := im.Open(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := copyBootstrap(w, rc); err != nil {
		return fmt.Errorf("%s: bootstrap layer %s: %w", im.Ref, d.Digest, err)
	}
	return nil
}

// copyBootstrap finds the bootstrap in the layer r, which is read to its end.
func copyBootstrap(w io.Writer, r io.Reader) error {
	plain, done, err := build.Decompressed(r)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(plain)
	found := false
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		// Some converters write it with a leading "./" or "/".
		if found || h.Typeflag != tar.TypeReg || path.Clean("/" + h.Name)[1:] != bootstrapName {
			continue
		}
		if h.Size > bootload.MaxInlined {
			return fmt.Errorf("%w: a bootstrap of %d bytes", ErrCorrupt, h.Size)
		}
		found = true
		if _, err := io.Copy(w, tr); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: no %s in it", ErrCorrupt, bootstrapName)
	}
	_, err = io.Copy(io.Discard, r) // to the point where the digest is compared
	return err
}

// Blobs reads the layers of the image by ranges, under their ids: the hexadecimal
// digits of their digests. It is good until the image is closed. Nothing it returns is
// verified.
func (im *Image) Blobs() backend.Opener { return blobs{im} }

type blobs struct{ im *Image }

// Open finds the layer called id, or one that the image only refers to.
func (b blobs) Open(ctx context.Context, id string) (backend.Blob, error) {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("blob %.80q: %w: it is no digest", id, backend.ErrNotFound)
	}
	dg := digest.NewDigestFromEncoded(digest.SHA256, id)
	d, ok := b.im.find(dg)
	if !ok && b.im.refersTo(dg) {
		size, err := b.im.repo.sizeOf(ctx, dg)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w: %w", id, backend.ErrNotFound, err)
		}
		d, ok = Descriptor{Digest: dg, Size: size}, true
	}
	if !ok {
		return nil, fmt.Errorf("blob %s: %w: the manifest of %s does not list it", id, backend.ErrNotFound, b.im.Ref)
	}
	return &blob{b.im.repo, d}, nil
}

// refersTo reports whether a layer's data stayed in the layer d of another image.
func (im *Image) refersTo(d digest.Digest) bool {
	for i := range im.Manifest.Layers {
		if im.Manifest.Layers[i].NydusRef() == d {
			return true
		}
	}
	return false
}

// A blob is one layer, read by ranges.
type blob struct {
	r *Repo
	d Descriptor
}

// ReadAt reads a range with one request.
func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if off > math.MaxInt64 || int64(off) >= b.d.Size {
		return 0, io.ErrUnexpectedEOF
	}
	end := min(b.d.Size, int64(off)+int64(len(p)))
	rc, err := b.r.store.blob(ctx, b.d, int64(off), end)
	if err != nil {
		return 0, fmt.Errorf("blob %s at %d: %w", b.d.Digest, off, err)
	}
	defer rc.Close()
	n, err := io.ReadFull(rc, p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF && int64(off)+int64(n) == b.d.Size {
		return n, io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("blob %s at %d: %w", b.d.Digest, off, err)
}

// Size is the layer's by the manifest.
func (b *blob) Size(context.Context) (uint64, error) { return uint64(b.d.Size), nil }

// Close does nothing: nothing is held between reads.
func (b *blob) Close() error { return nil }
