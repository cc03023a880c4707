package daemon

import (
	"context"
	"log/slog"

	"vrafs/api"
	"vrafs/internal/cli"
)

// Info answers GET daemon.
func (d *Daemon) Info() api.Info {
	b := &d.cfg.Build
	version := api.Version{PackageVer: b.PackageVersion(), GitCommit: b.GitCommit, BuildTime: b.BuildTime, Profile: b.Profile, Rustc: b.Compiler}
	info := api.Info{Version: version, State: d.machine.now().name()}
	if d.cfg.Singleton == nil {
		info.BackendCollection = d.mounts.collection()
	}
	if d.cfg.ID != "" {
		info.ID, info.Supervisor = &d.cfg.ID, &d.cfg.Supervisor
	}
	return info
}

// Do carries out a life-cycle command.
func (d *Daemon) Do(ctx context.Context, a api.Action) error {
	switch a {
	case api.Start:
		return d.machine.fire(evStart, d.run)
	case api.Exit:
		return d.exit()
	case api.SendFD, api.Replace:
		return d.tree.upgrade(ctx, a)
	default:
		return d.machine.fire(evTakeover, func() error { return d.tree.upgrade(ctx, a) })
	}
}

// exit stops serving and ends the process without unmounting.
func (d *Daemon) exit() error {
	if d.machine.now() == stateInit {
		if err := d.machine.fire(evStop, nil); err != nil {
			return err
		}
		d.end(errExit)
		return nil
	}
	if d.machine.now() == stateRunning {
		if err := d.machine.fire(evStop, nil); err != nil {
			return err
		}
	}
	if err := d.machine.fire(evExit, nil); err != nil {
		return err
	}
	d.end(errExit)
	return nil
}

// levelOff is above every level that is logged.
const levelOff = slog.Level(100)

// SetLogLevel changes what is logged from now on.
func (d *Daemon) SetLogLevel(level string) error {
	if level == "off" {
		d.cfg.Level.Set(levelOff)
		return nil
	}
	d.cfg.Level.Set(cli.ParseLevel(level))
	return nil
}

// Events lists recent errors.
func (d *Daemon) Events() api.Events { return d.events.snapshot() }

var errUnsupported = &api.Error{Kind: api.Unsupported}
