package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

const modulePath = "vrafs"

// A pkg is one package of the module as `go list -json` describes it.
type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string

	rel   string // path below the module root
	files []file // all Go files of the folder, tests and other platforms included
}

// A file is one parsed Go file.
type file struct {
	*ast.File
	rel   string // path below the module root
	lines int
	test  bool
}

// A tree is the whole module.
type tree struct {
	root string
	fset *token.FileSet
	pkgs []*pkg
}

var loadTree = sync.OnceValues(func() (*tree, error) {
	tr := &tree{root: testenv.ModuleRoot(), fset: token.NewFileSet()}
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports", "./...")
	cmd.Dir = tr.root
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return tr, nil
		} else if err != nil {
			return nil, err
		}
		p.rel = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")
		if err := tr.parse(p); err != nil {
			return nil, err
		}
		tr.pkgs = append(tr.pkgs, p)
	}
})

func (tr *tree) parse(p *pkg) error {
	names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(tr.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		p.files = append(p.files, file{f, path.Join(p.rel, filepath.Base(name)),
			bytes.Count(src, []byte("\n")), strings.HasSuffix(name, "_test.go")})
	}
	return nil
}

func load(t *testing.T) *tree {
	t.Helper()
	tr, err := loadTree()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// at gives a position as file:line below the module root.
func (tr *tree) at(pos token.Pos) string {
	p := tr.fset.Position(pos)
	if rel, err := filepath.Rel(tr.root, p.Filename); err == nil {
		p.Filename = rel
	}
	p.Column = 0
	return p.String()
}

// isTestSupport reports whether the package exists for tests only.
func (p *pkg) isTestSupport() bool {
	return strings.HasPrefix(p.rel, "test/") || strings.HasPrefix(p.rel, "internal/test") ||
		strings.HasPrefix(p.rel, "internal/lint") || strings.HasSuffix(p.rel, "test")
}

// under reports whether the package is one of dirs or lies below one of them.
func (p *pkg) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p.rel == d || strings.HasPrefix(p.rel, d+"/") })
}

// importName is the name by which f refers to an imported path, "" if it does not.
func (f file) importName(importPath string) string {
	for _, imp := range f.Imports {
		if strings.Trim(imp.Path.Value, `"`) != importPath {
			continue
		}
		if imp.Name != nil {
			return imp.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// uses calls report for every selector name of the package importPath in f.
func (f file) uses(importPath string, report func(sel *ast.SelectorExpr)) {
	local := f.importName(importPath)
	if local == "" {
		return
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
				report(sel)
			}
		}
		return true
	})
}

// productFiles calls visit for every file that is built into a program.
func (tr *tree) productFiles(visit func(p *pkg, f file)) {
	for _, p := range tr.pkgs {
		if p.isTestSupport() {
			continue
		}
		for _, f := range p.files {
			if !f.test {
				visit(p, f)
			}
		}
	}
}
