package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/internal/bootload"
)

// A Compression is how layers are stored.
type Compression string

// The compressions of layers that are made.
const (
	CompressionGzip Compression = "gzip"
	CompressionZstd Compression = "zstd"
	CompressionNone Compression = "none"
)

// UnconvertOptions are the options of Unconvert.
type UnconvertOptions struct {
	From, To     Access
	Platforms    []Platform // as in ConvertOptions
	AllPlatforms bool
	Compression  Compression // "" is gzip
	Docker       bool
	Parallel     int // 0 chooses
	Progress     *Progress
}

// Unconvert makes OCI images of the Nydus images that src names. Each blob layer becomes
// a layer with the same entries, so that trees stay; digests are new, since the bytes of
// the archives are not remembered. Layers that were left as they were come back as they
// are. An image whose blobs do not say what their layers were becomes one layer.
func Unconvert(ctx context.Context, src, dst Ref, o UnconvertOptions) (*ConvertResult, error) {
	r, err := openRoute(ctx, src, dst, routeOptions{from: o.From, to: o.To, parallel: o.Parallel, usual: convertParallel, progress: o.Progress})
	if err != nil {
		return nil, err
	}
	defer r.close()
	u := &unconverter{route: r, o: o}
	if err := u.run(ctx); err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", src, dst, err)
	}
	return &u.res, nil
}

// An unconverter is one such conversion under way.
type unconverter struct {
	*route
	o   UnconvertOptions
	res ConvertResult
}

func (u *unconverter) run(ctx context.Context) error {
	images, err := u.images(ctx)
	if err != nil {
		return err
	}
	x := newIndex(u.o.Docker)
	var raw []byte
	var d Descriptor
	made := map[digest.Digest]Descriptor{} // by the source's
	for _, im := range images {
		if one, ok := made[im.Desc.Digest]; ok {
			x.Manifests = append(x.Manifests, u.res.another(one, im.Desc.Digest, plainPlatform(im)))
			continue
		}
		if raw, d, err = u.image(ctx, im); err != nil {
			return fmt.Errorf("%s: %w", im.Platform(), err)
		}
		if err := u.to.putManifest(ctx, raw, d); err != nil {
			return err
		}
		made[im.Desc.Digest] = d
		x.Manifests = append(x.Manifests, d)
	}
	if len(images) > 1 {
		if raw, d, err = encode(x, x.MediaType); err != nil {
			return err
		}
	}
	u.res.Ref, u.res.Digest, err = u.finish(ctx, raw, d)
	return err
}

// images finds the Nydus images that are wanted.
func (u *unconverter) images(ctx context.Context) ([]*Image, error) {
	platforms := u.o.Platforms
	if u.o.AllPlatforms {
		raw, d, err := u.from.document(ctx, u.src, nil)
		if err != nil {
			return nil, err
		}
		if d.IsIndex() {
			x, err := parseIndex(raw)
			if err != nil {
				return nil, err
			}
			platforms = nil
			for i := range x.Manifests {
				if p := x.Manifests[i].Platform; p != nil && !x.Manifests[i].IsAttestation() && !slices.ContainsFunc(platforms, func(q Platform) bool { return q.String() == p.String() }) {
					platforms = append(platforms, *p)
				}
			}
		}
	}
	if len(platforms) == 0 {
		platforms = []Platform{ThisPlatform()}
	}
	var list []*Image
	for i := range platforms {
		im, err := u.from.Image(ctx, u.src, Options{Platform: &platforms[i], Want: WantNydus})
		if err != nil {
			return nil, err
		}
		if !im.IsNydus() {
			return nil, fmt.Errorf("%s: %w: it is no Nydus image", platforms[i], ErrUnsupported)
		}
		list = append(list, im)
	}
	return list, nil
}

// A plainLayer is a layer of the OCI image.
type plainLayer struct {
	desc   Descriptor
	diffID digest.Digest
}

