package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	linkPattern = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	codePattern = regexp.MustCompile("`([^`\n]+)`")
	pathPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$`)
	goFile      = regexp.MustCompile(`\b[a-z][A-Za-z0-9_]*(?:/[A-Za-z0-9_]+)*\.go\b`)
	testName    = regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Za-z0-9_]+)[^`]*`")
)

func documents(t *testing.T, root string) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".md") {
			docs = append(docs, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	root := load(t).root
	for _, doc := range documents(t, root) {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range linkPattern.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if !exists(filepath.Join(filepath.Dir(doc), m[1])) {
				t.Errorf("%s links to %s, which does not exist", filepath.Base(doc), m[1])
			}
		}
	}
}

// TestFilesInDocumentsExist wants each Go file that a document names below the root,
// and each page that it sets in code type below the root or beside the document.
func TestFilesInDocumentsExist(t *testing.T) {
	root := load(t).root
	for _, doc := range documents(t, root) {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range goFile.FindAllString(string(b), -1) {
			if !exists(filepath.Join(root, name)) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(doc), name)
			}
		}
		for _, m := range codePattern.FindAllStringSubmatch(string(b), -1) {
			name := m[1]
			if pathPattern.MatchString(name) && strings.HasSuffix(name, ".md") &&
				!exists(filepath.Join(root, name)) && !exists(filepath.Join(filepath.Dir(doc), name)) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(doc), name)
			}
		}
	}
}

// TestArchitectureNamesEveryPackage wants each package in code type with a slash at
// its end. Programs, and packages for tests that stand below what they test, are
// told by their folder.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	tr := load(t)
	b, err := os.ReadFile(filepath.Join(tr.root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.pkgs {
		if p.under("cmd", "backend") || strings.HasSuffix(p.rel, "test") || strings.Count(p.rel, "/") > 1 {
			continue
		}
		if !strings.Contains(string(b), "`"+p.rel+"/`") {
			t.Errorf("docs/ARCHITECTURE.md does not say what %s/ is for", p.rel)
		}
	}
}

// TestDocumentsNameTestsThatExist reads what a document sets in code type. A subtest's
// name is not looked at.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	tr := load(t)
	known := map[string]bool{}
	for _, p := range tr.pkgs {
		for _, f := range p.files {
			for name := range testFunctions(f) {
				known[name] = true
			}
		}
	}
	for _, doc := range documents(t, tr.root) {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(b), -1) {
			if !known[m[1]] {
				t.Errorf("%s names %s, which no package has", filepath.Base(doc), m[1])
			}
		}
	}
}
