package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Command is a program or one of its subcommands. A tree of commands is built
// for one run and filled in by Parse.
type Command struct {
	// Name is the word on the command line; for the root, the program's name.
	Name string
	// About is one line for the help texts.
	About string
	// Options in the order of the help text. The same *Option may appear in
	// several commands, which then share its variable.
	Options []*Option
	// Args are the positional arguments, in order. Only the last may be Many.
	Args []*Arg
	// Commands are the subcommands.
	Commands []*Command
	// Hidden leaves the command out of its parent's help.
	Hidden bool
	// After is checked when everything was parsed; it reports wrong combinations
	// with a *UsageError (see Usagef).
	After func() error
	// Run does the work. A command without Run prints its help and succeeds.
	Run func(ctx context.Context, env *Env) error
	// Version is the text of --version; only the root's is used.
	Version string

	parent *Command
}

// An Option is a named argument, a flag if Value is empty.
type Option struct {
	Long    string
	Short   byte
	Value   string // name of the value in help and errors; empty for a flag
	Help    string
	Aliases []string
	Choices []string
	Default string // shown in the help; the variable must already hold it
	Hidden  bool
	Global  bool // also accepted after the name of any subcommand
	Many    bool // may be repeated

	Required       bool
	RequiredUnless []string // long names, any of which makes it optional
	Requires       []string // long names that must be given with it
	Conflicts      []string // long names that must not be given with it

	// Set stores one value ("" for a flag); its error is shown as the reason.
	Set func(value string) error

	seen bool
}

// An Arg is a positional argument.
type Arg struct {
	Name           string
	Help           string
	Required       bool
	RequiredUnless []string
	Many           bool
	Set            func(value string) error

	seen bool
}

// Given reports whether the option was on the command line.
func (o *Option) Given() bool { return o.seen }

// String is the option as clap writes it in messages: --name <value>.
func (o *Option) String() string {
	if o.Value == "" {
		return "--" + o.Long
	}
	return "--" + o.Long + " <" + o.Value + ">"
}

// String is the argument as clap writes it in messages.
func (a *Arg) String() string {
	s := "<" + a.Name + ">"
	if !a.Required && len(a.RequiredUnless) == 0 {
		s = "[" + a.Name + "]"
	}
	if a.Many {
		s += "..."
	}
	return s
}

// path is the command's full name, from the program's name on.
func (c *Command) path() string {
	if c.parent == nil {
		return c.Name
	}
	return c.parent.path() + " " + c.Name
}

// option finds a long name or alias among the command's options and the global
// ones of its ancestors.
func (c *Command) option(long string) *Option {
	return c.find(func(o *Option) bool { return o.Long == long || slices.Contains(o.Aliases, long) })
}

func (c *Command) short(b byte) *Option {
	return c.find(func(o *Option) bool { return o.Short == b && b != 0 })
}

func (c *Command) find(match func(*Option) bool) *Option {
	for p := c; p != nil; p = p.parent {
		for _, o := range p.Options {
			if (p == c || o.Global) && match(o) {
				return o
			}
		}
	}
	return nil
}

func (c *Command) sub(name string) *Command {
	for _, s := range c.Commands {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Str stores an option's text in p.
func Str(p *string) func(string) error {
	return func(v string) error { *p = v; return nil }
}

// Trimmed stores an option's text in p without surrounding blanks: one client
// passes "-R blobs" as a single argument.
func Trimmed(p *string) func(string) error {
	return func(v string) error { *p = strings.TrimSpace(v); return nil }
}

// Flag sets *p.
func Flag(p *bool) func(string) error {
	return func(string) error { *p = true; return nil }
}

// Strings appends each value to *p.
func Strings(p *[]string) func(string) error {
	return func(v string) error { *p = append(*p, v); return nil }
}

// List splits a value at commas and appends the parts to *p.
func List(p *[]string) func(string) error {
	return func(v string) error {
		for s := range strings.SplitSeq(v, ",") {
			*p = append(*p, strings.TrimSpace(s))
		}
		return nil
	}
}

// Unsigned is any unsigned integer type.
type Unsigned interface {
	~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Uint stores a number in decimal, or in hexadecimal after 0x, from low to high.
func Uint[T Unsigned](p *T, low, high uint64) func(string) error {
	return func(v string) error {
		n, err := ParseUint(v)
		if err != nil {
			return err
		}
		if n < low || n > high || uint64(T(n)) != n {
			return fmt.Errorf("%s is not in %d..=%d", v, low, high)
		}
		*p = T(n)
		return nil
	}
}

// PowerOfTwo is like Uint, but takes only powers of two, and 0 if low is 0.
func PowerOfTwo[T Unsigned](p *T, low, high uint64, zero bool) func(string) error {
	return func(v string) error {
		n, err := ParseUint(v)
		if err != nil {
			return err
		}
		if n == 0 && zero {
			*p = 0
			return nil
		}
		if n&(n-1) != 0 || n < low || n > high {
			return fmt.Errorf("must be a power of two between %#x and %#x", low, high)
		}
		*p = T(n)
		return nil
	}
}

// ParseUint reads a number in decimal, or in hexadecimal after 0x.
func ParseUint(v string) (uint64, error) {
	s, base := strings.TrimSpace(v), 10
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		s, base = h, 16
	}
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number: use decimal digits, or hexadecimal ones after 0x")
	}
	return n, nil
}

// Uints reads a comma list of numbers.
func Uints(p *[]uint64) func(string) error {
	return func(v string) error {
		for s := range strings.SplitSeq(v, ",") {
			n, err := ParseUint(s)
			if err != nil {
				return err
			}
			*p = append(*p, n)
		}
		return nil
	}
}
