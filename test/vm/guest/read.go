package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"runtime/debug"

	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// held are the files that Hold has opened, by path.
var held = map[string]*os.File{}

func doHold(a guestapi.PathArgs) (nothing, error) {
	if held[a.Path] != nil {
		return nothing{}, errors.New("it is held already")
	}
	f, err := os.Open(a.Path)
	if err == nil {
		held[a.Path] = f
	}
	return nothing{}, err
}

func doLetGo(nothing) (nothing, error) {
	var errs []error
	for _, f := range held {
		errs = append(errs, f.Close())
	}
	clear(held)
	return nothing{}, errors.Join(errs...)
}

func doReadAt(a guestapi.ReadAtArgs) (r guestapi.ReadAtResult, err error) {
	f := held[a.Path]
	if !a.Held {
		if f, err = os.Open(a.Path); err != nil {
			return r, err
		}
		defer func() { _ = f.Close() }()
	}
	buf := make([]byte, a.Length)
	for _, off := range a.Offsets {
		n, err := f.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return r, err
		}
		r.Digests = append(r.Digests, digest(buf[:n]))
	}
	return r, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// doMmap reads a file through a shared read-only mapping. A page that does not
// come is SIGBUS, which ends this program and so shows on the console.
func doMmap(a guestapi.PathArgs) (r guestapi.MmapResult, err error) {
	debug.SetTraceback("all")
	f, err := os.Open(a.Path)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return r, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return r, err
	}
	r = guestapi.MmapResult{Digest: digest(b), Bytes: st.Size()}
	return r, unix.Munmap(b)
}
