package oci

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/rafs"
)

// layerTypes are the media types of layers, by how they are stored.
var layerTypes = map[rafs.Compressor]string{
	rafs.CompressorNone: MediaTypeLayer, rafs.CompressorGzip: MediaTypeLayerGzip, rafs.CompressorZstd: MediaTypeLayerZstd,
}

// original takes over a layer that stayed as it was. Its diff id is in no document any
// more.
func (u *unconverter) original(ctx context.Context, im *Image, ref digest.Digest) (l plainLayer, err error) {
	size, err := u.from.sizeOf(ctx, ref)
	if err != nil {
		return l, fmt.Errorf("original layer %s: %w", ref, err)
	}
	l.desc = Descriptor{Digest: ref, Size: size}
	state, err := transfer(ctx, u.from, u.to, l.desc, u.progress)
	if err != nil {
		return l, fmt.Errorf("original layer %s: %w", ref, err)
	}
	rc, err := im.repo.blob(ctx, l.desc)
	if err != nil {
		return l, err
	}
	defer rc.Close()
	br := bufio.NewReader(rc)
	head, _ := br.Peek(4) // an error comes again with the first read
	l.desc.MediaType = layerTypes[build.CompressorOf(head)]
	plain, done, err := build.Decompressed(br)
	if err != nil {
		return l, err
	}
	defer done()
	if l.diffID, err = digest.SHA256.FromReader(plain); err != nil {
		return l, err
	}
	_, err = io.Copy(io.Discard, br)
	u.progress.tell(Event{What: "layer", Name: ref.String(), State: state, Done: size, Total: size})
	return l, err
}

// sizeOf asks for the size of a blob that no manifest lists.
func (r *Repo) sizeOf(ctx context.Context, d digest.Digest) (int64, error) {
	s, ok := r.store.(interface {
		size(context.Context, digest.Digest) (int64, error)
	})
	if !ok {
		return 0, fmt.Errorf("%w: the size of a blob cannot be asked for here", ErrUnsupported)
	}
	return s.size(ctx, d)
}
