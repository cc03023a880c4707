package lint

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestUnsafeOnlyInUnsafeFiles(t *testing.T) {
	for _, p := range load(t).pkgs {
		for _, f := range p.files {
			if f.importName("unsafe") != "" && !strings.Contains(path.Base(f.rel), "_unsafe") {
				t.Errorf("%s uses unsafe; its name must end in _unsafe.go", f.rel)
			}
		}
	}
}

// ending maps an import path to the names in it that end or write for the process.
var ending = map[string][]string{
	"log": {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println"},
	"os":  {"Exit"},
	"fmt": {"Print", "Printf", "Println"},
}

func TestOnlyProgramsPrintAndExit(t *testing.T) {
	tr := load(t)
	tr.productFiles(func(p *pkg, f file) {
		if p.under("cmd") {
			return
		}
		for imp, names := range ending {
			f.uses(imp, func(sel *ast.SelectorExpr) {
				if slices.Contains(names, sel.Sel.Name) {
					t.Errorf("%s: %s.%s outside cmd/", tr.at(sel.Pos()), imp, sel.Sel.Name)
				}
			})
		}
		for _, call := range calls(f.File, "print", "println") {
			t.Errorf("%s: %s outside cmd/", tr.at(call.Pos()), call.Fun.(*ast.Ident).Name)
		}
	})
}

// TestNothingPanics, packages for tests neither: these end the test.
func TestNothingPanics(t *testing.T) {
	tr := load(t)
	for _, p := range tr.pkgs {
		if p.under("cmd", "internal/invariants") {
			continue
		}
		for _, f := range p.files {
			for _, call := range calls(f.File, "panic") {
				if !f.test {
					t.Errorf("%s: panic outside cmd/ and internal/invariants", tr.at(call.Pos()))
				}
			}
		}
	}
}

// recovering lists the packages with goroutines that touch memory whose pages can
// go away (guest memory, mapped bootstraps, chunk maps, blob meta). Each has its
// recover at the top of such a goroutine; nothing else may recover.
var recovering = []string{
	"vhostuser",                                        // queues and control: guest memory
	"fusesrv/virtiofs", "fusesrv/devfuse", "blobcache", // request loops, workers, fetches: all mappings of an image
	"internal/bootload", "internal/daemon", // opening and checking an image on behalf of a request
	"cmd/vrafs", // a command, all of whose reads of a mapping are on one goroutine
}

func TestRecoverOnlyWhereMappingsCanFault(t *testing.T) {
	tr := load(t)
	tr.productFiles(func(p *pkg, f file) {
		for _, call := range calls(f.File, "recover") {
			if !slices.Contains(recovering, p.rel) {
				t.Errorf("%s: recover outside the packages listed in internal/lint", tr.at(call.Pos()))
			}
		}
	})
}

// opens maps an import path to the names in it that open, change or run
// something by path.
var opens = map[string][]string{
	"os": {"Open", "OpenFile", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir", "OpenRoot", "OpenInRoot",
		"Mkdir", "MkdirAll", "MkdirTemp", "Remove", "RemoveAll", "Rename", "Link", "Symlink", "Truncate", "StartProcess"},
	"golang.org/x/sys/unix": {"Open", "Openat", "Openat2", "Creat", "Rename", "Renameat", "Unlink", "Unlinkat", "Mkdir"},
	"syscall":               {"Open", "Openat", "Creat", "Rename", "Unlink", "Mkdir", "Exec", "ForkExec", "StartProcess"},
	"os/exec":               {"Command", "CommandContext"},
	"io/ioutil":             {"ReadFile", "WriteFile", "TempFile", "ReadDir"},
}

// opensByPath are the packages that may open by path: the opener itself, what
// runs before or beside serving, and exceptions with their reason.
var opensByPath = []string{
	"internal/opener",
	"cmd", "build", "oci", // programs, builder and converter: the user's own files
	"internal/cli",        // the log file, before anything is served
	"internal/imagemount", // commands that start and end a daemon, and what they leave for each other
	"kata/doctor",         // looks over a node for its operator, and serves nothing
	"fusesrv/passthrough", // its subject is the host's directory, always below one descriptor
}

// startsPrograms are the files that may: the set-uid program which mounts for users,
// before anything is served and after, and this program itself, as keeper and
// successor.
var startsPrograms = []string{"fusesrv/devfuse/helper.go", "internal/keeper/program.go", "internal/daemon/successor.go"}

func TestServingCodeOpensThroughTheOpener(t *testing.T) {
	tr := load(t)
	tr.productFiles(func(p *pkg, f file) {
		if p.under(opensByPath...) || slices.Contains(startsPrograms, f.rel) {
			return
		}
		for imp, names := range opens {
			f.uses(imp, func(sel *ast.SelectorExpr) {
				if slices.Contains(names, sel.Sel.Name) {
					t.Errorf("%s: %s.%s; open through internal/opener", tr.at(sel.Pos()), path.Base(imp), sel.Sel.Name)
				}
			})
		}
	})
}

// calls finds the calls of built-in functions by name.
func calls(f *ast.File, names ...string) []*ast.CallExpr {
	var out []*ast.CallExpr
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if id, ok := call.Fun.(*ast.Ident); ok && slices.Contains(names, id.Name) {
				out = append(out, call)
			}
		}
		return true
	})
	return out
}

const (
	maxFunctionLines = 100
	maxFileLines     = 800
)

func TestFunctionsAndFilesAreShort(t *testing.T) {
	tr := load(t)
	for _, p := range tr.pkgs {
		for _, f := range p.files {
			if f.lines > maxFileLines {
				t.Errorf("%s has %d lines; past %d it is two subjects", f.rel, f.lines, maxFileLines)
			}
		}
	}
	tr.productFiles(func(_ *pkg, f file) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := tr.fset.Position(fn.Pos()), tr.fset.Position(fn.End())
			if n := last.Line - first.Line + 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, the limit is %d", tr.at(fn.Pos()), fn.Name.Name, n, maxFunctionLines)
			}
		}
	})
}
