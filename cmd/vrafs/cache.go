package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"vrafs/blobcache"
	"vrafs/internal/cli"
	"vrafs/internal/opener"
)

// A cacheTool holds the command lines of vrafs cache, which looks after a daemon's
// cache directory from outside.
type cacheTool struct {
	dir   string
	limit uint64 // MiB
	dry   bool
	evict bool
	place
}

func newCache() *cli.Command {
	c := &cacheTool{}
	dir := func() []*cli.Arg {
		return []*cli.Arg{{Name: "DIR", Help: "Cache directory (work_dir of a configuration)", Required: true, Set: cli.Str(&c.dir)}}
	}
	return &cli.Command{Name: "cache", About: "Look after a daemon's cache directory", Commands: []*cli.Command{
		{Name: "ls", About: "List the blobs in a cache directory, least recently used first", Args: dir(), Run: c.ls},
		{
			Name: "gc", About: "Remove the least recently used blobs that no process has open", Args: dir(),
			Options: []*cli.Option{
				{Long: "limit", Value: "MiB", Help: "Remove until so much is left, in MiB; 0 for all that is not in use", Required: true, Set: cli.Uint(&c.limit, 0, 1<<40)},
				{Long: "dry-run", Short: 'n', Help: "Only say what would be removed", Set: cli.Flag(&c.dry)},
			},
			Run: c.gc,
		},
		{
			Name: "verify", About: "Compare what a cache directory holds of an image with the image's digests", Args: dir(),
			Options: []*cli.Option{
				c.bootstrapOption(), c.dirOption(), c.configOption(),
				{Long: "evict", Help: "Remove blobs with wrong chunks, if no process has them open", Set: cli.Flag(&c.evict)},
			},
			Run: c.verify,
		},
	}}
}

// check finds a directory that is not there, which to a daemon is an empty one.
func (c *cacheTool) check() error {
	d, err := opener.Local().Open(c.dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return cli.Hint(err, "name the work_dir of the daemon's configuration, or its --localfs-dir")
	}
	return d.Close()
}

// A cachedBlob is a blob in the cache directory, or in the one beneath it.
type cachedBlob struct {
	blobcache.BlobUse
	dir, name string // where it is, and its path below the cache directory
}

func (c *cacheTool) survey() (all []cachedBlob, total uint64, err error) {
	if err := c.check(); err != nil {
		return nil, 0, err
	}
	for _, sub := range []string{"", blobcache.Uncompressed} {
		dir := filepath.Join(c.dir, sub)
		list, err := blobcache.Survey(opener.Local(), dir)
		if err != nil {
			return nil, 0, err
		}
		for _, u := range list {
			all = append(all, cachedBlob{u, dir, cli.Quote(filepath.Join(sub, u.ID))})
			total += u.Bytes
		}
	}
	slices.SortStableFunc(all, func(a, b cachedBlob) int { return a.Used.Compare(b.Used) })
	return all, total, nil
}

// mib shows bytes in MiB, as every size on these command lines.
func mib(n uint64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

func (c *cacheTool) ls(_ context.Context, env *cli.Env) error {
	list, total, err := c.survey()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "BLOB\tMiB\tLAST USED\tIN USE")
	for i := range list {
		u := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.name, mib(u.Bytes), u.Used.UTC().Format(time.DateTime), inUse(u.dir, u.ID))
	}
	fmt.Fprintf(w, "%d blobs\t%s\t\t\n", len(list), mib(total))
	return w.Flush()
}

// inUse says whether a process has the files of a blob open.
func inUse(dir, id string) string {
	switch err := blobcache.Idle(opener.Local(), dir, id); {
	case errors.Is(err, blobcache.ErrInUse):
		return "yes"
	case err != nil:
		return "unknown"
	}
	return "no"
}

func (c *cacheTool) gc(_ context.Context, env *cli.Env) error {
	list, total, err := c.survey()
	if err != nil {
		return err
	}
	left, used := total, 0
	var bad error
	for i := range list {
		u := &list[i]
		if left <= c.limit<<20 {
			break
		}
		freed, err := c.remove(u)
		switch {
		case errors.Is(err, blobcache.ErrInUse):
			used++
			continue
		case err != nil: // the others may free enough
			bad = errors.Join(bad, fmt.Errorf("blob %s: %w", u.name, err))
			continue
		}
		left -= min(freed, left)
		if _, err := fmt.Fprintf(env.Stdout, "%s  %s MiB\n", u.name, mib(u.Bytes)); err != nil {
			return err
		}
	}
	verb := "removed"
	if c.dry {
		verb = "to remove"
	}
	_, err = fmt.Fprintf(env.Stdout, "%s MiB %s, %s MiB left\n", mib(total-left), verb, mib(left))
	if err = errors.Join(err, bad); err == nil && left > c.limit<<20 {
		err = cli.Hint(fmt.Errorf("%s MiB are left, the limit is %d MiB: the other %d blobs are in use", mib(left), c.limit, used),
			"unmount images, or give the daemons a limit (--cache-limit): only they can evict parts of what they use")
	}
	return err
}

// remove evicts a blob and gives the bytes that its files took.
func (c *cacheTool) remove(u *cachedBlob) (uint64, error) {
	if c.dry {
		return u.Bytes, blobcache.Idle(opener.Local(), u.dir, u.ID)
	}
	_, err := blobcache.Evict(opener.Local(), u.dir, u.ID)
	return u.Bytes, err
}

func (c *cacheTool) verify(ctx context.Context, env *cli.Env) error {
	if c.bootstrap == "" {
		return &cli.UsageError{Text: "cache verify needs '--bootstrap <bootstrap>'"}
	}
	if err := c.check(); err != nil {
		return err
	}
	im, err := c.open()
	if err != nil {
		return err
	}
	defer im.Close()
	var bad []string
	var out error
	err = blobcache.Verify(ctx, opener.Local(), c.dir, im.Image, im.blobs, func(r *blobcache.BlobReport) {
		_, err := fmt.Fprintf(env.Stdout, "%s  %d chunks, %d present, %d wrong, %d without digest\n", r.ID, r.Chunks, r.Present, r.Wrong, r.Unknown)
		out = errors.Join(out, err)
		if r.Wrong > 0 {
			bad = append(bad, r.ID)
			env.Log.Warn(fmt.Sprintf("blob %s: chunk %d is the first that differs", r.ID, r.First))
		}
	})
	if err = errors.Join(err, out); err != nil || len(bad) == 0 {
		return err
	}
	if !c.evict {
		return cli.Hint(fmt.Errorf("%d blobs have wrong chunks", len(bad)), "vrafsd fetches those again by itself; for nydusd remove the blobs with --evict")
	}
	for _, id := range bad {
		if _, err := blobcache.Evict(opener.Local(), c.dir, id); err != nil {
			return fmt.Errorf("blob %s: %w", id, err)
		}
	}
	_, err = fmt.Fprintf(env.Stdout, "%d blobs removed\n", len(bad))
	return err
}
