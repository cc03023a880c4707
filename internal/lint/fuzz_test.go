package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testFunctions are the top-level functions of a test file by name.
func testFunctions(f file) map[string]*ast.FuncDecl {
	fns := map[string]*ast.FuncDecl{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
			fns[fn.Name.Name] = fn
		}
	}
	return fns
}

func TestEveryFuzzTargetKeepsSeeds(t *testing.T) {
	tr := load(t)
	for _, p := range tr.pkgs {
		for _, f := range p.files {
			for name, fn := range testFunctions(f) {
				if !strings.HasPrefix(name, "Fuzz") {
					continue
				}
				seeds, err := os.ReadDir(filepath.Join(p.Dir, "testdata", "fuzz", name))
				if err != nil || len(seeds) == 0 {
					t.Errorf("%s: no seeds in %s/testdata/fuzz/%s", tr.at(fn.Pos()), p.rel, name)
				}
			}
		}
	}
}