// image converts one image and gives its manifest.
func (u *unconverter) image(ctx context.Context, im *Image) ([]byte, Descriptor, error) {
	var none Descriptor
	history, n := sourceHistory(im.Config.History)
	own := ownLayers(im.BlobLayers(), n)
	layers := make([]plainLayer, max(1, len(own)))
	var err error
	if own == nil {
		history = []History{{CreatedBy: "vrafs convert", Comment: "all layers of a Nydus image"}}
		layers[0], err = u.flat(ctx, im)
	} else {
		layers = layers[:len(own)]
		err = each(ctx, len(own), u.parallel, func(ctx context.Context, i int) (err error) {
			if layers[i], err = u.layer(ctx, im, own[i]); err != nil {
				err = fmt.Errorf("layer %d of %d (%s): %w", i+1, len(own), own[i].Digest, err)
			}
			return err
		})
	}
	if err != nil {
		return nil, none, err
	}
	m := &Manifest{SchemaVersion: 2, MediaType: MediaTypeManifest, Layers: []Descriptor{}}
	m.Config.MediaType = MediaTypeConfig
	if u.o.Docker {
		m.MediaType, m.Config.MediaType = MediaTypeDockerManifest, MediaTypeDockerConfig
	}
	diffIDs := []digest.Digest{}
	made := ConvertedImage{Platform: im.Platform().String(), Source: im.Desc.Digest, Layers: len(own)}
	for _, l := range layers {
		m.Layers, diffIDs = append(m.Layers, l.desc), append(diffIDs, l.diffID)
	}
	made.SourceSize, made.Size = im.Manifest.LayersSize(), m.LayersSize()
	raw, err := rewriteConfig(im.RawConfig, diffIDs, history)
	if err != nil {
		return nil, none, err
	}
	m.Config.Digest, m.Config.Size = digest.FromBytes(raw), int64(len(raw))
	if err := put(ctx, u.to, raw, m.Config); err != nil {
		return nil, none, fmt.Errorf("configuration: %w", err)
	}
	raw, d, err := encode(m, m.MediaType)
	if err != nil {
		return nil, none, err
	}
	d.Platform, made.Digest = plainPlatform(im), d.Digest
	u.res.Images = append(u.res.Images, made)
	return raw, d, nil
}

// plainPlatform is an image's platform without what says that it is a Nydus image.
func plainPlatform(im *Image) *Platform {
	p := im.Platform()
	p.OSFeatures = slices.DeleteFunc(slices.Clone(p.OSFeatures), func(f string) bool { return f == OSFeatureNydus })
	return &p
}

// sourceHistory is the history without what a converter added, and the number of layers
// that it tells of; -1 if it tells nothing.
func sourceHistory(all []History) (list []History, layers int) {
	list = slices.Clone(all)
	for len(list) > 0 {
		if h := list[len(list)-1]; h.CreatedBy != historyCreatedBy || h.Comment != historyBootstrap && h.Comment != historyDict {
			break
		}
		list = list[:len(list)-1]
	}
	if len(list) == 0 {
		return nil, -1
	}
	for _, h := range list {
		if !h.EmptyLayer {
			layers++
		}
	}
	return list, layers
}

// ownLayers are the blobs that were made of the image's layers, without those of a
// dictionary; nil if that cannot be told. history is the number of layers by the
// history.
func ownLayers(blobs []Descriptor, history int) []Descriptor {
	var own []Descriptor
	for _, b := range blobs {
		if b.Annotations[AnnotationNydusSourceDigest] != "" || b.NydusRef() != "" {
			own = append(own, b)
		}
	}
	if len(own) > 0 {
		return own // our own conversion, or one of layers that stayed
	}
	if len(blobs) == history {
		return append([]Descriptor{}, blobs...)
	}
	return nil
}

