package virtiofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"vrafs/fusesrv"
	"vrafs/internal/tlv"
	"vrafs/vhostuser"
)

const (
	// DeviceID is virtio-fs' among virtio devices.
	DeviceID = 26

	maxTag     = 36
	configSize = 44

	// MaxQueues is how many request queues a device can have.
	MaxQueues      = 64
	defaultQueues  = 8
	defaultWorkers = 32
	defaultBytes   = 64 << 20
)

// ErrOptions is the class of options that no device can have.
var ErrOptions = errors.New("bad virtio-fs device options")

// Options are the knobs of a Device. The zero value is usable.
type Options struct {
	// Tag is the name that a guest mounts, up to 36 bytes; front-ends that have one
	// of their own do not ask for it.
	Tag string
	// Queues is the number of request queues; 0: 8.
	Queues int
	// Workers bounds the requests that are fetched for at once; 0: 32.
	Workers int
	// MaxBytes bounds the buffers of these in bytes; one may always run. 0: 64
	// MiB.
	MaxBytes uint64
	// Save and Load move the state of the file system to another process and
	// back, beside what INIT agreed on. Without them the device does not migrate.
	Save func() []byte
	Load func(state []byte) error
}

// A Device is a virtio-fs device. It outlives connections.
type Device struct {
	s    *fusesrv.Server
	o    Options
	pool pool
}

var _ vhostuser.Device = (*Device)(nil)

// New returns a device that serves s, to be closed.
func New(s *fusesrv.Server, o Options) (*Device, error) {
	if o.Queues == 0 {
		o.Queues = defaultQueues
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	switch {
	case len(o.Tag) > maxTag:
		return nil, fmt.Errorf("%w: tag %q has more than %d bytes", ErrOptions, o.Tag, maxTag)
	case o.Queues < 1 || o.Queues > MaxQueues:
		return nil, fmt.Errorf("%w: %d request queues, 1 to %d are possible", ErrOptions, o.Queues, MaxQueues)
	case o.Workers < 1:
		return nil, fmt.Errorf("%w: %d workers", ErrOptions, o.Workers)
	}
	d := &Device{s: s, o: o}
	d.pool = pool{s: s, free: o.Workers, room: int64(o.MaxBytes)}
	return d, nil
}

// Close waits for the workers. No connection may be served any more.
func (d *Device) Close() { d.pool.close() }

// Properties says how many queues there are and, if there is a tag to tell, the
// configuration space (virtio 1.2, 5.11.4). Without a tag the front-end has its own
// and must not be shown another.
func (d *Device) Properties() vhostuser.Properties {
	p := vhostuser.Properties{Queues: 1 + d.o.Queues, Migratable: d.o.Save != nil && d.o.Load != nil}
	if d.o.Tag == "" {
		return p
	}
	config := make([]byte, configSize)
	copy(config[:maxTag], d.o.Tag)
	binary.LittleEndian.PutUint32(config[maxTag:], uint32(d.o.Queues))
	p.Config = config
	return p
}

// StartQueue returns who serves a ring.
func (d *Device) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler { return newQueue(d, v) }

// Reset ends the FUSE session.
func (d *Device) Reset() { d.s.Reset() }

// The state of a device. Version 1 is the first.
const (
	stateMagic   = "vrafsvfs"
	stateVersion = 1
	stateReader  = 1

	tagSettings = 1 | tlv.Required // none before INIT
	tagFS       = 2 | tlv.Required

	maxState = 64 << 20
)

// State returns what another process needs to go on with the guest.
func (d *Device) State() []byte {
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	if t := d.s.Settings(); t.Major != 0 {
		e.Bytes(tagSettings, t.Save())
	}
	if d.o.Save != nil {
		e.Bytes(tagFS, d.o.Save())
	}
	return e.Finish()
}

// Restore goes on with the guest of another process. After an error nothing has
// changed.
func (d *Device) Restore(state []byte) error {
	records, err := tlv.Read(state, stateMagic, stateVersion, tagSettings, tagFS)
	if err != nil {
		return err
	}
	var settings *fusesrv.Settings
	var fs []byte
	for _, r := range records {
		switch r.Tag {
		case tagFS:
			fs = r.Value
		case tagSettings:
			t, err := fusesrv.ParseSettings(r.Value)
			if err != nil {
				return err
			}
			settings = &t
		}
	}
	if fs != nil && d.o.Load != nil {
		if err := d.o.Load(fs); err != nil {
			return err
		}
	}
	if settings != nil {
		d.s.Restore(*settings)
	}
	return nil
}

// SaveState writes State for migration.
func (d *Device) SaveState(w io.Writer) error {
	_, err := w.Write(d.State())
	return err
}

// LoadState restores what SaveState wrote.
func (d *Device) LoadState(r io.Reader) error {
	state, err := io.ReadAll(io.LimitReader(r, maxState+1))
	if err != nil {
		return err
	}
	if len(state) > maxState {
		return fmt.Errorf("%w: more than %d bytes", tlv.ErrFormat, maxState)
	}
	return d.Restore(state)
}
