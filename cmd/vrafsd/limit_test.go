package main

import (
	"strconv"
	"testing"

	"vrafs/blobcache"
	"vrafs/internal/opener"
	"vrafs/vhostuser/vhostusertest"
)

// TestCacheLimitHoldsUnderAGuest reads an image of three times the size that its
// cache may have, again and again, so that what was evicted is fetched again.
func TestCacheLimitHoldsUnderAGuest(t *testing.T) {
	const limit, files = 8 << 20, 24
	im := newRandomImage(t, files, 1<<20)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--cache-limit", strconv.Itoa(limit>>20)).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/", im.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	evicted := 0.0
	for round := 0; round < 2 || evicted < 1<<20; round++ {
		if round == 200 {
			t.Fatalf("%v bytes evicted: the test shows nothing", evicted)
		}
		for _, f := range g.tree(t, "/", im.Tree) {
			if err := readAll(g.clients[0], f); err != nil {
				t.Fatal(err)
			}
			if n := diskUse(t, im.cache); n > limit {
				t.Fatalf("the cache has %d bytes, its limit is %d", n, limit)
			}
		}
		evicted = p.metric("vrafs_cache_evicted_bytes_total", "dir", im.cache)
	}
}

// diskUse gives the bytes that the blobs of a cache directory take.
func diskUse(t *testing.T, dir string) (n uint64) {
	t.Helper()
	list, err := blobcache.Survey(opener.Local(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		n += list[i].Bytes
	}
	return n
}
