package main

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"

	"vrafs/build"
	"vrafs/internal/cli"
)

// prefetchPolicies are the values of --prefetch-policy.
var prefetchPolicies = []string{"fs", "blob", "none"}

func prefetchOption(p *string) *cli.Option {
	return &cli.Option{Long: "prefetch-policy", Value: "prefetch-policy", Help: "Prefetch files; with fs or blob the paths are read from standard input, one per line",
		Choices: prefetchPolicies, Default: "none", Set: cli.Str(p)}
}

// maxPattern bounds a line of standard input: a path and its newline.
const maxPattern = 1 << 16

// readPrefetch reads the patterns that belong to a policy. Standard input is left
// alone without one: nobody may be there to close it.
func readPrefetch(env *cli.Env, policy string) (build.Prefetch, error) {
	var p build.Prefetch
	switch policy {
	case "fs":
		p.Policy = build.PrefetchFS
	case "blob":
		p.Policy = build.PrefetchBlob
	default:
		return p, nil
	}
	lines, err := readPatterns(env.Stdin)
	if err != nil {
		return p, fmt.Errorf("read prefetch patterns from standard input: %w", err)
	}
	seen := make(map[string]bool)
	for _, l := range lines {
		clean := path.Clean(l)
		if above, ok := covered(seen, clean); ok {
			env.Log.Warn(fmt.Sprintf("prefetch pattern %q is covered by %q, ignored", l, above))
			continue
		}
		seen[clean] = true
		p.Patterns = append(p.Patterns, clean)
	}
	return p, nil
}

// covered finds p or a directory above it in seen.
func covered(seen map[string]bool, p string) (string, bool) {
	for {
		if seen[p] {
			return p, true
		}
		if p == "/" {
			return "", false
		}
		p = path.Dir(p)
	}
}

func readPatterns(r io.Reader) ([]string, error) {
	var lines []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxPattern)
	for s.Scan() {
		l := strings.TrimSpace(s.Text())
		if l == "" {
			continue
		}
		if !strings.HasPrefix(l, "/") {
			return nil, fmt.Errorf("%q is not an absolute path", l)
		}
		lines = append(lines, l)
	}
	return lines, s.Err()
}
