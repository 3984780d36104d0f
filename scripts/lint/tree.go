package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is the import path of the repository's root.
const module = "github.com/duoflow/duoflow"

// makefile is where make finds its targets.
const makefile = "Makefile"

// Finding is one breach of one rule.
type Finding struct {
	File string // path from the root, slashes
	Line int    // from 1; 0 = the whole file
	Rule string // name as in doc.go
	Text string // what is wrong and what to do
}

// String formats the finding as compilers do.
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Text) }

// source is one parsed Go file.
type source struct {
	path      string // from the root, slashes
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
}

func (s *source) dir() string { return path.Dir(s.path) }

// tree is the repository as the rules see it.
type tree struct {
	fset  *token.FileSet
	files []*source         // sorted by path
	docs  map[string]string // Markdown, by path
	paths map[string]bool   // every file and directory there is
	// makefile is the text of the Makefile at the root.
	makefile string
}

// unread are directories that are not part of the repository's text.
var unread = []string{".git", ".cache", ".run", "bin", "node_modules", "testdata", "__pycache__"}

// load reads the tree below root. Directories named in unread are listed in paths but not read.
func load(root string) (*tree, error) {
	texts := map[string]string{}
	paths := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		paths[rel] = true
		if entry.IsDir() {
			if slices.Contains(unread, entry.Name()) && entry.Name() != "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if ext := path.Ext(rel); ext != ".go" && ext != ".md" && rel != makefile || slices.Contains(strings.Split(rel, "/"), "testdata") {
			return nil
		}
		text, err := os.ReadFile(name)
		texts[rel] = string(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	return newTree(texts, paths)
}

// newTree parses texts by path; paths may hold more names that exist.
func newTree(texts map[string]string, paths map[string]bool) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), docs: map[string]string{}, paths: paths}
	for name, text := range texts {
		if name == makefile {
			t.makefile = text
			continue
		}
		if path.Ext(name) == ".md" {
			t.docs[name] = text
			continue
		}
		syntax, err := parser.ParseFile(t.fset, name, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		t.files = append(t.files, &source{
			path: name, test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax),
			lines: strings.Count(text, "\n"), syntax: syntax,
		})
	}
	slices.SortFunc(t.files, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return t, nil
}

// find makes a finding at a place in a file.
func (t *tree) find(s *source, at token.Pos, rule, format string, args ...any) Finding {
	return Finding{File: s.path, Line: t.line(at), Rule: rule, Text: fmt.Sprintf(format, args...)}
}

func (t *tree) line(at token.Pos) int { return t.fset.Position(at).Line }

// imported maps the local name of every import of s to its path, the name being guessed from the path as goimports
// does: the last element that is not a major version.
func (s *source) imported() map[string]string {
	names := map[string]string{}
	for _, spec := range s.syntax.Imports {
		target := importPath(spec)
		name := path.Base(target)
		if len(name) > 1 && name[0] == 'v' && name[1] >= '0' && name[1] <= '9' {
			name = path.Base(path.Dir(target))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = target
	}
	return names
}

func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, "`\"") }

// member tells which package a selector takes its name from: "time", "Now" for time.Now. Local variables that hide a
// package's name would fool it; revive's import-shadowing keeps those out.
func member(names map[string]string, e ast.Expr) (from, name string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	base, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return names[base.Name], sel.Sel.Name
}
