package cli

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// An Env is what a command may touch of the outside besides files.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            *slog.Logger
}

// Terminal reports whether w is a terminal.
func Terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
