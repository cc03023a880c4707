package testns

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A Host is a network namespace, whose loopback is up. It ends with the test.
type Host struct {
	name string
	ns   netns.NsHandle
}

// NewHost makes a host that is linked to nobody. Only tests that run within Main may
// make one.
func NewHost(t testing.TB, name string) *Host {
	t.Helper()
	h := &Host{name: name}
	err := apart(func() (err error) {
		if h.ns, err = netns.New(); err != nil {
			return err
		}
		return loopbackUp()
	})
	if err != nil {
		t.Fatalf("host %s: %v", name, err)
	}
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// apart runs f on a thread that may be in another network namespace afterwards, and
// brings it back: it must not end, since it may have started programs that end with it.
func apart(f func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	err = f()
	if back := netns.Set(own); back != nil {
		return fmt.Errorf("leave a network namespace: %w", back) // and keep the thread from others
	}
	runtime.UnlockOSThread()
	return err
}

// Do runs f where the host's network is the network. What f starts on other
// goroutines is not there.
func (h *Host) Do(f func() error) error {
	return apart(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter host %s: %w", h.name, err)
		}
		return f()
	})
}

// Start starts a program on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.Do(cmd.Start) }

// Listen listens for TCP connections on the host.
func (h *Host) Listen(address string) (l net.Listener, err error) {
	err = h.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// Dial connects by TCP from the host to an address that is a number.
func (h *Host) Dial(ctx context.Context, _, address string) (c net.Conn, err error) {
	err = h.Do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

// A Wire is a link between two hosts, each with an address of its own on it.
type Wire struct {
	A, B     *Host
	AtA, AtB string // their addresses, such as 10.0.0.1/24
	// Rate is how many bytes a second go from A to B; 0 for what the machine can.
	Rate uint64
}

// Queue of a shaped link, and the most that goes through it at once, in bytes.
const (
	queue = 1 << 20
	burst = 64 << 10
)

// Connect makes the link. It ends with the hosts.
func (w *Wire) Connect(t testing.TB) {
	t.Helper()
	if err := w.connect(); err != nil {
		t.Fatalf("link between %s and %s: %v", w.A.name, w.B.name, err)
	}
}

// connect makes the pair at A and moves one end to B.
func (w *Wire) connect() error {
	a, b := w.A.name+"-"+w.B.name, w.B.name+"-"+w.A.name
	err := w.A.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b}); err != nil {
			return err
		}
		peer, err := netlink.LinkByName(b)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetNsFd(peer, int(w.B.ns)); err != nil {
			return err
		}
		return up(a, w.AtA, w.Rate)
	})
	if err != nil {
		return err
	}
	return w.B.Do(func() error { return up(b, w.AtB, 0) })
}

// up gives a device its address and its rate, and makes it work.
func up(device, address string, rate uint64) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	if rate > 0 {
		err := netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: queue, Buffer: netlink.Xmittime(rate, burst),
		})
		if err != nil {
			return fmt.Errorf("rate of %s: %w", device, err)
		}
	}
	return netlink.LinkSetUp(link)
}
