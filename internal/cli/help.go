package cli

import (
	"fmt"
	"strings"
)

// usage is the one-line summary, without the word Usage.
func (c *Command) usage() string {
	s := c.path()
	if len(c.all()) > 0 || c.parent == nil {
		s += " [OPTIONS]"
	}
	for _, o := range c.Options {
		if o.Required {
			s += " " + o.String()
		}
	}
	for _, a := range c.Args {
		s += " " + a.String()
	}
	if len(c.Commands) > 0 {
		if c.parent == nil || c.Run != nil {
			s += " [COMMAND]"
		} else {
			s += " <COMMAND>"
		}
	}
	return s
}

// help is the whole help text of a command: every option, with every possible
// value, since clients look for features there.
func (c *Command) help() string {
	var b strings.Builder
	if c.About != "" {
		fmt.Fprintf(&b, "%s\n\n", c.About)
	}
	fmt.Fprintf(&b, "Usage: %s\n", c.usage())
	var rows [][2]string
	for _, s := range c.Commands {
		if !s.Hidden {
			rows = append(rows, [2]string{s.Name, s.About})
		}
	}
	if len(rows) > 0 {
		if c.parent == nil {
			rows = append(rows, [2]string{"help", "Print this message or the help of the given subcommand(s)"})
		}
		table(&b, "Commands", rows)
	}
	rows = rows[:0]
	for _, a := range c.Args {
		rows = append(rows, [2]string{a.String(), a.Help})
	}
	table(&b, "Arguments", rows)
	table(&b, "Options", c.optionRows())
	return b.String()
}

func (c *Command) optionRows() [][2]string {
	var rows [][2]string
	for _, o := range c.all() {
		if o.Hidden {
			continue
		}
		name := "    "
		if o.Short != 0 {
			name = "-" + string(o.Short) + ", "
		}
		text := o.Help
		if o.Default != "" {
			text += " [default: " + o.Default + "]"
		}
		if len(o.Aliases) > 0 {
			text += " [aliases: --" + strings.Join(o.Aliases, ", --") + "]"
		}
		if len(o.Choices) > 0 {
			text += " [possible values: " + strings.Join(o.Choices, ", ") + "]"
		}
		rows = append(rows, [2]string{name + o.String(), strings.TrimSpace(text)})
	}
	if c.short('h') == nil {
		rows = append(rows, [2]string{"-h, --help", "Print help"})
	} else {
		rows = append(rows, [2]string{"    --help", "Print help"})
	}
	if c.parent == nil && c.Version != "" {
		rows = append(rows, [2]string{"-V, --version", "Print version"})
	}
	return rows
}

func table(b *strings.Builder, title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, r := range rows {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-*s  %s", width, r[0], r[1]), " ") + "\n")
	}
}

// choices is the second line of an error about a value.
func choices(o *Option) string {
	if len(o.Choices) == 0 {
		return ""
	}
	return "\n  [possible values: " + strings.Join(o.Choices, ", ") + "]"
}

// similar is a tip that names the known word nearest to the one given.
func similar(word string, known []string) string {
	best, name := 1+max(1, len(strings.TrimLeft(word, "-"))/3), ""
	for _, k := range known {
		if d := distance(word, k); d < best {
			best, name = d, k
		}
	}
	if name == "" {
		return ""
	}
	return "\n\n  tip: a similar word exists: '" + name + "'"
}

// distance is the number of edits (insert, delete, replace) between two words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d++
			}
			diag = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
