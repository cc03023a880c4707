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
		Setting: func(key, configured string) string { return d.setting(place, key, configured) },
	})
}

// setting is what the API set for a mountpoint or for the daemon, and else what was
// configured.
func (d *Daemon) setting(place, key, configured string) string {
	for _, id := range []string{place, ""} {
		if v := d.overrides.value(id, key); v != "" {
			return v
		}
	}
	return configured
}
