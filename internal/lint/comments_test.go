package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

func TestEveryPackageHasACharter(t *testing.T) {
	for _, p := range load(t).pkgs {
		var docs []string
		for _, f := range p.files {
			if f.Doc != nil && !strings.HasSuffix(f.Name.Name, "_test") {
				docs = append(docs, f.rel)
			}
		}
		if len(docs) != 1 {
			t.Errorf("%s: package comment in %d files %v, want one", p.rel, len(docs), docs)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	tr := load(t)
	told := tr.interfaceMethods()
	for _, p := range tr.pkgs {
		for _, f := range p.files {
			if f.test || f.Name.Name == "main" {
				continue
			}
			for _, d := range f.Decls {
				checkDocumented(t, tr, told, d)
			}
		}
	}
}

// interfaceMethods are the names of all methods of the module's interfaces: what
// they do is said there, once, and not again on each implementation.
func (tr *tree) interfaceMethods() map[string]bool {
	names := map[string]bool{"Error": true, "Unwrap": true, "Is": true, "String": true}
	for _, p := range tr.pkgs {
		for _, f := range p.files {
			ast.Inspect(f.File, func(n ast.Node) bool {
				if it, ok := n.(*ast.InterfaceType); ok {
					for _, m := range it.Methods.List {
						for _, id := range m.Names {
							names[id.Name] = true
						}
					}
				}
				return true
			})
		}
	}
	return names
}

func checkDocumented(t *testing.T, tr *tree, told map[string]bool, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && (d.Recv == nil || !told[d.Name.Name]) {
			t.Errorf("%s: %s has no comment", tr.at(d.Pos()), d.Name.Name)
		}
	case *ast.GenDecl:
		// A comment above a group speaks for constants and variables, not for types;
		// one inside it speaks for the names that it mentions.
		group := d.Doc != nil && (d.Tok != token.TYPE || !d.Lparen.IsValid())
		var texts strings.Builder
		for _, spec := range d.Specs {
			name, text := specDoc(spec)
			texts.WriteString(text)
			if name != nil && name.IsExported() && text == "" && !group && !strings.Contains(texts.String(), name.Name) {
				t.Errorf("%s: %s has no comment", tr.at(spec.Pos()), name.Name)
			}
		}
	}
}

// specDoc returns a declaration's first name and the text of its own comments.
func specDoc(spec ast.Spec) (name *ast.Ident, text string) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		return s.Name, s.Doc.Text() + s.Comment.Text()
	case *ast.ValueSpec:
		return s.Names[0], s.Doc.Text() + s.Comment.Text()
	}
	return nil, ""
}

// exportedReceiver reports whether d is a function, or a method that can be
// reached from outside.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if idx, ok := typ.(*ast.IndexExpr); ok {
		typ = idx.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}
