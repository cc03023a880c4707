package vhostusertest

import (
	"fmt"

	"vrafs/vhostuser"
)

// An Order is the message order of one front-end.
type Order int

// The front-ends in use.
const (
	QEMU Order = iota
	CloudHypervisor
	Crosvm
)

// String returns the front-end's name.
func (o Order) String() string { return [...]string{"qemu", "cloud-hypervisor", "crosvm"}[o] }

// Orders lists all of them.
func Orders() []Order { return []Order{QEMU, CloudHypervisor, Crosvm} }

// Start introduces the guest to a back-end that does not know it and starts its
// rings.
func (g *Guest) Start(c *Conn) error {
	if err := g.Realize(c); err != nil {
		return fmt.Errorf("%v: set-up: %w", g.cfg.Order, err)
	}
	return g.Activate(c)
}

// Realize is what a front-end says before the guest runs.
func (g *Guest) Realize(c *Conn) error {
	var err error
	switch g.cfg.Order {
	case QEMU:
		err = g.realizeQEMU(c)
	case CloudHypervisor:
		err = g.realizeRust(c, false)
	case Crosvm:
		err = g.realizeRust(c, true)
	}
	g.proto = c.AckedProto
	g.acked = g.features(c.Features)
	return err
}

func (g *Guest) realizeQEMU(c *Conn) error {
	return steps(
		c.getFeatures,
		func() error { return c.negotiateProtocol(g.protocol()) },
		func() error { return c.checkQueues(len(g.rings)) },
		func() error { return c.checkSlots() },
		func() error { return c.Call(vhostuser.SetOwner, nil) },
		c.getFeatures,
		func() error { return g.eachRing(func(r *Ring) error { return r.sendCall(c) }) },
		func() error {
			return g.eachRing(func(r *Ring) error { return c.setVringFD(vhostuser.SetVringErr, r.index, r.err) })
		},
	)
}

// realizeRust is the order of the front-ends built on rust-vmm's crate. crosvm
// acknowledges the features before the protocol features and asks for the
// configuration space.
func (g *Guest) realizeRust(c *Conn, crosvm bool) error {
	c.Ack = true
	return steps(
		func() error { return c.Call(vhostuser.SetOwner, nil) },
		c.getFeatures,
		func() error {
			if !crosvm {
				return nil
			}
			return c.Call(vhostuser.SetFeatures, U64(g.features(c.Features)))
		},
		func() error { return c.negotiateProtocol(g.protocol()) },
		func() error { return c.checkQueues(len(g.rings)) },
		func() error {
			if !crosvm || c.AckedProto&vhostuser.ProtocolConfig == 0 {
				return nil
			}
			_, err := c.Config(0, 44)
			return err
		},
	)
}

// Activate is what a front-end says when the guest's driver is ready, and again
// when a stopped guest goes on.
func (g *Guest) Activate(c *Conn) error {
	err := steps(
		func() error {
			if g.cfg.Order != QEMU {
				return nil
			}
			return g.eachRing(func(r *Ring) error { return r.sendCall(c) })
		},
		func() error { return c.Call(vhostuser.SetFeatures, U64(g.featureBits())) },
		func() error { return g.sendMemory(c) },
		func() error { return g.sendRings(c) },
		func() error {
			return g.eachRing(func(r *Ring) error { return c.Call(vhostuser.SetVringEnable, State(r.index, 1)) })
		},
		func() error {
			if g.cfg.Order != QEMU {
				return nil
			}
			return g.eachRing(func(r *Ring) error { return r.sendCall(c) })
		},
	)
	if err != nil {
		return fmt.Errorf("%v: start: %w", g.cfg.Order, err)
	}
	return nil
}

// featureBits is what SET_FEATURES says now.
func (g *Guest) featureBits() uint64 {
	if g.log != nil {
		return g.acked | vhostuser.FeatureLogAll
	}
	return g.acked
}

// sendRings sets every ring up.
func (g *Guest) sendRings(c *Conn) error {
	if g.cfg.Order == QEMU {
		return g.eachRing(func(r *Ring) error {
			return steps(
				func() error { return r.sendNum(c) },
				func() error { return r.sendBase(c) },
				func() error { return r.sendAddr(c) },
				func() error { return r.sendKick(c) },
			)
		})
	}
	return steps(
		func() error { return g.eachRing(func(r *Ring) error { return r.sendNum(c) }) },
		func() error { return g.sendInflight(c) },
		func() error {
			return g.eachRing(func(r *Ring) error {
				return steps(
					func() error { return r.sendAddr(c) },
					func() error { return r.sendBase(c) },
					func() error { return r.sendCall(c) },
					func() error { return r.sendKick(c) },
				)
			})
		},
	)
}

// sendInflight gives the back-end the region for in-flight requests, after
// having got it from there the first time.
func (g *Guest) sendInflight(c *Conn) (err error) {
	if c.AckedProto&vhostuser.ProtocolInflightShmFD == 0 {
		return nil
	}
	if g.infFD < 0 {
		if g.inflight, g.infFD, err = c.GetInflight(len(g.rings), g.cfg.QueueSize); err != nil {
			return err
		}
	}
	return c.Call(vhostuser.SetInflightFD, InflightBytes(g.inflight), g.infFD)
}

// Reconnect introduces the guest, whose rings were running, to a back-end that
// came back, as Cloud Hypervisor does: the old protocol features, the old region
// for in-flight requests, and as base the available index, or of a packed ring
// what the driver knows.
func (g *Guest) Reconnect(c *Conn) error {
	c.Ack = true
	for _, r := range g.rings {
		if g.base[r.index] = r.Driver.Base(); !g.cfg.Packed {
			g.base[r.index] = uint32(r.Driver.AvailIndex())
		}
	}
	err := steps(
		func() error { return c.Call(vhostuser.SetOwner, nil) },
		c.getFeatures,
		func() error { return c.setProtocol(g.proto) },
	)
	if err != nil {
		return fmt.Errorf("reconnect: %w", err)
	}
	return g.Activate(c)
}

// Stop stops every ring, as for a pause, a reset or the end of the guest.
func (g *Guest) Stop(c *Conn) error {
	err := steps(
		func() error {
			return g.eachRing(func(r *Ring) error { return c.Call(vhostuser.SetVringEnable, State(r.index, 0)) })
		},
		func() error {
			return g.eachRing(func(r *Ring) (err error) {
				g.base[r.index], err = c.GetVringBase(r.index)
				return err
			})
		},
		func() error {
			if g.cfg.Order != QEMU {
				return nil
			}
			return g.eachRing(func(r *Ring) error { return r.sendCall(c) })
		},
	)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// eachRing calls f for every ring until one fails.
func (g *Guest) eachRing(f func(*Ring) error) error {
	for _, r := range g.rings {
		if err := f(r); err != nil {
			return fmt.Errorf("ring %d: %w", r.index, err)
		}
	}
	return nil
}

// steps runs fs until one fails.
func steps(fs ...func() error) error {
	for _, f := range fs {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
