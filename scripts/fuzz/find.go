package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Fuzzer is one fuzz test.
type Fuzzer struct {
	Dir  string // of its package, from the root
	Name string
}

func (f Fuzzer) String() string { return f.Dir + "." + f.Name }

// corpus is the folder of the inputs that are in the repository.
func (f Fuzzer) corpus() string { return filepath.Join(f.Dir, "testdata", "fuzz", f.Name) }

// find lists the fuzz tests below root, sorted. It reads the files and does not ask the compiler: one behind a build tag is found too, and
// fails to run.
func find(root string) ([]Fuzzer, error) {
	var all []Fuzzer
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != root && (name[0] == '.' || name == "testdata" || name == "bin" || name == "node_modules") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("look for fuzzers: %w", err)
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && isFuzzer(f) {
				all = append(all, Fuzzer{Dir: filepath.ToSlash(dir), Name: f.Name.Name})
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Fuzzer) int { return strings.Compare(a.String(), b.String()) })
	return all, err
}

// isFuzzer: a function FuzzX(f *testing.F).
func isFuzzer(f *ast.FuncDecl) bool {
	if f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") || len(f.Type.Params.List) != 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	of, ok := pointer.X.(*ast.SelectorExpr)
	return ok && of.Sel.Name == "F"
}
