package kata

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kata-containers/govmm/qemu"
)

const (
	fsDriver = "vhost-user-fs-pci"
	// chardev is what a device's character device is called, from its id.
	chardev = "char-"
	// chardevTick is between two tries to remove a character device in use.
	chardevTick = 10 * time.Millisecond
)

// QEMUArguments are the arguments for a machine that has a device from the start, as
// Kata gives them. The machine's memory must be shared besides (share=on). The error
// is of class ErrDevice.
func QEMUArguments(d Device) ([]string, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	args := qemu.VhostUserDevice{
		VhostUserType: qemu.VhostUserFS, Transport: qemu.TransportPCI,
		SocketPath: d.Socket, CharDevID: chardev + d.ID, Tag: d.Tag,
	}.QemuParams(&qemu.Config{})
	if len(args) != 4 {
		return nil, fmt.Errorf("%w: %d arguments for %s", ErrDevice, len(args), d.ID)
	}
	// What the library does not know.
	args[3] += fmt.Sprintf(",id=%s,num-request-queues=%d,queue-size=%d", d.ID, d.Queues, d.QueueSize)
	if d.Bus != "" {
		args[3] += ",bus=" + d.Bus
	}
	return args, nil
}

// A QEMU is a machine that QEMU runs.
type QEMU struct {
	// QMP is the path of a monitor's socket, on which QEMU listens: -qmp
	// unix:PATH,server=on,wait=off. It serves one client at a time, so each call
	// connects anew.
	QMP string
}

var _ Hypervisor = QEMU{}

// AttachFS adds a character device for the back-end and the device.
func (q QEMU) AttachFS(ctx context.Context, d Device) error {
	d, err := d.complete()
	if err != nil {
		return err
	}
	m, err := dialQMP(ctx, q.QMP)
	if err != nil {
		return err
	}
	defer m.close()
	char := chardev + d.ID
	// A client's socket has no "wait", which the library always sends.
	err = m.do("chardev-add", map[string]any{"id": char, "backend": map[string]any{"type": "socket", "data": map[string]any{
		"addr": map[string]any{"type": "unix", "data": map[string]any{"path": d.Socket}}, "server": false}}})
	if err != nil {
		return fmt.Errorf("attach %s: connect QEMU to %s: %w", d.ID, d.Socket, err)
	}
	device := map[string]any{"driver": fsDriver, "id": d.ID, "chardev": char, "tag": d.Tag, "num-request-queues": d.Queues, "queue-size": d.QueueSize}
	if d.Bus != "" {
		device["bus"] = d.Bus
	}
	if err := m.do("device_add", device); err != nil {
		return errors.Join(fmt.Errorf("attach %s: %w", d.ID, err), m.do("chardev-remove", map[string]any{"id": char}))
	}
	return nil
}

// DetachFS waits for the guest, at most until ctx ends.
func (q QEMU) DetachFS(ctx context.Context, id string) error {
	if !validID(id) {
		return fmt.Errorf("%w: id %.64q", ErrDevice, id)
	}
	gone := make(chan struct{})
	m, _, err := qemu.QMPStart(ctx, q.QMP, qemu.QMPConfig{}, gone)
	if err != nil {
		return fmt.Errorf("connect to QEMU's monitor %s: %w", q.QMP, err)
	}
	defer func() {
		m.Shutdown()
		<-gone
	}()
	if err := m.ExecuteQMPCapabilities(ctx); err != nil {
		return fmt.Errorf("QEMU's monitor: %w", err)
	}
	if err := m.ExecuteDeviceDel(ctx, id); err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	// The character device may go a moment after the device that used it.
	tick := time.NewTicker(chardevTick)
	defer tick.Stop()
	for err = m.ExecuteChardevDel(ctx, chardev+id); err != nil && strings.Contains(err.Error(), "busy"); err = m.ExecuteChardevDel(ctx, chardev+id) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("detach %s: %w", id, err)
		}
	}
	if err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	return nil
}
