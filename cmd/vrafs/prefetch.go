package main

import (
	"fmt"
	"io"
	"path"

	"vrafs/build"
	"vrafs/internal/cli"
	"vrafs/internal/filelist"
)

// prefetchPolicies are the values of --prefetch-policy.
var prefetchPolicies = []string{"fs", "blob", "none"}

func prefetchOption(p *string) *cli.Option {
	return &cli.Option{Long: "prefetch-policy", Value: "prefetch-policy", Help: "Prefetch files; with fs or blob the paths are read from standard input, one per line",
		Choices: prefetchPolicies, Default: "none", Set: cli.Str(p)}
}

// prefetchListOption is not nydus-image's.
func prefetchListOption(p *string) *cli.Option {
	return &cli.Option{Long: "prefetch-files", Value: "prefetch-files", Help: "List of the files to prefetch (vrafs ctl files makes one), instead of standard input; implies the policy fs",
		Set: cli.Str(p)}
}

// readPrefetch reads the patterns that belong to a policy, from standard input or from
// the list file. Standard input is left alone without a policy: nobody may be there to
// close it.
func readPrefetch(env *cli.Env, policy, list string) (build.Prefetch, error) {
	var p build.Prefetch
	switch {
	case policy == "blob":
		p.Policy = build.PrefetchBlob
	case policy == "fs" || list != "":
		p.Policy = build.PrefetchFS
	default:
		return p, nil
	}
	files, err := readPatterns(env.Stdin, list)
	if err != nil {
		return p, err
	}
	seen := make(map[string]bool)
	for _, f := range files {
		clean := path.Clean(f.Path)
		if above, ok := covered(seen, clean); ok {
			if list == "" {
				env.Log.Warn(fmt.Sprintf("prefetch pattern %q is covered by %q, ignored", f.Path, above))
			}
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

// readPatterns reads a list from standard input, or from a file unless that is "".
func readPatterns(stdin io.Reader, list string) (files []filelist.File, err error) {
	what := "read prefetch patterns from standard input"
	var text []byte
	if list != "" {
		what = "list of files " + list
		text, err = readFile(list, filelist.MaxSize)
	} else {
		text, err = io.ReadAll(io.LimitReader(stdin, filelist.MaxSize+1))
	}
	if err == nil {
		files, err = filelist.Parse(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return files, nil
}
