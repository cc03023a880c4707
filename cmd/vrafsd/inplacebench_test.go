package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vrafs/fusesrv"
	"vrafs/vhostuser/vhostusertest"
)

// BenchmarkUpgradePause is how long requests stand still at an upgrade in place, by how
// much of the guest's memory the daemon has touched in 4 KiB pages.
func BenchmarkUpgradePause(b *testing.B) {
	for _, gib := range []int{0, 2, 8} {
		b.Run(fmt.Sprintf("%dGiB", gib), func(b *testing.B) { upgradePause(b, gib) })
	}
}

func upgradePause(b *testing.B, gib int) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "g"), []byte(strings.Repeat("data ", 200_000)), 0o644); err != nil {
		b.Fatal(err)
	}
	im := imageOf(b, dir)
	sock, api := sockets(b)
	p := start(b, exec.Command(binary, "virtiofs", "--apisock", api, "--sock", sock), sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(b, sock, vhostusertest.GuestConfig{MemSize: gib<<30 + 1<<30, QueueSize: 1024})
	e, err := walk(g.clients[0], "/a/g")
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		touch(b, g, e.Node, gib)
		p.must(204, "PUT", "/api/v1/daemon/upgrade", "")
		p.upgraded(i + 1)
		if _, err := g.clients[0].Read(e.Node, 0, 0, 4096); err != nil {
			b.Fatal(err)
		}
	}
	var pauses []time.Duration
	for l := range strings.Lines(p.log()) {
		if _, rest, ok := strings.Cut(l, "after a pause of "); ok {
			d, err := time.ParseDuration(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			pauses = append(pauses, d)
		}
	}
	slices.Sort(pauses)
	b.Logf("pauses %v", pauses)
	b.ReportMetric(float64(pauses[len(pauses)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(pauses[len(pauses)-1].Microseconds())/1000, "ms/worst")
	b.ReportMetric(0, "ns/op")
}

// touched are the clients whose buffers cover a guest's memory, made once.
var touched = map[*guest][]*vhostusertest.Client{}

// touch has the daemon write into every page of a guest's memory.
func touch(b *testing.B, g *guest, node uint64, gib int) {
	const depth, room = 32, 1 << 20
	for len(touched[g]) < gib<<30/(depth*room) {
		c, err := vhostusertest.NewClient(g.Ring(1), vhostusertest.ClientConfig{Depth: depth, MaxRoom: room})
		if err != nil {
			b.Fatal(err)
		}
		touched[g] = append(touched[g], c)
	}
	for _, c := range touched[g] {
		for range depth {
			if _, err := c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpRead), Node: node, Args: vhostusertest.ReadArgs(0, 0, 1<<20-8192), Room: 1<<20 - 8192, OutCuts: []int{16}}); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.Ring.Kick(); err != nil {
			b.Fatal(err)
		}
		for range depth {
			if r, err := c.Recv(); err != nil || r.Errno != 0 {
				b.Fatal(r.Errno, err)
			}
		}
	}
}
