package mountfs_test

import (
	"fmt"
	"slices"
	"testing"

	"vrafs/fusesrv/mountfs"
)

// TestStaleNamesAreTold after each change: those in the roots of what is mounted on
// the way, and all of them where the root itself changed.
func TestStaleNamesAreTold(t *testing.T) {
	var told []string
	c := newConn(t, mountfs.Options{Stale: func(parent uint64, name string) {
		told = append(told, fmt.Sprintf("%#x %q", parent, name))
	}})
	const a = "0x20000000001" // the root of mount 2
	for _, step := range []struct {
		name, at string
		unmount  bool
		want     []string
	}{
		{"in pseudo directories", "/a", false, nil},
		{"in a file system", "/a/b/c", false, []string{a + ` "b"`}},
		{"the root", "/", false, []string{`0x1 ""`}},
		{"in both", "/a/x", false, []string{`0x1 "a"`, a + ` "x"`}},
		{"away again", "/a/x", true, []string{`0x1 "a"`, a + ` "x"`}},
		{"the root away", "/", true, []string{`0x1 ""`}},
		{"behind what is gone", "/a/b/c", true, []string{a + ` "b"`}},
		{"the last", "/a", true, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			told = nil
			var err error
			if step.unmount {
				err = c.Unmount(step.at)
			} else {
				_, err = c.FS.Mount(step.at, &flat{content: step.at}, mountfs.MountOptions{Identity: step.at})
			}
			if err != nil || !slices.Equal(told, step.want) {
				t.Errorf("got %q, %v, want %q", told, err, step.want)
			}
		})
	}
}
