package main

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// treeOf is an image of the files given by path and content.
func treeOf(t *testing.T, files map[string]string) *imageFixture {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return imageOf(t, dir)
}

// dedicated starts a daemon for one image, which nothing is opened of by messages.
func (h *host) dedicated(t *testing.T, im *imageFixture) *process {
	t.Helper()
	args := append([]string{"fuse", "--mountpoint", h.dir, "--apisock", h.api}, im.withConfig(t)...)
	return start(t, exec.Command(binary, args...), "", h.api).ready()
}

// TestMountpointsCoverEachOther goes through mounts inside of images whose names
// the kernel knows already. After each step every path has the content that is
// said, "" being none.
func TestMountpointsCoverEachOther(t *testing.T) {
	first := treeOf(t, map[string]string{"f": "first", "etc/f": "first etc", "etc/conf/f": "first conf", "usr/f": "first usr"})
	second := treeOf(t, map[string]string{"f": "second", "etc/f": "second etc", "g": "second g"})
	third := treeOf(t, map[string]string{"f": "third", "conf/f": "third conf"})
	paths := [...]string{"f", "g", "etc/f", "etc/conf/f", "usr/f", "new/f", "new/sub/f"}
	steps := []struct {
		name, place string
		im          *imageFixture // nil: unmount
		want        [len(paths)]string
	}{
		{"the_first_at_the_root", "/", first, [...]string{"first", "", "first etc", "first conf", "first usr", "", ""}},
		{"at_a_name_looked_up_in_vain", "/new", second, [...]string{"first", "", "first etc", "first conf", "first usr", "second", ""}},
		{"below_that", "/new/sub", third, [...]string{"first", "", "first etc", "first conf", "first usr", "second", "third"}},
		{"over_a_directory_of_the_first", "/etc", third, [...]string{"first", "", "third", "third conf", "first usr", "second", "third"}},
		{"the_root_away", "/", nil, [...]string{"", "", "third", "third conf", "", "second", "third"}},
		{"another_at_the_root", "/", second, [...]string{"second", "second g", "third", "third conf", "", "second", "third"}},
		{"what_covers_away", "/etc", nil, [...]string{"second", "second g", "second etc", "", "", "second", "third"}},
		{"the_upper_of_two_away", "/new", nil, [...]string{"second", "second g", "second etc", "", "", "", "third"}},
		{"the_last_below_away", "/new/sub", nil, [...]string{"second", "second g", "second etc", "", "", "", ""}},
		{"everything_away", "/", nil, [len(paths)]string{}},
	}
	for name, dedicated := range map[string]bool{"empty_at_first": false, "image_of_the_command_line": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			var p *process
			if dedicated {
				p = h.dedicated(t, first)
			} else {
				p = h.fuse(t, h.api).ready()
			}
			for i, step := range steps {
				target := "/api/v1/mount?mountpoint=" + url.QueryEscape(step.place)
				switch {
				case i == 0 && dedicated:
				case step.im != nil:
					p.must(204, "POST", target, step.im.mountBody(""))
				default:
					p.must(204, "DELETE", target, "")
				}
				t.Run(step.name, func(t *testing.T) {
					for i, want := range step.want {
						h.shows(t, paths[i], want)
					}
					h.listsWhatIsThere(t)
				})
			}
		})
	}
}

// shows checks the content of a path, "" being none.
func (h *host) shows(t *testing.T, path, want string) {
	t.Helper()
	path = filepath.Join(h.dir, path)
	if _, err := os.Stat(path); want == "" != errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat %s: %v, content should be %q", path, err, want)
	}
	got, err := os.ReadFile(path)
	if string(got) != want || want == "" != errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is %q, %v, want %q", path, got, err, want)
	}
}

// listsWhatIsThere checks that the root lists nothing that is gone.
func (h *host) listsWhatIsThere(t *testing.T) {
	t.Helper()
	list, err := os.ReadDir(h.dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range list {
		if err := unix.Access(filepath.Join(h.dir, e.Name()), unix.F_OK); err != nil {
			t.Errorf("%s is listed: %v", e.Name(), err)
		}
	}
}
