package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"vrafs/internal/apiclient"
	"vrafs/internal/cli"
)

const (
	// upgradePatience is how long a daemon may take to become another program.
	upgradePatience = time.Minute
	upgradeTick     = 20 * time.Millisecond
)

// upgrade has a daemon become the program that is installed at its path now, and waits
// for that.
func (c *ctl) upgrade(ctx context.Context, d *apiclient.Client, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, upgradePatience)
	defer cancel()
	before, err := livesOf(ctx, d)
	if err != nil {
		return cli.Hint(err, "only vrafsd virtiofs can be upgraded in place")
	}
	failures, err := failuresOf(ctx, d)
	if err != nil {
		return err
	}
	if _, err := d.Do(ctx, "PUT", "/api/v1/daemon/upgrade", nil); err != nil {
		return err
	}
	tick := time.NewTicker(upgradeTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.New("the daemon has not become the new program within a minute; its log says why")
		case <-tick.C:
		}
		d.Close() // connections lead to the former program
		now, err := livesOf(ctx, d)
		switch {
		case err != nil: // in between
		case now.lives > before.lives && now.pause > 0:
			_, err := fmt.Fprintf(w, "upgraded; requests stood still for %v\n", now.pause.Round(100*time.Microsecond))
			return err
		default:
			if list, err := failuresOf(ctx, d); err == nil && len(list) > len(failures) {
				return fmt.Errorf("the daemon goes on as it was: %s", list[len(list)-1])
			}
		}
	}
}

// A life is what a daemon says of its upgrades.
type life struct {
	lives uint64
	pause time.Duration
}

func livesOf(ctx context.Context, d *apiclient.Client) (l life, err error) {
	text, err := d.Do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return l, err
	}
	found := false
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "vrafs_upgrades_total":
			l.lives, err = strconv.ParseUint(value, 10, 64)
			found = err == nil
		case "vrafs_upgrade_pause_seconds":
			if seconds, err := strconv.ParseFloat(value, 64); err == nil {
				l.pause = time.Duration(seconds * float64(time.Second))
			}
		}
	}
	if !found {
		return l, errors.New("the daemon counts no upgrades")
	}
	return l, nil
}

// failuresOf lists the upgrades that failed.
func failuresOf(ctx context.Context, d *apiclient.Client) (list []string, err error) {
	var events struct{ Errors []string }
	if err := d.Get(ctx, "/api/v1/daemon/events", &events); err != nil {
		return nil, err
	}
	for _, e := range events.Errors {
		if _, text, ok := strings.Cut(e, " - upgrade: "); ok {
			list = append(list, text)
		}
	}
	return list, nil
}
