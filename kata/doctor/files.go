package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	maxFile  = 1 << 20
	maxLinks = 40
)

// real follows the links of a path on the node, as the node would, and returns the
// path on the node. What does not exist is an error, but the path is right up to
// there.
func (n *node) real(p string) (string, error) {
	rest, done, links := strings.Split(path.Clean("/"+p), "/")[1:], "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" {
			continue
		}
		if name == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		to, err := os.Readlink(n.host(next))
		switch {
		case err == nil:
			if links++; links > maxLinks {
				return next, fmt.Errorf("%s: too many links", p)
			}
			if path.IsAbs(to) {
				done = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
			continue
		case errors.Is(err, fs.ErrNotExist):
			return path.Join(append([]string{next}, rest...)...), err
		}
		done = next // not a link
	}
	return done, nil
}

// host is where a real path of the node is for us.
func (n *node) host(real string) string { return filepath.Join(n.o.Root, real) }

// stat looks at a file of the node.
func (n *node) stat(p string) (os.FileInfo, error) {
	real, err := n.real(p)
	if err != nil {
		return nil, err
	}
	return os.Lstat(n.host(real))
}

// read reads a regular file of the node, or one of its kernel's.
func (n *node) read(p string) (string, error) {
	real, err := n.real(p)
	if err != nil {
		return "", err
	}
	if st, err := os.Lstat(n.host(real)); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", p)
	}
	f, err := os.Open(n.host(real))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", p, maxFile)
	}
	return string(text), err
}

// why is the cause of an error without our own path to the node's file.
func why(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

// glob lists the files that match a pattern on the node, in their order.
func (n *node) glob(pattern string) []string {
	dir, err := n.real(path.Dir(pattern))
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(n.host(dir))
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries { // sorted by name
		if ok, err := path.Match(path.Base(pattern), e.Name()); err == nil && ok {
			list = append(list, path.Join(dir, e.Name()))
		}
	}
	return list
}

// A mount is a line of the node's table of mounts.
type mount struct{ place, fsType string }

// readMounts reads the table of the node's first process, whose mounts daemons have.
func (n *node) readMounts() (list []mount) {
	text, err := n.read("/proc/1/mounts")
	if err != nil {
		text, _ = n.read("/proc/self/mounts")
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 2 {
			list = append(list, mount{unescape(f[1]), f[2]})
		}
	}
	return list
}

// unescape turns the octal escapes of the kernel's tables back.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// fsType is the type of the file system that a path of the node is on, "" if nobody
// knows. The path need not exist.
func (n *node) fsType(p string) string {
	real, _ := n.real(p)
	best, kind := -1, ""
	for _, m := range n.mounts { // a later one covers an earlier one
		if (m.place == "/" || real == m.place || strings.HasPrefix(real, m.place+"/")) && len(m.place) >= best {
			best, kind = len(m.place), m.fsType
		}
	}
	return kind
}
