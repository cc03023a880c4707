package kata

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// A CloudHypervisor is a machine that Cloud Hypervisor runs.
type CloudHypervisor struct {
	// API is the path of its API's socket (--api-socket).
	API string
	// Segment is the PCI segment for devices; Kata's Go runtime uses 1.
	Segment int
}

var _ Hypervisor = CloudHypervisor{}

// A fsConfig is what vm.add-fs takes.
type fsConfig struct {
	ID        string `json:"id"`
	Tag       string `json:"tag"`
	Socket    string `json:"socket"`
	Queues    int    `json:"num_queues"`
	QueueSize int    `json:"queue_size"`
	Segment   int    `json:"pci_segment"`
}

// AttachFS returns when Cloud Hypervisor has spoken with the back-end: it tries to
// connect for a minute. Device.Bus is of no use here.
func (c CloudHypervisor) AttachFS(ctx context.Context, d Device) error {
	d, err := d.complete()
	if err != nil {
		return err
	}
	if err := c.put(ctx, "vm.add-fs", fsConfig{d.ID, d.Tag, d.Socket, d.Queues, d.QueueSize, c.Segment}); err != nil {
		return fmt.Errorf("attach %s: %w", d.ID, err)
	}
	return nil
}

// DetachFS asks for the removal; the guest carries it out.
func (c CloudHypervisor) DetachFS(ctx context.Context, id string) error {
	if !validID(id) {
		return fmt.Errorf("%w: id %.64q", ErrDevice, id)
	}
	if err := c.put(ctx, "vm.remove-device", map[string]string{"id": id}); err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	return nil
}

// maxRefusal bounds what is shown of a refusal.
const maxRefusal = 4 << 10

// put carries out a command of the API.
func (c CloudHypervisor) put(ctx context.Context, command string, arg any) error {
	body, err := json.Marshal(arg)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://localhost/api/v1/"+command, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.API)
	}}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s over %s: %w", command, c.API, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s: Cloud Hypervisor answers %s: %s", command, resp.Status, strings.TrimSpace(string(text)))
	}
	return err
}
