package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/cli"
	"vrafs/rafs"
)

// typeLetters are the first letters of a mode as ls prints it.
var typeLetters = map[uint32]byte{
	rafs.ModeSocket: 's', rafs.ModeSymlink: 'l', rafs.ModeRegular: '-', rafs.ModeBlock: 'b',
	rafs.ModeDir: 'd', rafs.ModeChar: 'c', rafs.ModeFIFO: 'p',
}

// modeText is a mode as ls prints it: drwxr-xr-x.
func modeText(mode uint32) string {
	t, ok := typeLetters[mode&rafs.ModeType]
	if !ok {
		t = '?'
	}
	b := []byte(string(t) + "rwxrwxrwx")
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for i, c := range []struct{ bit, at, on, off uint32 }{
		{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'},
	} {
		if mode&c.bit == 0 {
			continue
		}
		on := byte(c.on)
		if mode&(0o100>>(3*i)) == 0 {
			on = byte(c.off)
		}
		b[c.at] = on
	}
	return string(b)
}

// timeText is a modification time as the listings have it.
func timeText(a *rafs.Attr) string {
	return time.Unix(a.Mtime, int64(a.MtimeNsec)).UTC().Format("2006-01-02 15:04:05")
}

// deviceText is major and minor number of a device.
func deviceText(rdev uint32) string {
	return fmt.Sprintf("%d,%d", unix.Major(uint64(rdev)), unix.Minor(uint64(rdev)))
}

// longLine is one line of ls -l: mode, links, owner, size or device, time, name.
func longLine(n *rafs.Inode, name string) string {
	a := n.Attr()
	size := strconv.FormatUint(a.Size, 10)
	if n.IsDevice() {
		size = deviceText(a.Rdev)
	}
	line := fmt.Sprintf("%s %3d %5d %5d %10s %s %s", modeText(a.Mode), a.Nlink, a.UID, a.GID, size, timeText(&a), cli.Quote(name))
	if n.IsSymlink() {
		if target, err := n.Symlink(); err == nil {
			line += " -> " + cli.Quote(string(target))
		}
	}
	return line
}
