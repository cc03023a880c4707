package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// An override is a configuration value set over the API.
type override struct{ id, key, value string }

// overrides are configuration values set over the API, by mountpoint.
type overrides struct {
	mu sync.Mutex
	m  map[string]map[string]string
}

func (o *overrides) get(id string) map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.m[id])
}

// values are those of some of an id's keys at one moment; empty where there are none.
func (o *overrides) values(id string, keys ...string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = o.m[id][k]
	}
	return list
}

// maxOverrides bounds the ids with values.
const maxOverrides = 100_000

func (o *overrides) set(id string, values map[string]string) error {
	if strings.ContainsRune(id, 0) {
		return errors.New("an id with a NUL in it")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m[id] == nil && len(o.m) >= maxOverrides {
		return fmt.Errorf("more than %d ids", maxOverrides)
	}
	if o.m == nil {
		o.m = map[string]map[string]string{}
	}
	if o.m[id] == nil {
		o.m[id] = map[string]string{}
	}
	maps.Copy(o.m[id], values)
	return nil
}

// list is everything that was set, in an order.
func (o *overrides) list() []override {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []override
	for id, values := range o.m {
		for k, v := range values {
			all = append(all, override{id, k, v})
		}
	}
	slices.SortFunc(all, func(a, b override) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.key, b.key)) })
	return all
}

// restore sets what a predecessor was told.
func (o *overrides) restore(all []override) error {
	for _, v := range all {
		if err := o.set(v.id, map[string]string{v.key: v.value}); err != nil {
			return err
		}
	}
	return nil
}

// Override returns the values set over the API for a mountpoint.
func (d *Daemon) Override(id string) map[string]string { return d.overrides.get(id) }

// SetOverride keeps values for a mountpoint, for a successor too: credentials that
// were renewed stay so. Back ends ask for them at every request.
func (d *Daemon) SetOverride(id string, values map[string]string) error {
	leave, err := d.commands.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := d.overrides.set(id, values); err != nil {
		return err
	}
	d.troubles.over(id) // what goes on after the change is news
	return d.tree.save()
}
