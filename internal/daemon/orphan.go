package daemon

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// orphanTick is how often a daemon looks after its parent.
const orphanTick = 500 * time.Millisecond

// watchOrphan returns true when the daemon has been without a front-end for limit
// while its parent was dead or its socket's directory gone, and false when ctx
// ends. Kata leaves such daemons behind in many ways and can't find them again.
func watchOrphan(ctx context.Context, socket string, parent int, limit time.Duration, connected func() bool) bool {
	tick := time.NewTicker(orphanTick)
	defer tick.Stop()
	var alone time.Duration
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if connected() || !orphaned(socket, parent) {
			alone = 0
			continue
		}
		if alone += orphanTick; alone >= limit {
			return true
		}
	}
}

// orphaned reports whether the process has lost its parent or its socket's home.
func orphaned(socket string, parent int) bool {
	if os.Getppid() != parent {
		return true
	}
	var st unix.Stat_t
	return unix.Stat(filepath.Dir(socket), &st) == unix.ENOENT
}
