package localdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/internal/teststore"
)

func open(t *testing.T, opt Options) backend.Opener {
	t.Helper()
	o, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestConformance: a partition ends with a sector, and so does a blob.
func TestConformance(t *testing.T) {
	backendtest.RunPadded(t, 512, func(t *testing.T, blobs map[string][]byte) backend.Opener {
		return open(t, Options{Path: teststore.Disk(t, blobs, teststore.BasicData)})
	})
}

func TestPartitionsAreFoundByTheirNames(t *testing.T) {
	const linux, basicType = teststore.LinuxFilesystem, teststore.BasicData
	id := strings.Repeat("0123456789abcdef", 4)
	blobs := map[string][]byte{id: []byte("whole"), "short": []byte("short")}
	for _, tt := range []struct {
		name, kind, id, want string
	}{
		{"name and GUID, any type", linux, id, "whole"},
		{"name, basic data", basicType, "short", "short"},
		{"first half of the id, basic data", basicType, id[:32] + strings.Repeat("f", 32), "whole"},
		{"first half of the id, another type", linux, id[:32] + strings.Repeat("f", 32), ""},
		{"name, another type", linux, "short", ""},
		{"no such name", basicType, "other", ""},
		{"no name", basicType, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := open(t, Options{Path: teststore.Disk(t, blobs, tt.kind)}).Open(t.Context(), tt.id)
			if tt.want == "" {
				if !errors.Is(err, backend.ErrNotFound) || !errors.Is(err, backend.ErrPermanent) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			p := make([]byte, len(tt.want))
			if _, err := b.ReadAt(t.Context(), p, 0); err != nil || string(p) != tt.want {
				t.Errorf("got %q, %v", p, err)
			}
		})
	}
}

func TestAWholeDeviceIsOneBlob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("all"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := open(t, Options{Path: path, Whole: true}).Open(t.Context(), "any")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := make([]byte, 4)
	if n, err := b.ReadAt(t.Context(), p, 0); n != 3 || !errors.Is(err, io.ErrUnexpectedEOF) || string(p[:3]) != "all" {
		t.Errorf("got %d %q, %v", n, p, err)
	}
}

func TestOpenRefusesWhatIsNoDisk(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, dir, "/dev/null", filepath.Join(dir, "missing")} {
		if _, err := open(t, Options{Path: path}).Open(t.Context(), "id"); !errors.Is(err, backend.ErrPermanent) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if _, err := New(opener.Local(), Options{}); err == nil {
		t.Error("no device was accepted")
	}
}

// TestDamagedTablesAreRefused: one changed byte anywhere that counts, and a partition
// that reaches past the end.
func TestDamagedTablesAreRefused(t *testing.T) {
	path := teststore.Disk(t, map[string][]byte{"blob": []byte("x")}, teststore.BasicData)
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(disk []byte) []byte{
		"header":   func(d []byte) []byte { d[512+offEntries]++; return d },
		"entries":  func(d []byte) []byte { d[1024+offName]++; return d },
		"too many": func(d []byte) []byte { return reheader(d, offCount, maxEntries+1) },
		"size 0":   func(d []byte) []byte { return reheader(d, offEntryLen, 0) },
		"far away": func(d []byte) []byte { return reheader(d, offEntries+4, 1<<31) },
		"cut":      func(d []byte) []byte { return d[:2048*512] },
		"cut more": func(d []byte) []byte { return d[:2048] },
	} {
		changed := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(changed, change(bytes.Clone(disk)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, Options{Path: changed}).Open(t.Context(), "blob")
		if !errors.Is(err, errTable) && !errors.Is(err, errShort) || !errors.Is(err, backend.ErrPermanent) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// reheader changes a field of a disk's header, checksum included.
func reheader(disk []byte, field int, v uint32) []byte {
	h := (*[headerLen]byte)(disk[512:])
	binary.LittleEndian.PutUint32(h[field:], v)
	binary.LittleEndian.PutUint32(h[offCRC:], headerCRC(*h))
	return disk
}
