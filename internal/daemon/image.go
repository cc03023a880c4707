package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/api"
	"vrafs/blobcache"
	"vrafs/config"
	"vrafs/fusesrv/imagefs"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/bootload"
	"vrafs/internal/filelist"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// An image is a mounted RAFS image with everything it is made of.
type image struct {
	place   string
	config  *config.Config
	boot    *bootload.Bootstrap
	super   api.SuperBlock
	mount   mountfs.MountOptions
	cache   *blobcache.Cache
	view    *imagefs.FS
	files   *fileStats // nil unless the configuration asks for one of its parts
	backend *backendStats

	cacheRoot     string          // the cache directory that the configuration names
	prefetchFiles []filelist.File // instead of the image's own table, unless nil
	prefetch      *prefetcher

	log  *slog.Logger
	once sync.Once
	// release gives back the store and, if there is one, the private directory.
	release func()
}

// openImage opens the image of a mount command. It asks no network: a blob that
// can't be had shows at its first read.
func (d *Daemon) openImage(place string, cmd api.MountCmd, c *config.Config, since time.Time) (*image, error) {
	im := &image{place: place, config: c, prefetchFiles: fileList(cmd.PrefetchFiles), backend: &backendStats{}, log: d.log, release: func() {}}
	err := guarded(func() (err error) {
		if im.boot, err = bootload.Open(d.o, cmd.Source); err != nil {
			return err
		}
		if err := d.fill(im, since); err != nil {
			return fmt.Errorf("%s: %w", cmd.Source, err)
		}
		return nil
	})
	if err != nil {
		im.close()
		return nil, fmt.Errorf("open image: %w", err)
	}
	d.log.Info("RAFS features: " + strings.ReplaceAll(im.boot.Image.Flags().String(), "|", " | "))
	return im, nil
}

// fit refuses what a configuration asks for and this version can't keep to, where
// that would be less than the user relies on; the rest is a warning.
func (d *Daemon) fit(place string, c *config.Config) error {
	if f := c.Cache.FileCache; f != nil && (f.EnableEncryption || f.EnableConvergentEncryption) {
		return errors.New("an encrypted cache is not built into this version; set enable_encryption to false")
	}
	for option, set := range map[string]bool{"overlay": c.Overlay != nil} {
		if set {
			d.log.Warn("configuration has no effect here", "mountpoint", place, "option", option)
		}
	}
	return nil
}

// fill makes the parts above the bootstrap.
func (d *Daemon) fill(im *image, since time.Time) error {
	if err := d.fit(im.place, im.config); err != nil {
		return err
	}
	if err := d.cacheDir(im); err != nil {
		return err
	}
	blobs, disconnect, err := d.openBackend(im.place, im.config)
	if err != nil {
		return err
	}
	im.release = chain(disconnect, im.release)
	store, release, err := d.stores.lease(im.config, im.cacheRoot)
	if err != nil {
		return err
	}
	im.release = chain(release, im.release)
	im.cache, err = store.Open(im.boot.Image, blobs, blobcache.ImageOptions{
		AllowUnverified: im.config.Cache.AllowUnverified,
		Observe:         d.observer(im),
		Wrong:           d.doubter(im),
	})
	if err != nil {
		return err
	}
	r := &im.config.Rafs
	if r.IOStatsFiles || r.AccessPattern || r.LatestReadFiles {
		im.files = &fileStats{accounts: r.IOStatsFiles, pattern: r.AccessPattern, latest: r.LatestReadFiles, files: map[uint64]*fileRecord{}}
	}
	im.view, err = imagefs.New(im.boot.Image, im.boot.Bytes(), im.cache, imagefs.Options{
		Xattr: r.EnableXattr, Validate: r.Validate && im.boot.Image.Version() == rafs.V5, MountTime: since,
	})
	if err != nil {
		return err
	}
	im.prefetch = newPrefetcher(im.boot.Image, im.cache, im.log.With("mountpoint", im.place))
	im.super, im.mount = superBlock(im.boot.Image, im.boot.Bytes()), im.mountOptions()
	return nil
}

func chain(first, then func()) func() { return func() { first(); then() } }

// privateDirs numbers the cache directories of images whose configuration has no
// cache.
var privateDirs atomic.Uint64

