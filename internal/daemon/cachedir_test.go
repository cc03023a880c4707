package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vrafs/api"
	"vrafs/blobcache"
	"vrafs/config"
)

// cached opens an image of cmd, with options added to the cache's section, warms its
// cache, and lists what is then in the work directory.
func cached(t *testing.T, d *Daemon, cmd api.MountCmd, cache map[string]any) ([]string, error) {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal([]byte(cmd.Config), &c); err != nil {
		t.Fatal(err)
	}
	section := c["cache"].(map[string]any)
	dir := t.TempDir()
	files := map[string]any{"work_dir": dir}
	section["filecache"] = files
	section["prefetch"] = map[string]any{"enable": true, "prefetch_all": true, "threads_count": 1}
	c["rafs"] = map[string]any{"mode": "direct", "prefetch": section["prefetch"]}
	for k, v := range cache {
		if k == "compressed" {
			section[k] = v
		} else {
			files[k] = v
		}
	}
	text, _ := json.Marshal(c)
	parsed, err := config.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	im, err := d.openImage("/x", cmd, parsed, time.Time{})
	if err != nil {
		return nil, err
	}
	im.start()
	im.prefetch.wg.Wait()
	im.close()
	var names []string
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) == ".data" {
			names = append(names, filepath.Base(filepath.Dir(path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 1 && names[0] == filepath.Base(dir) {
		names[0] = "."
	}
	return names, nil
}

func TestCompressedCachesGetADirectoryOfTheirOwn(t *testing.T) {
	d, cmd := run(t), command(t)
	for _, tt := range []struct {
		compressed bool
		want       string
	}{{false, "."}, {true, blobcache.Uncompressed}} {
		got, err := cached(t, d, cmd, map[string]any{"compressed": tt.compressed})
		if err != nil || len(got) != 1 || got[0] != tt.want {
			t.Errorf("compressed %v: data files in %q (%v), want one in %s", tt.compressed, got, err, tt.want)
		}
	}
}

// TestOneLimitForTheWholeCacheDirectory: chunks of one configuration lie in the
// directory, those of another beneath it.
func TestOneLimitForTheWholeCacheDirectory(t *testing.T) {
	d, dir := run(t), t.TempDir()
	var images []*image
	for i, compressed := range []bool{false, true} {
		cmd := command(t)
		var c map[string]any
		if err := json.Unmarshal([]byte(cmd.Config), &c); err != nil {
			t.Fatal(err)
		}
		c["cache"] = map[string]any{"type": "filecache", "compressed": compressed,
			"filecache": map[string]any{"work_dir": dir, "size_limit": 1 << 20}}
		text, _ := json.Marshal(c)
		parsed, err := config.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		im, err := d.openImage(fmt.Sprint("/", i), cmd, parsed, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, im)
	}
	if len(d.stores.m) != 2 || len(d.stores.bound) != 1 {
		t.Errorf("%d stores with %d limits, want 2 with one", len(d.stores.m), len(d.stores.bound))
	}
	for _, im := range images {
		im.close()
	}
	if len(d.stores.bound) != 0 {
		t.Errorf("%d limits are left", len(d.stores.bound))
	}
}

func TestEncryptedCachesAreRefused(t *testing.T) {
	d, cmd := run(t), command(t)
	for _, o := range []map[string]any{
		{"enable_encryption": true, "encryption_key": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
		{"enable_convergent_encryption": true},
	} {
		if _, err := cached(t, d, cmd, o); err == nil {
			t.Errorf("%v: an image is served whose chunks would lie on the disk in clear", o)
		}
	}
}
