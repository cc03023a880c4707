package main

import (
	"fmt"
	"strings"

	"vrafs/internal/chunkread"
	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

type inspectStats struct {
	InodesCount uint64 `json:"inodes_count"`
}

func (s *inspector) stats() (any, error) {
	return inspectStats{s.im.InodeCount()}, nil
}

type inspectBlob struct {
	BlobID           string `json:"blob_id"`
	ReadaheadOffset  uint32 `json:"readahead_offset"`
	ReadaheadSize    uint32 `json:"readahead_size"`
	DecompressedSize uint64 `json:"decompressed_size"`
	CompressedSize   uint64 `json:"compressed_size"`
}

func (s *inspector) blobs() (any, error) {
	list := []inspectBlob{}
	for i := range s.im.Blobs() {
		b := &s.im.Blobs()[i]
		list = append(list, inspectBlob{b.ID, b.PrefetchOff, b.PrefetchSize, b.UncompressedSize, b.CompressedSize})
	}
	return list, nil
}

type inspectPrefetch struct {
	Inode rafs.Ino `json:"inode"`
	Path  []string `json:"path"`
}

// prefetch shows the table with the first path of each inode.
func (s *inspector) prefetch() (any, error) {
	table := s.im.Prefetch()
	paths, err := s.paths(table...)
	if err != nil {
		return nil, err
	}
	list := []inspectPrefetch{}
	for _, ino := range table {
		p := inspectPrefetch{Inode: ino, Path: []string{}}
		if all := paths[ino]; len(all) > 0 {
			p.Path = pathParts(all[0])
		}
		list = append(list, p)
	}
	return list, nil
}

// pathParts splits a path as clients expect it: "/", then the names.
func pathParts(p string) []string {
	parts := []string{"/"}
	if p != "/" {
		parts = append(parts, strings.Split(p[1:], "/")...)
	}
	return parts
}

// paths finds all paths of inodes in one walk.
func (s *inspector) paths(inos ...rafs.Ino) (map[rafs.Ino][]string, error) {
	found := make(map[rafs.Ino][]string, len(inos))
	for _, ino := range inos {
		found[ino] = nil
	}
	if len(found) == 0 {
		return found, nil
	}
	err := imagewalk.Walk(s.ctx, s.im, s.im.Root(), "/", func(p string, n *rafs.Inode) error {
		if list, ok := found[n.Ino()]; ok {
			found[n.Ino()] = append(list, p)
		}
		return nil
	})
	return found, err
}

func (s *inspector) ls(string) error {
	n, err := imagewalk.Find(s.im, s.dir)
	if err != nil {
		return err
	}
	return imagewalk.Walk(s.ctx, s.im, n.Ino(), s.dir, func(p string, n *rafs.Inode) error {
		if p == s.dir {
			return nil
		}
		if _, err := fmt.Fprintln(s.out, longLine(n, p[strings.LastIndexByte(p, '/')+1:])); err != nil || !n.IsDir() {
			return err
		}
		return imagewalk.ErrSkipDir
	})
}

func (s *inspector) cd(arg string) error {
	p, n, err := s.find(arg)
	if err != nil {
		return err
	}
	if !n.IsDir() {
		return fmt.Errorf("%q: %w", p, rafs.ErrNotDir)
	}
	s.dir = p
	return nil
}

func (s *inspector) stat(arg string) error {
	p, n, err := s.find(arg)
	if err != nil {
		return err
	}
	a := n.Attr()
	fmt.Fprintf(s.out, "File: %s\nInode: %d\nMode: %s (%04o)\nLinks: %d\nUid: %d  Gid: %d\nSize: %d  Blocks: %d\nModified: %s.%09d UTC\n",
		cli.Quote(p), a.Ino, modeText(a.Mode), a.Mode&0o7777, a.Nlink, a.UID, a.GID, a.Size, a.Blocks, timeText(&a), a.MtimeNsec)
	if n.IsDevice() {
		fmt.Fprintf(s.out, "Device: %s\n", deviceText(a.Rdev))
	}
	if n.IsSymlink() {
		target, err := n.Symlink()
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "Target: %s\n", cli.Quote(string(target)))
	}
	if err := s.showXattrs(&n); err != nil || !n.IsRegular() {
		return err
	}
	return s.showChunks(&n)
}

func (s *inspector) showXattrs(n *rafs.Inode) error {
	names, err := n.AppendXattrNames(nil)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" {
			continue
		}
		v, _, err := n.Xattr([]byte(name))
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "Xattr: %s=%q\n", cli.Quote(name), v)
	}
	return nil
}

func (s *inspector) showChunks(n *rafs.Inode) error {
	fmt.Fprintf(s.out, "Chunks: %d\n", n.ChunkCount())
	for item, err := range chunkread.FileChunks(s.im, n) {
		if err != nil {
			return err
		}
		c, err := s.index.Complete(item.Chunk)
		if err != nil {
			return err
		}
		s.showChunk(&c)
	}
	return nil
}

func (s *inspector) showChunk(c *rafs.Chunk) {
	fmt.Fprintf(s.out, "  blob %d index %d: compressed %d at %#x, uncompressed %d at %#x, digest %v\n",
		c.Blob, c.Index, c.CompressedSize, c.CompressedOff, c.Size, c.Off, c.Digest)
}

// chunk shows the chunks whose stored bytes hold an offset, and their files.
func (s *inspector) chunk(arg string) error {
	off, err := cli.ParseUint(arg)
	if err != nil {
		return fmt.Errorf("offset %q: %w", arg, err)
	}
	return imagewalk.Walk(s.ctx, s.im, s.im.Root(), "/", func(p string, n *rafs.Inode) error {
		if !n.IsRegular() {
			return nil
		}
		for item, err := range chunkread.FileChunks(s.im, n) {
			if err != nil {
				return fmt.Errorf("%q: %w", p, err)
			}
			c, err := s.index.Complete(item.Chunk)
			if err != nil {
				return fmt.Errorf("%q: %w", p, err)
			}
			if c.CompressedOff == off || off > c.CompressedOff && off-c.CompressedOff < uint64(c.CompressedSize) {
				fmt.Fprintln(s.out, cli.Quote(p))
				s.showChunk(&c)
			}
		}
		return nil
	})
}

func (s *inspector) icheck(arg string) error {
	ino, err := cli.ParseUint(arg)
	if err != nil {
		return fmt.Errorf("inode %q: %w", arg, err)
	}
	paths, err := s.paths(rafs.Ino(ino))
	if err != nil {
		return err
	}
	if len(paths[rafs.Ino(ino)]) == 0 {
		return fmt.Errorf("no file has the inode number %d", ino)
	}
	for _, p := range paths[rafs.Ino(ino)] {
		fmt.Fprintln(s.out, cli.Quote(p))
	}
	return nil
}
