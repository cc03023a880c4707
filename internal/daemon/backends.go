package daemon

import (
	"fmt"

	"vrafs/backend"
	"vrafs/backend/localfs"
	"vrafs/config"
)

// openBackend makes the back end that a configuration names. It reads nothing
// yet: a blob that isn't there shows at its first read.
func (d *Daemon) openBackend(c *config.Config) (backend.Opener, error) {
	b := c.Backend
	if b == nil {
		return nil, fmt.Errorf("invalid argument `the configuration names no backend`")
	}
	switch b.Type {
	case config.LocalFSType:
		return localfs.New(d.o, localfs.Options{File: b.LocalFS.BlobFile, Dir: b.LocalFS.Dir, AltDirs: b.LocalFS.AltDirs})
	default:
		return nil, fmt.Errorf("backend type `%s` is not built into this version; use localfs", b.Type)
	}
}
