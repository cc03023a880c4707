package rafs

import "slices"

// link notes a name of a v6 inode that has several, or is found to.
func (c *checker) link(n *Inode, again bool) error {
	switch {
	case !c.strict:
	case n.nlink > 1 && n.IsRegular():
		c.linked = append(c.linked, n.ino)
	case n.nlink == 1 && again:
		return c.problem(n.ino, corrupt(n.off, "inode.nlink", "1, but reached by a second name"))
	}
	return nil
}

// totals compares what a v6 image says of its names with those the walk has found.
// After other findings it would only repeat them.
func (c *checker) totals() error {
	if !c.strict || len(c.report.Problems) > 0 {
		return nil
	}
	c.path = append(c.path[:0], '/')
	if c.report.Names != c.im.names {
		return c.problem(c.im.root, corrupt(V6SuperOff+V6SuperInosAt, "super.inos", "%d names, but the tree has %d", c.im.names, c.report.Names))
	}
	slices.Sort(c.linked)
	for len(c.linked) > 0 {
		ino := c.linked[0]
		names, _ := slices.BinarySearch(c.linked, ino+1)
		c.linked = c.linked[names:]
		n, err := c.im.Inode(ino)
		if err == nil && uint64(n.nlink) != uint64(names) {
			err = corrupt(n.off, "inode.nlink", "%d, but the tree has %d names of it", n.nlink, names)
		}
		if err != nil {
			if err := c.problem(ino, err); err != nil {
				return err
			}
		}
	}
	return nil
}
