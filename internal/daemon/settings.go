package daemon

import (
	"vrafs/backend"
	"vrafs/config"
	"vrafs/internal/backends"
)

// openBackend makes the back end that a configuration names, for what is mounted at
// place, and what releases it.
func (d *Daemon) openBackend(place string, c *config.Config) (backend.Opener, func(), error) {
	return backends.Open(c.Backend, backends.Options{
		Opener: d.o, Header: d.cfg.Header, Network: d.network, Log: d.log.With("mountpoint", place),
		Set: func(keys ...string) []string { return d.set(place, keys...) },
	})
}

// set is what the API set for a mountpoint or for the daemon, in one place for all the
// keys: where the first of them is. nil: nowhere.
func (d *Daemon) set(place string, keys ...string) []string {
	for _, id := range []string{place, ""} {
		if v := d.overrides.values(id, keys...); v[0] != "" {
			return v
		}
	}
	return nil
}
