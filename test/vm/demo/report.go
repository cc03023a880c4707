package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// heading starts a part of the demo.
func heading(text string) { fmt.Printf("\n%s\n", text) }

// note prints one line of what happened.
func note(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

// command prints a command line, with paths cut short.
func command(program string, args []string) {
	short := make([]string, len(args))
	for i, a := range args {
		if short[i] = a; filepath.IsAbs(a) {
			short[i] = filepath.Base(a)
		}
	}
	note("$ %s %s", program, strings.Join(short, " "))
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// count sets thousands apart.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