// layer makes a layer of a blob.
func (u *unconverter) layer(ctx context.Context, im *Image, d Descriptor) (plainLayer, error) {
	if ref := d.NydusRef(); ref != "" {
		return u.original(ctx, im, ref)
	}
	files, err := localBlob(ctx, im, d, u.progress)
	if err != nil {
		return plainLayer{}, err
	}
	defer files.Close()
	b, err := bootload.Extract(files, uint64(d.Size), d.Digest.Encoded())
	if err != nil {
		return plainLayer{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer b.Close()
	opener := &layerBlobs{id: d.Digest.Encoded(), self: files, size: uint64(d.Size), rest: im.Blobs()}
	return u.write(ctx, build.Image{Name: b.Name, Data: b.Bytes(), Blobs: opener}, d)
}

// flat makes one layer of the whole tree.
func (u *unconverter) flat(ctx context.Context, im *Image) (plainLayer, error) {
	var boot bytes.Buffer
	if err := im.Bootstrap(ctx, &boot); err != nil {
		return plainLayer{}, err
	}
	d, err := im.BootstrapLayer()
	if err != nil {
		return plainLayer{}, err
	}
	return u.write(ctx, build.Image{Name: "image.boot", Data: boot.Bytes(), Blobs: im.Blobs()}, d)
}

// write unpacks an image into a layer of the target.
func (u *unconverter) write(ctx context.Context, image build.Image, d Descriptor) (l plainLayer, err error) {
	err = persist(func() error {
		l, err = u.writeOnce(ctx, image, d)
		return err
	})
	return l, err
}

func (u *unconverter) writeOnce(ctx context.Context, image build.Image, d Descriptor) (l plainLayer, err error) {
	up, err := u.to.upload(ctx)
	if err != nil {
		return l, err
	}
	defer up.abort()
	stored := &summer{w: up, hash: digest.SHA256.Hash()}
	packed, mediaType, err := u.compressor(stored)
	if err != nil {
		return l, err
	}
	plain := &summer{w: packed, hash: digest.SHA256.Hash()}
	event := Event{What: "layer", Name: d.Digest.String(), State: StateRunning}
	err = build.Unpack(ctx, image, plain, build.UnpackOptions{Workers: buildWorkers(), Progress: func(done, _ uint64, _ string) {
		event.Done = int64(done)
		u.progress.tell(event)
	}})
	if err = errors.Join(err, packed.Close()); err != nil {
		return l, err
	}
	l.diffID = digest.NewDigest(digest.SHA256, plain.hash)
	l.desc = Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, stored.hash), Size: stored.n}
	if err := up.commit(ctx, l.desc.Digest, l.desc.Size); err != nil {
		return l, err
	}
	event.State, event.Done, event.Total, event.Result, event.Size = StateDone, d.Size, d.Size, l.desc.Digest.String(), l.desc.Size
	u.progress.tell(event)
	return l, nil
}

// compressor packs what is written to it into w.
func (u *unconverter) compressor(w io.Writer) (io.WriteCloser, string, error) {
	switch u.o.Compression {
	case CompressionGzip, "":
		typ := MediaTypeLayerGzip
		if u.o.Docker {
			typ = MediaTypeDockerLayer
		}
		z, err := gzip.NewWriterLevel(w, gzip.DefaultCompression)
		return z, typ, err
	case CompressionZstd:
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		return z, MediaTypeLayerZstd, err
	case CompressionNone:
		typ := MediaTypeLayer
		if u.o.Docker {
			typ = MediaTypeDockerTar
		}
		return nopWriteCloser{w}, typ, nil
	}
	return nil, "", fmt.Errorf("%w: compression %q", build.ErrOptions, u.o.Compression)
}

type nopWriteCloser struct{ io.Writer }

// Close does nothing.
func (nopWriteCloser) Close() error { return nil }

// A summer counts and hashes what goes through it.
type summer struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

// Write passes on what it counts.
func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	_, _ = s.hash.Write(p[:n])
	return n, err
}