// cacheDir sees to it that the configuration has a file cache. v5 may have none:
// then its data goes to a directory of its own that ends with the mount.
func (d *Daemon) cacheDir(im *image) error {
	switch im.config.Cache.Kind() {
	case config.FileCacheOn:
		im.cacheRoot = im.config.Cache.FileCache.WorkDir
		return d.uncompressed(im)
	case config.FSCacheOn:
		return errors.New("cache type fscache needs `singleton`; use blobcache")
	}
	if im.boot.Image.Version() == rafs.V6 {
		return errors.New("Rafs v6 must have local blobcache configured") //lint:ignore ST1005 nydusd's text
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("vrafsd-%d-%d", os.Getpid(), privateDirs.Add(1)))
	if err := d.o.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c := *im.config
	c.Cache.Type, c.Cache.FileCache = "blobcache", &config.FileCache{WorkDir: dir}
	im.config, im.cacheRoot = &c, dir
	im.release = func() { removeDir(d.o, dir) }
	return nil
}

// uncompressed keeps our chunks apart from a nydusd's whose configuration has
// cache.compressed set. There a chunk map of the same name tells of chunks in another
// file (<id>.blob.raw), so a bit of ours would make that nydusd serve zeros.
func (d *Daemon) uncompressed(im *image) error {
	if !im.config.Cache.Compressed || im.boot.Image.Tarfs() {
		return nil
	}
	c, f := *im.config, *im.config.Cache.FileCache
	f.WorkDir = filepath.Join(f.WorkDir, blobcache.Uncompressed)
	if err := d.o.MkdirAll(f.WorkDir, 0o755); err != nil {
		return fmt.Errorf("make cache directory: %w", err)
	}
	d.log.Warn("chunks are cached uncompressed, apart from compressed ones", "mountpoint", im.place, "option", "cache.compressed", "dir", f.WorkDir)
	c.Cache.Compressed, c.Cache.FileCache = false, &f
	im.config = &c
	return nil
}

// removeDir deletes a directory of files.
func removeDir(o opener.Opener, dir string) {
	f, err := o.Open(dir, os.O_RDONLY, 0)
	if err != nil {
		return
	}
	names, _ := f.Readdirnames(-1)
	_ = f.Close()
	for _, n := range names {
		_ = o.Remove(filepath.Join(dir, n))
	}
	_ = o.Remove(dir)
}

// observer counts and logs the back-end requests of an image.
func (d *Daemon) observer(im *image) func(int, time.Duration, error) {
	return func(bytes int, took time.Duration, err error) {
		if errors.Is(err, blobcache.ErrClosed) {
			return // nobody waits for it any more
		}
		im.backend.observe(bytes, took, err)
		switch {
		case err != nil:
			if remark, due := d.troubles.meet(troubleOf(im.place, err), time.Now()); due {
				d.events.add(fmt.Sprintf("read from backend of %s: %v%s", im.place, err, remark))
				d.log.Warn("Read from backend failed"+remark, "mountpoint", im.place, "err", err)
			}
		case isSlow(bytes, took):
			d.limiter.Warn(d.log, "Slow read from backend", "mountpoint", im.place, "bytes", bytes, "took", took)
		}
	}
}

// doubter counts and logs data that are not what the image says.
func (d *Daemon) doubter(im *image) func(error) {
	from := im.config.Backend.Place()
	return func(err error) {
		im.backend.wrong(err)
		t := troubleOf(im.place, err)
		t.host = from
		if remark, due := d.troubles.meet(t, time.Now()); due {
			d.events.add(fmt.Sprintf("data of %s: %v; they came from %s: look for who changes data there or on the way%s", im.place, err, from, remark))
			d.log.Warn("Wrong data from backend"+remark, "mountpoint", im.place, "from", from, "err", err)
		}
	}
}

// mountOptions are how the image is mounted. Its identity is the bootstrap's
// content.
func (im *image) mountOptions() mountfs.MountOptions {
	p := im.boot.Bytes()
	o := mountfs.MountOptions{Identity: fmt.Sprintf("rafs %08x %d", imagefs.Generation(p), len(p)), Xattrs: im.view.HasXattrs()}
	if im.files != nil {
		o.Observe = im.files.observe
	}
	return o
}

// start begins to warm the cache if the configuration says so.
func (im *image) start() { im.prefetch.begin(newWarmUp(im.config), im.prefetchFiles) }

// close releases the image or what there is of it, once. Nobody may be asking it
// for anything any more.
func (im *image) close() { im.once.Do(im.end) }

func (im *image) end() {
	if im.prefetch != nil {
		im.prefetch.stop()
	}
	if im.cache != nil {
		_ = im.cache.Close()
	}
	if im.prefetch != nil {
		im.prefetch.wg.Wait()
	}
	im.release()
	if im.boot != nil {
		_ = im.boot.Close()
	}
}

// fileStats answers GET metrics/files.
func (im *image) fileStats(latest bool) any {
	if latest {
		return im.files.recentReads()
	}
	return im.files.byInode()
}
