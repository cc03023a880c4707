package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A moduleTree is the lib/modules directory of one kernel.
type moduleTree struct {
	files   map[string]string // module name -> path of its .ko, perhaps compressed
	builtin map[string]bool
}

// moduleName is what the kernel calls the module in a file: .ko and compression
// suffixes gone, - and _ the same.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func openModules(dir string) (*moduleTree, error) {
	mt := &moduleTree{files: map[string]string{}, builtin: map[string]bool{}}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for path := range strings.FieldsSeq(string(list)) {
		mt.builtin[moduleName(path)] = true
	}
	return mt, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			mt.files[moduleName(path)] = path
		}
		return err
	})
}

// unpack writes the named modules and all they depend on to out, uncompressed,
// and returns the file names in loading order.
func (mt *moduleTree) unpack(ctx context.Context, names []string, out string) ([]string, error) {
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		file := name + ".ko"
		if mt.builtin[name] || slices.Contains(order, file) {
			return nil
		}
		b, err := mt.read(ctx, name)
		if err != nil {
			return err
		}
		deps, err := dependencies(b)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, dep := range deps {
			if err := visit(dep); err != nil {
				return err
			}
		}
		order = append(order, file)
		return os.WriteFile(filepath.Join(out, file), b, 0o644)
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func (mt *moduleTree) read(ctx context.Context, name string) ([]byte, error) {
	path := mt.files[name]
	if path == "" {
		return nil, fmt.Errorf("module %s: neither built in nor in the package", name)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if b, err = decompress(ctx, b); err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	return b, nil
}

// dependencies reads the depends= line of the module's .modinfo section. Debian's
// packages carry no modules.dep, depmod makes it at installation.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if deps, ok := strings.CutPrefix(field, "depends="); ok && deps != "" {
			return strings.Split(deps, ","), nil
		}
	}
	return nil, nil
}
