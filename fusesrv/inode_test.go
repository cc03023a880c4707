package fusesrv_test

import (
	"strings"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testtree"
)

func TestInodeNumbersDifferForUnlikeFiles(t *testing.T) {
	s, d, _ := hostile(t)
	// links counts the names whose inode number another one has.
	links := func(list []testtree.Entry, but string) (n int) {
		seen := map[string]bool{}
		for _, e := range list {
			if but != "" && strings.HasPrefix(e.Path, but) {
				continue
			}
			first := e.Path
			if e.Link != "" {
				first = e.Link
			}
			if seen[first] {
				n++
			}
			seen[first] = true
		}
		return n
	}
	whole, err := fusesrvtest.Walk(d, fusesrv.RootID, 3)
	if err != nil {
		t.Fatal(err)
	}
	// What is mounted at /containers is there a second time at
	// /rafs/one/lowerdir, and a third time below that, where it hides a directory.
	e, err := fusesrvtest.Lookup(d, fusesrv.RootID, "containers")
	if err != nil {
		t.Fatal(err)
	}
	one, err := fusesrvtest.Walk(d, e.NodeID, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, want := links(whole, ""), 2*links(one, "")+links(one, "kinds/")
	if got != want || want == 0 {
		t.Errorf("%d names share an inode number with another, want %d hard links", got, want)
	}
	if n := len(s.Tree.Mounts()); n != 3 {
		t.Errorf("got %d mounts, want 3", n)
	}
}
