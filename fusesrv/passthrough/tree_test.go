package passthrough_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vrafs/fusesrv/mountfs"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// TestRootShowsItsNamesAndMountpoints lists a directory whose names have cookies of all
// sizes, with others mounted in it, one of them over a directory that is there.
func TestRootShowsItsNamesAndMountpoints(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dir := t.TempDir()
	want := []string{"covered", "other"}
	for i := range 500 {
		name := fmt.Sprintf("file-%d", i)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	if err := os.Mkdir(filepath.Join(dir, "covered"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir, 0, passthrough.Options{})
	for _, at := range []string{"/covered", "/other"} {
		below := t.TempDir()
		if err := os.WriteFile(filepath.Join(below, "inside"+at[1:]), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		fs, err := passthrough.New(opener.Local(), below, passthrough.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fs.Close)
		if _, err := s.tree.Mount(at, fs, mountfs.MountOptions{Identity: at, OwnInos: true, Handles: true}); err != nil {
			t.Fatal(err)
		}
	}
	at := s.mount(t)
	list, err := os.ReadDir(at)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
	for _, name := range []string{"covered", "other"} {
		if _, err := os.Stat(filepath.Join(at, name, "inside"+name)); err != nil {
			t.Error(err)
		}
	}
}
