package lint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// importTable reads the block fenced as "imports" in docs/ARCHITECTURE.md: a
// package, an arrow, and what it may import; a/* stands for all below a.
func importTable(t *testing.T, root string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(b), "```imports\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no ```imports block")
	}
	block, _, _ = strings.Cut(block, "```")
	table := map[string][]string{}
	for line := range strings.Lines(block) {
		from, to, ok := strings.Cut(line, "->")
		if !ok {
			t.Fatalf("docs/ARCHITECTURE.md: no arrow in %q", line)
		}
		table[strings.TrimSpace(from)] = strings.Fields(to)
	}
	return table
}

// rowOf finds the row for a package: its own, or that of the nearest folder above.
func rowOf(table map[string][]string, rel string) (allowed []string, ok bool) {
	if allowed, ok = table[rel]; ok {
		return allowed, true
	}
	for dir := filepath.Dir(rel); dir != "."; dir = filepath.Dir(dir) {
		if allowed, ok = table[dir+"/*"]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func mayImport(allowed []string, rel string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		dir, wild := strings.CutSuffix(a, "/*")
		return a == rel || wild && strings.HasPrefix(rel, dir+"/")
	})
}

// isHelper reports whether rel is one of the internal packages that everyone may
// import, at the price of what these import themselves.
func isHelper(rel string) bool {
	return strings.HasPrefix(rel, "internal/") && rel != "internal/daemon"
}

// imports of ours, where an internal helper counts as what it brings along.
func (tr *tree) effectiveImports(p *pkg) []string {
	byRel := map[string]*pkg{}
	for _, q := range tr.pkgs {
		byRel[q.rel] = q
	}
	var out []string
	seen := map[string]bool{}
	var add func(q *pkg)
	add = func(q *pkg) {
		for _, imp := range q.Imports {
			rel, ours := strings.CutPrefix(imp, modulePath+"/")
			if !ours || seen[rel] {
				continue
			}
			seen[rel] = true
			if isHelper(rel) {
				add(byRel[rel])
			} else {
				out = append(out, rel)
			}
		}
	}
	add(p)
	return out
}

func TestImportGraphIsTheOneInArchitecture(t *testing.T) {
	tr := load(t)
	table := importTable(t, tr.root)
	for _, p := range tr.pkgs {
		imports := tr.effectiveImports(p)
		allowed, listed := rowOf(table, p.rel)
		if !listed && !p.isTestSupport() && (!isHelper(p.rel) || len(imports) > 0) {
			t.Errorf("package %s is missing from the import table in docs/ARCHITECTURE.md", p.rel)
			continue
		}
		if !listed {
			continue // test support and leaf helpers
		}
		for _, imp := range imports {
			if !mayImport(allowed, imp) {
				t.Errorf("%s imports %s: not allowed by docs/ARCHITECTURE.md", p.rel, imp)
			}
		}
	}
}

func TestProgramsDoNotImportTestSupport(t *testing.T) {
	tr := load(t)
	support := map[string]bool{"testing": true}
	for _, p := range tr.pkgs {
		support[p.ImportPath] = p.isTestSupport()
	}
	for _, p := range tr.pkgs {
		for _, imp := range p.Imports {
			if support[imp] && !p.isTestSupport() {
				t.Errorf("%s imports %s, which is for tests", p.rel, imp)
			}
		}
	}
}

// syscallPackages are those whose subject is a system call.
var syscallPackages = []string{
	"virtqueue", "vhostuser", // guest memory, eventfds, descriptors over sockets
	"fusesrv/virtiofs", "fusesrv/devfuse", "fusesrv/passthrough", "fusesrv/imagefs", // queues, /dev/fuse, host files, preadv2
	"blobcache", "backend/localfs", "backend/localdisk", // preadv2, leases, cachestat
	"build", "internal/opener", "internal/scatter", "internal/daemon", "internal/keeper", "cmd", // lstat and xattrs; descriptors; vectors; signals, exec, limits
	"internal/imagemount", // umount
}

func TestUnixSystemCallsStayWhereTheyAreTheSubject(t *testing.T) {
	load(t).productFiles(func(p *pkg, f file) {
		if f.importName("golang.org/x/sys/unix") != "" && !p.under(syscallPackages...) {
			t.Errorf("%s imports golang.org/x/sys/unix, but system calls are not the subject of %s", f.rel, p.rel)
		}
	})
}
