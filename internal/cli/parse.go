package cli

import (
	"slices"
	"strings"
)

// Parse matches args (without the program's name) against the tree at root and
// stores the values. It returns the command to run, or ErrHelp or ErrVersion as
// an *Answer whose text belongs on stdout, or a *UsageError.
func Parse(root *Command, args []string) (*Command, error) {
	p := &parser{cmd: root, rest: args}
	for len(p.rest) > 0 {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	return p.cmd, p.finish()
}

type parser struct {
	cmd     *Command
	rest    []string
	args    int  // positional arguments seen
	literal bool // after "--"
}

// next consumes one argument and, for an option, its value.
func (p *parser) next() error {
	a := p.rest[0]
	p.rest = p.rest[1:]
	switch {
	case p.literal || a == "-" || !strings.HasPrefix(a, "-"):
		return p.positional(a)
	case a == "--":
		p.literal = true
		return nil
	case strings.HasPrefix(a, "--"):
		return p.long(a[2:])
	}
	return p.shorts(a[1:])
}

func (p *parser) long(a string) error {
	name, value, hasValue := strings.Cut(a, "=")
	o := p.cmd.option(name)
	switch {
	case o == nil && name == "help":
		return &Answer{p.cmd.help()}
	case o == nil && name == "version" && p.cmd.parent == nil && p.cmd.Version != "":
		return &Answer{p.cmd.Version}
	case o == nil:
		return p.unexpected("--" + name)
	case o.Value == "" && hasValue:
		return Usagef(p.cmd, "unexpected value '%s' for '%s' found; no more were expected", value, o)
	case o.Value == "":
		return p.set(o, "")
	case !hasValue:
		return p.value(o)
	}
	return p.set(o, value)
}

// shorts reads a cluster of short options: "-ab", "-a value", "-avalue".
func (p *parser) shorts(a string) error {
	for i := 0; i < len(a); i++ {
		o := p.cmd.short(a[i])
		switch {
		case o == nil && a[i] == 'h':
			return &Answer{p.cmd.help()}
		case o == nil && a[i] == 'V' && p.cmd.parent == nil && p.cmd.Version != "":
			return &Answer{p.cmd.Version}
		case o == nil:
			return p.unexpected("-" + a[i:i+1])
		case o.Value != "" && i+1 < len(a):
			return p.set(o, strings.TrimPrefix(a[i+1:], "="))
		case o.Value != "":
			return p.value(o)
		}
		if err := p.set(o, ""); err != nil {
			return err
		}
	}
	return nil
}

// value takes the next argument as the value of o.
func (p *parser) value(o *Option) error {
	if len(p.rest) == 0 || strings.HasPrefix(p.rest[0], "-") && len(p.rest[0]) > 1 {
		return &UsageError{Text: "a value is required for '" + o.String() + "' but none was supplied" + choices(o)}
	}
	v := p.rest[0]
	p.rest = p.rest[1:]
	return p.set(o, v)
}

func (p *parser) set(o *Option, v string) error {
	if o.seen && !o.Many {
		return Usagef(p.cmd, "the argument '%s' cannot be used multiple times", o)
	}
	o.seen = true
	if len(o.Choices) > 0 && !slices.Contains(o.Choices, v) {
		return &UsageError{Text: "invalid value '" + v + "' for '" + o.String() + "'" + choices(o) + similar(v, o.Choices)}
	}
	if err := o.Set(v); err != nil {
		return &UsageError{Text: "invalid value '" + v + "' for '" + o.String() + "': " + err.Error()}
	}
	return nil
}

func (p *parser) positional(a string) error {
	if len(p.cmd.Commands) > 0 && !p.literal {
		if a == "help" && p.cmd.parent == nil {
			return p.helpCommand()
		}
		if s := p.cmd.sub(a); s != nil {
			s.parent = p.cmd
			p.cmd = s
			return nil
		}
		if len(p.cmd.Args) == 0 {
			var names []string
			for _, s := range p.cmd.Commands {
				if !s.Hidden {
					names = append(names, s.Name)
				}
			}
			return Usagef(p.cmd, "unrecognized subcommand '%s'%s", a, similar(a, names))
		}
	}
	n := len(p.cmd.Args)
	if p.args >= n && (n == 0 || !p.cmd.Args[n-1].Many) {
		return Usagef(p.cmd, "unexpected argument '%s' found", a)
	}
	arg := p.cmd.Args[min(p.args, n-1)]
	p.args++
	arg.seen = true
	if err := arg.Set(a); err != nil {
		return &UsageError{Text: "invalid value '" + a + "' for '" + arg.String() + "': " + err.Error()}
	}
	return nil
}

// helpCommand answers "help [SUBCOMMAND...]".
func (p *parser) helpCommand() error {
	c := p.cmd
	for _, name := range p.rest {
		s := c.sub(name)
		if s == nil {
			return Usagef(p.cmd, "unrecognized subcommand '%s'", name)
		}
		s.parent = c
		c = s
	}
	return &Answer{c.help()}
}

func (p *parser) unexpected(a string) error {
	var names []string
	for c := p.cmd; c != nil; c = c.parent {
		for _, o := range c.Options {
			if !o.Hidden && (c == p.cmd || o.Global) {
				names = append(names, "--"+o.Long)
			}
		}
	}
	return Usagef(p.cmd, "unexpected argument '%s' found%s", a, similar(a, names))
}

// finish checks what can only be known at the end: missing and conflicting
// arguments. A command that has nothing to run answers with its help.
func (p *parser) finish() error {
	c := p.cmd
	if c.Run == nil {
		if c.parent == nil {
			return &Answer{c.help()}
		}
		return &UsageError{Text: strings.TrimRight(c.help(), "\n"), bare: true}
	}
	given := func(long string) bool {
		o := c.option(long)
		return o != nil && o.seen
	}
	for _, o := range c.all() {
		if !o.seen {
			continue
		}
		for _, long := range o.Conflicts {
			if given(long) {
				return Usagef(c, "the argument '%s' cannot be used with '%s'", c.option(long), o)
			}
		}
	}
	var missing []string
	need := func(name string) {
		if !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	for _, o := range c.all() {
		if !o.seen && (o.Required || len(o.RequiredUnless) > 0 && !slices.ContainsFunc(o.RequiredUnless, given)) {
			need(o.String())
		}
		for _, long := range o.Requires {
			if o.seen && !given(long) {
				need(c.option(long).String())
			}
		}
	}
	for _, a := range c.Args {
		if !a.seen && (a.Required || len(a.RequiredUnless) > 0 && !slices.ContainsFunc(a.RequiredUnless, given)) {
			need(a.String())
		}
	}
	if len(missing) > 0 {
		return Usagef(c, "the following required arguments were not provided:\n  %s", strings.Join(missing, "\n  "))
	}
	if c.After != nil {
		return c.After()
	}
	return nil
}

// all returns the command's options and the global ones of its ancestors.
func (c *Command) all() []*Option {
	opts := slices.Clone(c.Options)
	for p := c.parent; p != nil; p = p.parent {
		for _, o := range p.Options {
			if o.Global && !slices.Contains(opts, o) {
				opts = append(opts, o)
			}
		}
	}
	return opts
}
