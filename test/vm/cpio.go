package vm

import (
	"fmt"
	"io"
)

// A cpioWriter writes the "newc" archive that the kernel unpacks into its first
// root file system. The first error sticks; Close reports it.
type cpioWriter struct {
	w   io.Writer
	ino int
	err error
}

const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioChar = 0o020000
)

// add writes one entry. major and minor matter to devices only.
func (c *cpioWriter) add(name string, mode uint32, major, minor int, data []byte) {
	if c.err != nil {
		return
	}
	c.ino++
	// magic ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
	_, c.err = fmt.Fprintf(c.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	c.pad(110 + len(name) + 1)
	c.write(data)
	c.pad(len(data))
}

func (c *cpioWriter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

// pad fills up n bytes to a multiple of four.
func (c *cpioWriter) pad(n int) { c.write(make([]byte, -n&3)) }

// Close writes the end mark. It does not close the underlying writer.
func (c *cpioWriter) Close() error {
	c.add("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}
