package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testtree"
	"vrafs/kata"
	"vrafs/test/vm/guestapi"
)

// mountSoon mounts a device that the guest may not have seen yet.
func mountSoon(t *testing.T, m *Machine, tag, dir string) {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		err := m.Call(guestapi.Mount, guestapi.MountArgs{Source: tag, Path: dir, Type: "virtiofs"}, nil)
		if err == nil {
			return
		}
		select {
		case <-limit:
			t.Fatal(err)
		default:
		}
	}
}

// TestDevicesAreAttachedColdAndHot: one device is there from the start, others come
// and go under the running guest, which mounts and reads them all.
func TestDevicesAreAttachedColdAndHot(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(7))
	part := filepath.Join(tree, "names")
	check(t, os.WriteFile(filepath.Join(part, "which"), []byte("hot"), 0o644))
	im := makeImage(t, variants[0], part)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			cold := im.serve(t)
			m := bootWith(t, series, Options{}, cold)
			cold.mount(t, m)
			cold.compare(t, m)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			h := m.Hypervisor()
			for i, id := range []string{"hot-a", "hot-b", "hot-a"} { // an id may come again
				d := startDaemon(t, DaemonOptions{})
				check(t, d.Mount(ctx, "/image", im.Bootstrap, im.BlobDir))
				check(t, h.AttachFS(ctx, kata.Device{ID: id, Tag: "tag-" + id, Socket: d.Socket}))
				dir := "/mnt/" + id
				mountSoon(t, m, "tag-"+id, dir)
				compare(t, m, guestapi.CompareArgs{Path: dir + "/image", Manifest: cold.manifestFile()})
				if i == 0 {
					err := h.AttachFS(ctx, kata.Device{ID: id, Tag: "other", Socket: d.Socket})
					if err == nil || !strings.Contains(err.Error(), id) {
						t.Errorf("attached twice: %v", err)
					}
				}
				unmount(t, m, dir)
				check(t, h.DetachFS(ctx, id))
				if err := h.DetachFS(ctx, id); err == nil {
					t.Error("detached twice")
				}
			}
			err := h.AttachFS(ctx, kata.Device{ID: "none", Tag: "none", Socket: filepath.Join(t.TempDir(), "none")})
			if err == nil || errors.Is(err, kata.ErrDevice) || !strings.Contains(err.Error(), "connect QEMU to") {
				t.Errorf("without a back-end: %v", err)
			}
			cold.compare(t, m) // the machine has not noticed
		})
	}
}
