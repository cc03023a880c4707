package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
)

// tarfsLayer converts a tar that arrives through a FIFO, as the snapshotter does,
// and returns the file of its bootstrap.
func tarfsLayer(t *testing.T, layer []byte, id, blobs string) string {
	t.Helper()
	dir := t.TempDir()
	fifo, boot := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.boot")
	must(t, unix.Mkfifo(fifo, 0o600))
	feed := make(chan error, 1)
	go func() { feed <- feedFIFO(fifo, layer) }()
	runQuietly(t, "", "create", "-l", "warn", "--type", "tar-tarfs", "--bootstrap", boot, "--blob-id", id, "--blob-dir", blobs, fifo)
	must(t, <-feed)
	return boot
}

func TestSnapshotterMakesDisksOfPlainTars(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Erofs)
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs")
	must(t, os.Mkdir(blobs, 0o755))
	var boots []string
	ids := []string{strings.Repeat("a1", 32), strings.Repeat("b2", 32)}
	for i, l := range converterLayers {
		layer := layerTar(t, l...)
		boots = append(boots, tarfsLayer(t, layer, ids[i], blobs))
		if got, err := os.ReadFile(filepath.Join(blobs, ids[i])); err != nil || string(got) != string(layer) {
			t.Errorf("layer %d: the blob is not the tar: %d bytes, %v", i, len(got), err)
		}
	}
	image, disk := filepath.Join(dir, "image.boot"), filepath.Join(dir, "image.disk")
	runQuietly(t, "", "merge", "-l", "warn", "--bootstrap", image, boots[0], boots[1])

	out, err := nydusImageCommand(t.Context(), "inspect", "-R blobs", image).CombinedOutput()
	var list []inspectBlob
	must(t, err, json.Unmarshal(out, &list))
	if len(list) != 2 || list[0].BlobID != ids[0] && list[0].BlobID != ids[1] {
		t.Errorf("blobs %+v", list)
	}

	out, err = nydusImageCommand(t.Context(), "export", "-l", "warn", "--block", "--localfs-dir", blobs, "--bootstrap", image, "--output", disk, "--verity").Output()
	must(t, err)
	var blocks, offset uint64
	var root string
	_, err = fmt.Sscanf(string(out), "dm-verity options: --no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=512 --hash-block-size=4096 --data-blocks %d --hash-offset %d %s\n",
		&blocks, &offset, &root)
	must(t, err)
	if p := testenv.Program("veritysetup"); p != "" {
		out, err := exec.Command(p, "verify", "--no-superblock", "--format=1", "-s", "-", "--hash=sha256", "--data-block-size=512", "--hash-block-size=4096",
			fmt.Sprint("--data-blocks=", blocks), fmt.Sprint("--hash-offset=", offset), disk, disk, root).CombinedOutput()
		if err != nil {
			t.Errorf("veritysetup: %v\n%s", err, out)
		}
	}
	mount := testimage.MountErofs(t, disk, nil)
	got, err := testtree.Scan(mount, testtree.ScanOptions{})
	must(t, err)
	if !slices.Equal(paths(got), wantConverted) {
		t.Errorf("tree %q, want %q", paths(got), wantConverted)
	}
	for _, e := range slices.Concat(converterLayers...) {
		p, err := os.ReadFile(filepath.Join(mount, e.name))
		if slices.Contains(wantConverted, e.name) && e.data != "" && (err != nil || string(p) != e.data) {
			t.Errorf("%s: %d bytes, %v; want %d", e.name, len(p), err, len(e.data))
		}
	}

	// There are no digests: to read a file its blob has to be named.
	run := nydusImageCommand(t.Context(), "cat", "-D", blobs, image, "etc/passwd")
	run.Args[0] = "vrafs"
	if out, err := run.CombinedOutput(); err == nil || !strings.Contains(string(out), "--allow-unverified") {
		t.Errorf("cat of an unverified blob: %v\n%s", err, out)
	}
	run = nydusImageCommand(t.Context(), "cat", "-D", blobs, "--allow-unverified", ids[1], image, "etc/passwd")
	run.Args[0] = "vrafs"
	if out, err := run.Output(); err != nil || string(out) != "root:x:0:0::/:/bin/sh\n" {
		t.Errorf("cat: %q, %v", out, err)
	}
}
