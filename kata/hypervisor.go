package kata

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"path"
	"strings"
)

// ErrDevice is the class of devices that no hypervisor can have.
var ErrDevice = errors.New("bad virtio-fs device")

// A Device is a virtio-fs device with a vhost-user back-end that listens.
type Device struct {
	ID        string // its name in the hypervisor: a letter, then letters, digits and -._
	Tag       string // what the guest mounts, 1 to 36 bytes
	Socket    string // absolute path of the back-end's socket
	Queues    int    // request queues; 0: 1. At most the number of virtual CPUs
	QueueSize int    // entries, a power of two up to 1024; 0: 1024
	Bus       string // where to plug it in; "": the hypervisor's choice
}

// A Hypervisor is one running virtual machine. Guest memory must be shared. One call
// is served after the other.
type Hypervisor interface {
	// AttachFS plugs a device into the running machine. When it returns the back-end
	// is connected, and the guest may mount the tag as soon as its driver has seen the
	// device.
	AttachFS(ctx context.Context, d Device) error
	// DetachFS takes a device away again, and returns when the guest has let go of it.
	// The guest should have unmounted it.
	DetachFS(ctx context.Context, id string) error
}

const (
	maxTag       = 36
	maxSocket    = 107 // bytes that fit into a Unix address
	maxQueueSize = 1024
	maxQueues    = 64
)

// complete fills in defaults and refuses what can't be.
func (d Device) complete() (Device, error) {
	if d.Queues == 0 {
		d.Queues = 1
	}
	if d.QueueSize == 0 {
		d.QueueSize = maxQueueSize
	}
	bad := func(format string, a ...any) (Device, error) {
		return d, fmt.Errorf("%w: "+format, append([]any{ErrDevice}, a...)...)
	}
	switch {
	case !validID(d.ID) || d.Bus != "" && !validID(d.Bus):
		return bad("id %.64q or bus %.64q", d.ID, d.Bus)
	case d.Tag == "" || len(d.Tag) > maxTag || !plain(d.Tag):
		return bad("tag %.64q is not 1 to %d printable bytes without a comma", d.Tag, maxTag)
	case !path.IsAbs(d.Socket) || len(d.Socket) > maxSocket || !plain(d.Socket):
		return bad("socket %.128q is not an absolute path of at most %d printable bytes without a comma", d.Socket, maxSocket)
	case d.Queues < 1 || d.Queues > maxQueues:
		return bad("%d request queues, 1 to %d are possible", d.Queues, maxQueues)
	case d.QueueSize < 2 || d.QueueSize > maxQueueSize || bits.OnesCount(uint(d.QueueSize)) != 1:
		return bad("queue size %d is no power of two up to %d", d.QueueSize, maxQueueSize)
	}
	return d, nil
}

// validID reports whether a hypervisor takes a name as it is.
func validID(id string) bool {
	if len(id) > 64 {
		return false
	}
	for i, c := range []byte(id) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && !strings.ContainsRune("-._", rune(c))) {
			return false
		}
	}
	return id != ""
}

// plain reports whether a text can stand in a command line's list of options.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ',' })
}
