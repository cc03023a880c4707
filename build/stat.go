package build

import (
	"context"
	"fmt"
	"math/bits"

	"vrafs/internal/chunkread"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// StatOptions are the options of Stat.
type StatOptions struct {
	// Digester, if set, is the one that all images must have.
	Digester *rafs.Digester
}

// A StatReport is the output of Stat, with the JSON names of nydus-image.
type StatReport struct {
	DedupEnabled  bool      `json:"dedup_enabled"`
	TargetEnabled bool      `json:"target_enabled"`
	Base          ImageStat `json:"base_image"`
	Target        ImageStat `json:"target_image"`
}

// An ImageStat counts the contents of one or more images. Sizes are in bytes.
// Chunks counts every use of a chunk by a file, the dedup values each distinct
// chunk once; own are the distinct chunks that the base doesn't have, ref those it
// has. ChunkSizes is a histogram up to 4 KiB, 8 KiB, .. 512 KiB and above,
// FileSizes one by the bits of the size.
type ImageStat struct {
	Dirs             uint64     `json:"dirs"`
	Files            uint64     `json:"files"`
	Symlinks         uint64     `json:"symlinks"`
	Chunks           uint64     `json:"chunks"`
	FileSize         uint64     `json:"file_size"`
	CompSize         uint64     `json:"comp_size"`
	UncompSize       uint64     `json:"uncomp_size"`
	PaddingSize      uint64     `json:"padding_size"`
	ChunkSizes       [9]uint64  `json:"chunk_sizes"`
	FileSizes        [45]uint64 `json:"file_sizes"`
	DedupChunks      uint64     `json:"dedup_chunks"`
	DedupCompSize    uint64     `json:"dedup_comp_size"`
	DedupUncompSize  uint64     `json:"dedup_uncomp_size"`
	DedupPaddingSize uint64     `json:"dedup_padding_size"`
	OwnChunks        uint64     `json:"own_chunks"`
	OwnCompSize      uint64     `json:"own_comp_size"`
	OwnUncompSize    uint64     `json:"own_uncomp_size"`
	RefChunks        uint64     `json:"ref_chunks"`
	RefCompSize      uint64     `json:"ref_comp_size"`
	RefUncompSize    uint64     `json:"ref_uncomp_size"`
}

// Stat counts the given images together and, if target is not nil, what target
// would share with them. It needs no blobs. Memory is that of a digest per distinct
// chunk. Images of different digesters are of class ErrInconsistent.
func Stat(ctx context.Context, base []Image, target *Image, o StatOptions) (*StatReport, error) {
	s := &statter{ctx: ctx, digester: o.Digester, base: map[rafs.Digest]bool{}}
	r := &StatReport{DedupEnabled: true, TargetEnabled: target != nil}
	for i := range base {
		if err := s.count(&base[i], &r.Base, s.base, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", base[i].Name, err)
		}
	}
	if target != nil {
		if err := s.count(target, &r.Target, map[rafs.Digest]bool{}, s.base); err != nil {
			return nil, fmt.Errorf("%s: %w", target.Name, err)
		}
	}
	return r, nil
}

type statter struct {
	ctx      context.Context
	digester *rafs.Digester
	base     map[rafs.Digest]bool
}

// count adds an image to st. seen are the distinct chunks so far, base those of
// the images it is compared with.
func (s *statter) count(im *Image, st *ImageStat, seen, base map[rafs.Digest]bool) error {
	img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	if err != nil {
		return err
	}
	if d := img.Digester(); s.digester == nil {
		s.digester = &d
	} else if d != *s.digester {
		return fmt.Errorf("%w: digester %v, the others have %v", ErrInconsistent, d, *s.digester)
	}
	index, links := chunkread.NewIndex(img), map[rafs.Ino]bool{}
	return imagewalk.Walk(s.ctx, img, img.Root(), "/", func(p string, n *rafs.Inode) error {
		switch {
		case n.IsDir():
			st.Dirs++
		case n.IsSymlink():
			st.Symlinks++
		case n.IsRegular():
			st.Files++
			if n.Nlink() > 1 {
				if links[n.Ino()] {
					return nil
				}
				links[n.Ino()] = true
			}
			st.FileSize += n.Size()
			st.FileSizes[min(bits.Len64(n.Size()), len(st.FileSizes)-1)]++
			for item, err := range chunkread.FileChunks(img, n) {
				if err != nil {
					return fmt.Errorf("%q: %w", p, err)
				}
				c, err := index.Complete(item.Chunk)
				if err != nil {
					return fmt.Errorf("%q: %w", p, err)
				}
				st.add(&c, seen, base)
			}
		}
		return nil
	})
}

// add counts one use of a chunk.
func (st *ImageStat) add(c *rafs.Chunk, seen, base map[rafs.Digest]bool) {
	size, stored := uint64(c.Size), uint64(c.CompressedSize)
	padding := alignUp(size, rafs.V6Align) - size
	st.Chunks++
	st.CompSize += stored
	st.UncompSize += size
	st.PaddingSize += padding
	st.ChunkSizes[min(bits.Len32((c.Size-1)>>12), len(st.ChunkSizes)-1)]++
	if c.HasDigest {
		if seen[c.Digest] {
			return
		}
		seen[c.Digest] = true
	}
	st.DedupChunks++
	st.DedupCompSize += stored
	st.DedupUncompSize += size
	st.DedupPaddingSize += padding
	if base[c.Digest] && c.HasDigest {
		st.RefChunks++
		st.RefCompSize += stored
		st.RefUncompSize += size
		return
	}
	st.OwnChunks++
	st.OwnCompSize += stored
	st.OwnUncompSize += size
}
