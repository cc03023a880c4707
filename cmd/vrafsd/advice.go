package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"vrafs/internal/bootload"
	"vrafs/internal/cli"
	"vrafs/internal/opener"
)

// advise tells what to do about a daemon that did not start: it looks at the places
// that the command line names.
func (p *program) advise(err error) error {
	for _, s := range []struct{ option, path string }{{"sock", p.virtiofs.Socket}, {"apisock", p.cfg.APISocket}} {
		if s.path == "" {
			continue
		}
		if st, bad := os.Stat(filepath.Dir(s.path)); bad != nil || !st.IsDir() {
			return cli.Hint(err, "make the directory of --%s first", s.option)
		}
		if st, bad := os.Lstat(s.path); bad == nil && st.IsDir() {
			return cli.Hint(err, "give --%s a name in that directory", s.option)
		}
	}
	switch {
	case errors.Is(err, bootload.ErrNotImage), errors.Is(err, opener.ErrNotRegular):
		return cli.Hint(err, "give --bootstrap the file of a bootstrap, or a data blob that holds one")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "check the paths on the command line")
	}
	return err
}
