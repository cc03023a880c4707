package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/api"
	"vrafs/config"
	"vrafs/rafs"
)

// An image bound to a singleton daemon is in the table of mounts, at no place of a
// tree: "domain/id", or "id" alone. Ids have no slash, so no two share a name. What is
// done for it without the kernel is what a mount does in the background: its blobs are
// opened, counted and prefetched.

// errNotBound is the text that nydus-snapshotter knows.
var errNotBound = errors.New("blob_cache: cache entry not found")

// boundName is the key of a bound image.
func boundName(domain, id string) string {
	if domain == "" {
		return id
	}
	return domain + "/" + id
}

// PutBlob binds an image to a singleton daemon.
func (d *Daemon) PutBlob(_ context.Context, text []byte) error {
	if d.cfg.Singleton == nil {
		return errUnsupported
	}
	e, err := config.ParseBlobEntry(text)
	if err == nil {
		err = usable(e)
	}
	if err != nil {
		return d.note("bind", api.Errorf(api.BadRequest, "blob_cache: %v", err))
	}
	return d.note("bind "+boundName(e.DomainID, e.ID), d.bind(e))
}

// usable checks what an entry says by itself.
func usable(e *config.BlobEntry) error {
	switch {
	case e.Type != "bootstrap":
		return fmt.Errorf("invalid blob type %.64q; only bootstrap can be bound", e.Type)
	case e.ID == "":
		return errors.New("`id` is empty")
	case e.MetadataPath == "":
		return errors.New("`metadata_path` is empty")
	case e.Config.Backend == nil:
		return errors.New("the configuration names no backend")
	case e.Config.Cache.Kind() == config.NoCache:
		return errors.New("the cache type must be fscache or filecache")
	}
	return nil
}

// bind opens an image and keeps it.
func (d *Daemon) bind(e *config.BlobEntry) error {
	if err := usable(e); err != nil {
		return fmt.Errorf("blob_cache: %w", err)
	}
	name := boundName(e.DomainID, e.ID)
	old, release := d.mounts.claim(name)
	defer release()
	if old != nil {
		return fmt.Errorf("blob_cache: %s is bound already", name)
	}
	im, err := d.openBound(name, e)
	if err != nil {
		return fmt.Errorf("blob_cache: %w", err)
	}
	d.mounts.put(&mounted{place: name, since: time.Now(), entry: e, content: &content{kind: e.Type, image: im, start: im.start, close: im.close}})
	im.start()
	d.log.Info("image bound", "blob", name, "metadata", e.MetadataPath)
	return nil
}

// openBound opens the image of an entry. Its chunks go to the files that an ordinary
// cache would have in the same directory.
func (d *Daemon) openBound(name string, e *config.BlobEntry) (*image, error) {
	c := *e.Config
	if c.Cache.Kind() == config.FSCacheOn {
		c.Cache.Type, c.Cache.FileCache = "filecache", &config.FileCache{WorkDir: c.Cache.FSCache.WorkDir}
	}
	dir, err := d.o.Open(c.Cache.FileCache.WorkDir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("work_dir must exist: %w", err)
	}
	_ = dir.Close()
	im, err := d.openImage(name, api.MountCmd{Source: e.MetadataPath}, &c, time.Now())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("`metadata_path` for meta blob is not a file: %w", err)
	case err != nil:
		return nil, err
	case im.boot.Image.Version() != rafs.V6:
		im.close()
		return nil, fmt.Errorf("%s: only RAFS v6 images can be bound", e.MetadataPath)
	}
	return im, nil
}

// UnbindBlob gives up an image of a domain, or all of them. Blobs that others of the
// daemon use stay open.
func (d *Daemon) UnbindBlob(_ context.Context, domain, id string) error {
	if d.cfg.Singleton == nil {
		return errUnsupported
	}
	found := false
	for _, m := range d.mounts.list() {
		if m.entry.DomainID == domain && (id == "" || m.entry.ID == id) {
			found = d.unbind(m.place) || found
		}
	}
	if !found {
		return errNotBound
	}
	return nil
}

// unbind reports whether name was bound.
func (d *Daemon) unbind(name string) bool {
	m, release := d.mounts.claim(name)
	defer release()
	if m == nil {
		return false
	}
	d.mounts.remove(name)
	m.close()
	d.log.Info("image unbound", "blob", name)
	return true
}

// DeleteBlob would have the kernel drop a blob of its cache.
func (d *Daemon) DeleteBlob(context.Context, string) error { return errUnsupported }

// ListBlobs lists the bound images of a domain, or with "" of all.
func (d *Daemon) ListBlobs(domain string) ([]api.BoundBlob, error) {
	if d.cfg.Singleton == nil {
		return nil, errUnsupported
	}
	list := []api.BoundBlob{}
	for _, m := range d.mounts.list() {
		if domain != "" && m.entry.DomainID != domain {
			continue
		}
		b := api.BoundBlob{Type: m.entry.Type, ID: m.entry.ID, DomainID: m.entry.DomainID,
			MetadataPath: m.entry.MetadataPath, Config: m.entry.Config, DataBlobs: []string{}}
		for _, blob := range m.image.boot.Image.Blobs() {
			b.DataBlobs = append(b.DataBlobs, strings.ToValidUTF8(blob.ID, "?"))
		}
		list = append(list, b)
	}
	return list, nil
}
