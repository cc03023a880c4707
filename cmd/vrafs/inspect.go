package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"vrafs/internal/chunkread"
	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// An inspect holds the command line of nydus-image inspect.
type inspect struct {
	place   place
	request string
	ref     refOptions
}

// newInspect also takes references, unless the program is called as nydus-image.
func newInspect(refs bool) *cli.Command {
	i := &inspect{}
	request := &cli.Option{Long: "request", Short: 'R', Value: "request", Help: "Execute one command and print JSON: stats, blobs, prefetch, ...", Set: cli.Trimmed(&i.request)}
	cmd := &cli.Command{
		Name:  "inspect",
		About: "Show what is in an image, one command after the other",
		Args:  []*cli.Arg{i.place.bootstrapArg()},
		Options: []*cli.Option{
			i.place.bootstrapOption(), i.place.dirOption(), i.place.configOption(), request,
		},
		Run: func(ctx context.Context, env *cli.Env) error { return i.run(ctx, env, request.Given()) },
	}
	if refs {
		cmd.About = "Show what is in a bootstrap, one command after the other; or the manifest and layers of a reference"
		cmd.Args[0].Help += ", or reference"
		cmd.Options = append(cmd.Options, &cli.Option{Long: "raw", Help: "Of a reference: print the manifest or index as it is", Set: cli.Flag(&i.ref.raw)})
		cmd.Options = append(cmd.Options, i.ref.options()...)
		run := cmd.Run
		cmd.Run = func(ctx context.Context, env *cli.Env) error {
			if isRef(i.place.positional) {
				return i.ref.inspectRef(ctx, env, i.place.positional)
			}
			return run(ctx, env)
		}
	}
	return cmd
}

const inspectPrompt = "Inspecting RAFS :> "

func (i *inspect) run(ctx context.Context, env *cli.Env, once bool) error {
	im, err := openBootstrap(i.place.path())
	if err != nil {
		return err
	}
	defer im.Close()
	out := bufio.NewWriter(env.Stdout)
	s := &inspector{ctx: ctx, im: im.Image, dir: "/", out: out, index: chunkread.NewIndex(im.Image), json: once}
	if once {
		err = s.execute(i.request)
		return errors.Join(err, out.Flush())
	}
	return s.loop(env.Stdin)
}

// An inspector answers commands about an image.
type inspector struct {
	ctx   context.Context
	im    *rafs.Image
	dir   string // where cd went
	out   *bufio.Writer
	index *chunkread.Index
	json  bool // answer once, as JSON
}

// An inspectCommand is one word of the prompt. Commands with a value print it as
// JSON if asked for one answer, else as text.
type inspectCommand struct {
	name, arg, about string
	value            func(s *inspector) (any, error)
	text             func(s *inspector, arg string) error
}

// inspectCommands is in the order of the help; it is a function since help needs it.
func inspectCommands() []inspectCommand {
	return []inspectCommand{
		{"stats", "", "Show the number of inodes", (*inspector).stats, nil},
		{"ls", "", "List the directory", nil, (*inspector).ls},
		{"cd", "DIR", "Change the directory", nil, (*inspector).cd},
		{"stat", "FILE", "Show the attributes and chunks of a file", nil, (*inspector).stat},
		{"blobs", "", "Show the blob table", (*inspector).blobs, nil},
		{"prefetch", "", "Show the prefetch table", (*inspector).prefetch, nil},
		{"chunk", "OFFSET", "Find chunks by an offset in their stored blob", nil, (*inspector).chunk},
		{"icheck", "INODE", "Show the paths of an inode", nil, (*inspector).icheck},
		{"help", "", "Show this text", nil, (*inspector).help},
	}
}

// loop reads commands until the end of the input. A failing command is reported
// and the next one read.
func (s *inspector) loop(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for {
		s.out.WriteString(inspectPrompt)
		if err := s.out.Flush(); err != nil {
			return err
		}
		if !lines.Scan() {
			s.out.WriteString("\n")
			return errors.Join(lines.Err(), s.out.Flush())
		}
		line := strings.TrimSpace(lines.Text())
		if line == "exit" || line == "q" {
			return nil
		}
		if err := s.execute(line); err != nil {
			if s.ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(s.out, "Error: %v\n", err)
		}
	}
}

// execute runs one command line.
func (s *inspector) execute(line string) error {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	arg = strings.TrimSpace(arg)
	if name == "" {
		return nil
	}
	for _, c := range inspectCommands() {
		if c.name != name {
			continue
		}
		if c.arg != "" && arg == "" {
			return fmt.Errorf("%s needs %s", c.name, c.arg)
		}
		if c.value != nil {
			v, err := c.value(s)
			if err != nil {
				return err
			}
			return s.print(v)
		}
		err := c.text(s, arg)
		if err == nil && s.json {
			s.out.WriteString("null\n")
		}
		return err
	}
	return cli.Hint(fmt.Errorf("unknown command %q", name), "the command help lists all commands")
}

// print shows a value: JSON for clients, one line per entry for people.
func (s *inspector) print(v any) error {
	if s.json {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		s.out.Write(text)
		return s.out.WriteByte('\n')
	}
	switch v := v.(type) {
	case inspectStats:
		fmt.Fprintf(s.out, "Inodes Count: %d\n", v.InodesCount)
	case []inspectBlob:
		for _, b := range v {
			fmt.Fprintf(s.out, "Blob ID: %s\n  Readahead Offset: %d\n  Readahead Size: %d\n  Decompressed Size: %d\n  Compressed Size: %d\n",
				b.BlobID, b.ReadaheadOffset, b.ReadaheadSize, b.DecompressedSize, b.CompressedSize)
		}
	case []inspectPrefetch:
		for _, p := range v {
			fmt.Fprintf(s.out, "Inode %d: %s\n", p.Inode, cli.Quote(path.Join(p.Path...)))
		}
	}
	return nil
}

// find looks up a path, from the current directory if it is relative.
func (s *inspector) find(p string) (string, rafs.Inode, error) {
	if !strings.HasPrefix(p, "/") {
		p = path.Join(s.dir, p)
	}
	p = path.Clean(p)
	n, err := imagewalk.Find(s.im, p)
	return p, n, err
}

func (s *inspector) help(string) error {
	for _, c := range inspectCommands() {
		fmt.Fprintf(s.out, "  %-16s %s\n", strings.TrimSpace(c.name+" "+c.arg), c.about)
	}
	fmt.Fprintf(s.out, "  %-16s %s\n", "exit, q", "Leave")
	return nil
}
