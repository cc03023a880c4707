package blobcache

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/backend/localfs"
	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// The children of process tests are copies of the test binary. They write one
// byte to standard output per round: '.' for right bytes, 'E' for an error, and
// end with status 3 after a wrong byte.
const (
	childReader = "reader"
	childLiar   = "liar"
	childNydusd = "nydusd"
	childMapper = "mapper"
	childRight  = '.'
	childError  = 'E'
	childWrong  = 3
)

// startChild runs a child on the image in imageDir and the cache in cacheDir.
func startChild(t *testing.T, what, imageDir, cacheDir string) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], imageDir, cacheDir)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.Close()
	})
	return cmd, r
}

// child is the main function of a child process; it ends when standard output is
// closed.
func child(what string) int {
	err := error(nil)
	switch what {
	case childReader:
		err = readForEver(os.Args[1], os.Args[2])
	case childLiar:
		err = lieForEver(os.Args[1], os.Args[2])
	case childNydusd:
		err = believeForEver(os.Args[1], os.Args[2], false)
	case childMapper:
		err = believeForEver(os.Args[1], os.Args[2], true)
	}
	if err == errWrong {
		return childWrong
	}
	fmt.Fprintln(os.Stderr, what, err)
	return 1
}

var errWrong = fmt.Errorf("wrong bytes")

func openChildImage(dir string) (*rafs.Image, []rafs.Chunk, error) {
	boot, err := os.ReadFile(filepath.Join(dir, "boot"))
	if err != nil {
		return nil, nil, err
	}
	im, err := rafs.Open(boot, rafs.Options{})
	if err != nil {
		return nil, nil, err
	}
	var chunks []rafs.Chunk
	for i := range im.ChunkTableLen() {
		c, err := im.ChunkTableEntry(i)
		if err != nil {
			return nil, nil, err
		}
		chunks = append(chunks, c)
	}
	return im, chunks, nil
}

// readForEver reads random chunks and compares their digests.
func readForEver(imageDir, cacheDir string) error {
	im, chunks, err := openChildImage(imageDir)
	if err != nil {
		return err
	}
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: imageDir})
	if err != nil {
		return err
	}
	s, err := NewStore(opener.Local(), Options{Dir: cacheDir, Workers: 1, Amplify: 20_000})
	if err != nil {
		return err
	}
	c, err := s.Open(im, blobs, ImageOptions{})
	if err != nil {
		return err
	}
	var r Reader
	for {
		ch := &chunks[rand.IntN(len(chunks))]
		mark := byte(childRight)
		p, err := readAll(context.Background(), c, &r, []rafs.Span{*spanOf(ch)})
		switch {
		case err != nil:
			mark = childError
		case codec.Sum(im.Blobs()[ch.Blob].Digester, p) != ch.Digest:
			return errWrong
		}
		if _, err := os.Stdout.Write([]byte{mark}); err != nil {
			return err
		}
	}
}

// lieForEver sets bits in the shared maps, as a nydusd that stored what it had
// not checked, over whatever the data files hold.
func lieForEver(imageDir, cacheDir string) error {
	im, chunks, err := openChildImage(imageDir)
	if err != nil {
		return err
	}
	for {
		ch := &chunks[rand.IntN(len(chunks))]
		b := &im.Blobs()[ch.Blob]
		f, err := os.OpenFile(filepath.Join(cacheDir, b.ID+mapSuffix), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		m, err := openChunkMap(f, b.ChunkCount, false)
		f.Close()
		if err == nil {
			err = m.set(ch.Index)
			_ = m.close()
		}
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write([]byte{childRight}); err != nil {
			return err
		}
	}
}

// believeForEver opens the files of a cache the way a nydusd does, serves what the
// bits say from there, and compares it: a nydusd that restarts all the time. Its
// data are read through a mapping, whose descriptor is closed, if mapped is set.
func believeForEver(imageDir, cacheDir string, mapped bool) error {
	im, chunks, err := openChildImage(imageDir)
	if err != nil {
		return err
	}
	for {
		for i := range im.Blobs() {
			b := &im.Blobs()[i]
			if err := believe(b, i, chunks, cacheDir, mapped); err != nil {
				return err
			}
		}
		if _, err := os.Stdout.Write([]byte{childRight}); err != nil {
			return err
		}
		<-time.After(time.Duration(rand.IntN(3)) * evictGrace)
	}
}

// believe is one life of a nydusd with one blob. A bit that was seen is believed
// until the end of it.
func believe(b *rafs.Blob, at int, chunks []rafs.Chunk, cacheDir string, mapped bool) error {
	f, err := os.OpenFile(filepath.Join(cacheDir, b.ID+mapSuffix), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	m, err := openChunkMap(f, b.ChunkCount, false)
	f.Close()
	if err != nil {
		return err
	}
	defer func() { _ = m.close() }()
	ready := binary.NativeEndian.Uint32(m.mem[chunkMapReadyAt:]) == chunkMapReady
	data, err := os.OpenFile(filepath.Join(cacheDir, b.ID+dataSuffix), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer data.Close()
	if err := data.Truncate(int64(b.UncompressedSize)); err != nil {
		return err
	}
	read := data.ReadAt
	if mapped {
		mem, err := unix.Mmap(int(data.Fd()), 0, int(b.UncompressedSize), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Munmap(mem) }()
		data.Close()
		read = func(p []byte, off int64) (int, error) { return copy(p, mem[off:]), nil }
	}
	var seen []*rafs.Chunk
	for i := range chunks {
		if ch := &chunks[i]; int(ch.Blob) == at && (ready || m.has(ch.Index)) {
			seen = append(seen, ch)
		}
	}
	for range min(50, len(seen)) {
		ch := seen[rand.IntN(len(seen))]
		p := make([]byte, ch.Size)
		if _, err := read(p, int64(ch.Off)); err != nil {
			return err
		}
		if codec.Sum(b.Digester, p) != ch.Digest {
			return errWrong
		}
	}
	return nil
}

// writeImage puts an image where children find it.
func writeImage(t *testing.T, s *sample) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{"boot": s.boot}
	for id, p := range s.blobs {
		files[id] = p
	}
	for name, p := range files {
		if err := os.WriteFile(filepath.Join(dir, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// rounds reads n marks from a child. It gives the errors among them; a child that
// ended before is one that met a wrong byte.
func rounds(t *testing.T, cmd *exec.Cmd, out *os.File, n int) (failed int) {
	t.Helper()
	p := make([]byte, 1)
	for range n {
		if _, err := out.Read(p); err != nil {
			err = cmd.Wait()
			t.Fatalf("child: %v (status %d is a wrong byte)", err, childWrong)
		}
		if p[0] == childError {
			failed++
		}
	}
	return failed
}

// syncFile forces a file's pages to its device.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fsync(int(f.Fd()))
}
