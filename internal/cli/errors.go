package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Exit statuses.
const (
	StatusOK      = 0
	StatusFailure = 1
	StatusUsage   = 2
)

// An Answer ends a run successfully: its text belongs on stdout.
type Answer struct{ Text string }

// Error returns the text.
func (a *Answer) Error() string { return a.Text }

// A UsageError is a command line that cannot be obeyed. Its status is 2.
type UsageError struct {
	// Text is shown after "error: ".
	Text string
	// Usage is the usage line, if it helps.
	Usage string

	bare bool
}

// Error returns the text.
func (e *UsageError) Error() string { return e.Text }

// Usagef makes a usage error about command c, with its usage line.
func Usagef(c *Command, format string, a ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, a...), Usage: c.usage()}
}

// A StatusError gives a failure its own exit status.
type StatusError struct {
	Status int
	Err    error
}

// Error returns the text of the failure.
func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap returns the failure.
func (e *StatusError) Unwrap() error { return e.Err }

// hintError carries advice about what the user can do next.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// Hint attaches advice to err: one imperative sentence, without a full stop. A nil
// err stays nil, and one that has advice keeps it: who was nearer knew more.
func Hint(err error, format string, a ...any) error {
	var h *hintError
	if err == nil || errors.As(err, &h) {
		return err
	}
	return &hintError{err, fmt.Sprintf(format, a...)}
}

// Report writes the outcome of a run and returns its exit status: an Answer to
// stdout, everything else to stderr.
func Report(err error, stdout, stderr io.Writer) int {
	if err == nil {
		return StatusOK
	}
	var answer *Answer
	if errors.As(err, &answer) {
		io.WriteString(stdout, strings.TrimRight(answer.Text, "\n")+"\n")
		return StatusOK
	}
	var usage *UsageError
	if errors.As(err, &usage) {
		if usage.bare {
			io.WriteString(stderr, usage.Text+"\n")
			return StatusUsage
		}
		io.WriteString(stderr, "error: "+usage.Text+"\n\n")
		if usage.Usage != "" {
			io.WriteString(stderr, "Usage: "+usage.Usage+"\n\n")
		}
		io.WriteString(stderr, "For more information, try '--help'.\n")
		return StatusUsage
	}
	io.WriteString(stderr, printable(describe(err)))
	status := StatusFailure
	var se *StatusError
	if errors.As(err, &se) {
		status = se.Status
	}
	return status
}

// describe formats err as "Error: ..." with its causes below, outermost first.
func describe(err error) string {
	var b strings.Builder
	steps := causes(err)
	fmt.Fprintf(&b, "Error: %s\n", steps[0])
	if len(steps) > 1 {
		b.WriteString("\nCaused by:\n")
	}
	for i, s := range steps[1:] {
		if len(steps) == 2 {
			fmt.Fprintf(&b, "    %s\n", indent(s))
		} else {
			fmt.Fprintf(&b, "    %d: %s\n", i, indent(s))
		}
	}
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintf(&b, "\nHint: %s.\n", h.hint)
	}
	return b.String()
}

// printable shows what would act on a terminal as its escape: errors quote names and
// words of images and registries.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n' || r == '\t' || strconv.IsPrint(r):
			b.WriteString(s[:n])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		s = s[n:]
	}
	return b.String()
}

// Quote shows a word of somebody else's, such as the path of a file, in one line: as it
// is if it is harmless on a terminal, else quoted.
func Quote(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) && !strings.ContainsAny(s, `"\`) {
		return s
	}
	return strconv.Quote(s)
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n       ") }

// causes splits "open image: inode at 0x40: zero" at the errors that were wrapped
// with a colon. An error that says less than its own text is one step.
func causes(err error) []string {
	var steps []string
	for err != nil {
		switch e := err.(type) {
		case *hintError:
			err = e.err
			continue
		case *StatusError:
			err = e.Err
			continue
		case *fs.PathError, *os.LinkError, *os.SyscallError:
			return append(steps, err.Error())
		}
		inner := errors.Unwrap(err)
		if inner == nil {
			return append(steps, err.Error())
		}
		outer, ok := strings.CutSuffix(err.Error(), ": "+inner.Error())
		switch {
		case ok:
			steps = append(steps, outer)
		case err.Error() != inner.Error():
			return append(steps, err.Error())
		}
		err = inner
	}
	return steps
}
