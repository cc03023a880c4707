package daemon

import (
	"vrafs/fusesrv/imagefs"
	"vrafs/internal/filelist"
	"vrafs/rafs"
)

// ReadFiles lists what was read of an image so far.
func (d *Daemon) ReadFiles(mountpoint string) (list []filelist.File, err error) {
	im, err := d.imageAt(mountpoint)
	if err != nil {
		return nil, err
	}
	err = guarded(func() error {
		list = named(im.boot.Image, im.view.Trace())
		return nil
	})
	return list, err
}

// named gives the paths of inodes, and no ranges where all of a file was read. Neighbours
// in time that are neighbours in a file, too, are one range.
func named(im *rafs.Image, touches []imagefs.Touch) []filelist.File {
	wanted := map[rafs.Ino]uint64{} // bytes that were read
	for _, t := range touches {
		wanted[t.Ino] += t.Size
	}
	paths := pathsOf(im, wanted)
	var list []filelist.File
	last := rafs.Ino(0)
	whole := map[rafs.Ino]bool{}
	for _, t := range touches {
		p, ok := paths[t.Ino]
		switch {
		case !ok || whole[t.Ino]:
			continue
		case wanted[t.Ino] >= p.size:
			whole[t.Ino] = true
			list = append(list, filelist.File{Path: p.path})
		case t.Ino == last:
			end := &list[len(list)-1]
			end.Ranges = append(end.Ranges, filelist.Range{t.Off, t.Size})
		default:
			list = append(list, filelist.File{Path: p.path, Ranges: []filelist.Range{{t.Off, t.Size}}})
		}
		last = t.Ino
	}
	return list
}

// A foundFile is a name of an inode; there may be others.
type foundFile struct {
	path string
	size uint64
}

// pathsOf walks the image until it has found the inodes, or has seen too many names.
func pathsOf(im *rafs.Image, wanted map[rafs.Ino]uint64) map[rafs.Ino]foundFile {
	found := map[rafs.Ino]foundFile{}
	type dir struct {
		ino  rafs.Ino
		path string
	}
	left := maxWarmWalk
	for todo := []dir{{im.Root(), ""}}; len(todo) > 0 && len(found) < len(wanted); {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n, err := im.Inode(at.ino)
		if err != nil {
			continue
		}
		c, err := n.Dir(0)
		if err != nil {
			continue
		}
		for d := (rafs.Dirent{}); left > 0; left-- {
			if ok, err := c.Next(&d); !ok || err != nil {
				break
			}
			name := string(d.Name)
			if name == "." || name == ".." {
				continue
			}
			if child, err := im.Inode(d.Ino); err != nil {
				continue
			} else if child.IsDir() {
				todo = append(todo, dir{d.Ino, at.path + "/" + name})
			} else if wanted[d.Ino] > 0 {
				found[d.Ino] = foundFile{at.path + "/" + name, child.Size()}
			}
		}
	}
	return found
}
