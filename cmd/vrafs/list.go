package main

import (
	"bufio"
	"context"
	"fmt"
	"path"

	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// A listing holds the command lines of ls and tree, which need no blobs.
type listing struct {
	image string
	path  string
	long  bool
	all   bool // ls: everything below
	depth uint
}

func (l *listing) args() []*cli.Arg {
	return []*cli.Arg{
		{Name: "IMAGE", Help: "File of the bootstrap, or data blob with the bootstrap inside", Required: true, Set: cli.Str(&l.image)},
		{Name: "PATH", Help: "Where to start in the image (default: /)", Set: cli.Str(&l.path)},
	}
}

func newLs() *cli.Command {
	l := &listing{path: "/"}
	return &cli.Command{
		Name: "ls", About: "List a directory of an image", Args: l.args(),
		Options: []*cli.Option{
			{Long: "long", Short: 'l', Help: "Show mode, links, owner, size and time (UTC)", Set: cli.Flag(&l.long)},
			{Long: "recursive", Short: 'R', Help: "List everything below", Set: cli.Flag(&l.all)},
		},
		Run: func(ctx context.Context, env *cli.Env) error { return l.run(ctx, env, l.ls) },
	}
}

func newTree() *cli.Command {
	l := &listing{path: "/"}
	return &cli.Command{
		Name: "tree", About: "Show a part of an image as a tree", Args: l.args(),
		Options: []*cli.Option{
			{Long: "depth", Short: 'd', Value: "depth", Help: "How many levels to show; 0 is all", Default: "0", Set: cli.Uint(&l.depth, 0, 1<<31)},
		},
		Run: func(ctx context.Context, env *cli.Env) error { return l.run(ctx, env, l.tree) },
	}
}

// A show prints what is below a place of an image.
type show func(ctx context.Context, out *bufio.Writer, im *image, n *rafs.Inode) error

func (l *listing) run(ctx context.Context, env *cli.Env, f show) error {
	im, err := openBootstrap(l.image)
	if err != nil {
		return err
	}
	defer im.Close()
	l.path = path.Clean("/" + l.path)
	n, err := imagewalk.Find(im.Image, l.path)
	if err != nil {
		return fmt.Errorf("%s: %w", im.path, err)
	}
	out := bufio.NewWriter(env.Stdout)
	if err := f(ctx, out, im, &n); err != nil {
		return fmt.Errorf("%s: %w", im.path, err)
	}
	return out.Flush()
}

// ls prints the names in a directory, or with -R the paths of everything below.
func (l *listing) ls(ctx context.Context, out *bufio.Writer, im *image, n *rafs.Inode) error {
	return imagewalk.Walk(ctx, im.Image, n.Ino(), l.path, func(p string, n *rafs.Inode) error {
		name := p
		switch {
		case p == l.path && n.IsDir():
			return nil
		case !l.all:
			name = path.Base(p)
		}
		if l.long {
			name = longLine(n, name)
		} else {
			name = cli.Quote(name)
		}
		if _, err := fmt.Fprintln(out, name); err != nil {
			return err
		}
		if n.IsDir() && !l.all {
			return imagewalk.ErrSkipDir
		}
		return nil
	})
}

// tree draws branches. It looks one entry ahead, to know the last of a directory.
func (l *listing) tree(ctx context.Context, out *bufio.Writer, im *image, n *rafs.Inode) error {
	fmt.Fprintln(out, cli.Quote(l.path))
	if !n.IsDir() {
		return nil
	}
	t := &treePrinter{ctx: ctx, out: out, im: im.Image, depth: l.depth, seen: map[rafs.Ino]bool{}}
	if err := t.push(n, ""); err != nil {
		return err
	}
	for len(t.stack) > 0 {
		if err := t.step(); err != nil {
			return err
		}
	}
	return nil
}

type treePrinter struct {
	ctx   context.Context
	out   *bufio.Writer
	im    *rafs.Image
	depth uint
	seen  map[rafs.Ino]bool
	stack []branch
}

// A branch is a directory being drawn: the entry to come next, and how its lines
// begin.
type branch struct {
	list   rafs.DirCursor
	next   rafs.Dirent
	more   bool
	indent string
}

func (t *treePrinter) push(n *rafs.Inode, indent string) error {
	if t.seen[n.Ino()] {
		return imagewalk.ErrTwice
	}
	t.seen[n.Ino()] = true
	list, err := n.Dir(0)
	if err != nil {
		return err
	}
	b := branch{list: list, indent: indent}
	err = b.advance()
	t.stack = append(t.stack, b)
	return err
}

// advance reads the next entry that is not a dot.
func (b *branch) advance() (err error) {
	for {
		if b.more, err = b.list.Next(&b.next); err != nil || !b.more {
			return err
		}
		if name := string(b.next.Name); name != "." && name != ".." {
			return nil
		}
	}
}

// step draws the next line.
func (t *treePrinter) step() error {
	b := &t.stack[len(t.stack)-1]
	if !b.more {
		t.stack = t.stack[:len(t.stack)-1]
		return t.ctx.Err()
	}
	name, ino := string(b.next.Name), b.next.Ino
	if err := b.advance(); err != nil {
		return err
	}
	arm, below := "|-- ", "|   "
	if !b.more {
		arm, below = "`-- ", "    "
	}
	n, err := t.im.Inode(ino)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	line := cli.Quote(name)
	if target, err := n.Symlink(); err == nil {
		line += " -> " + cli.Quote(string(target))
	}
	if _, err := fmt.Fprintln(t.out, b.indent+arm+line); err != nil {
		return err
	}
	if n.IsDir() && (t.depth == 0 || uint(len(t.stack)) < t.depth) {
		return t.push(&n, b.indent+below)
	}
	return nil
}
