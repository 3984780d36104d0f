package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/duoflow/duoflow/cmd/manual"
)

// group is the keys of one struct of a configuration, at one place in the file.
type group struct {
	path string // "" for the file itself
	doc  string
	keys []key
}

// key is one key, with what the comment in the code says about it.
type key struct{ path, kind, doc string }

// structs are the types of a package that YAML is read into.
type structs map[string]*ast.TypeSpec

// root is the type that a file of configuration is read into.
const root = "Config"

// readKeys finds the keys of a configuration, depth first, in the code that reads it: comments are what describes them.
func readKeys(dir string) ([]group, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", dir, err)
	}
	types, files := structs{}, token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("read the keys of %s: %w", dir, err)
		}
		types.add(file)
	}
	if types[root] == nil {
		return nil, fmt.Errorf("read the keys of %s: no type %s", dir, root)
	}
	return types.walk(root, ""), nil
}

func (t structs) add(file *ast.File) {
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.TYPE {
			continue
		}
		for _, s := range group.Specs {
			spec := s.(*ast.TypeSpec)
			if spec.Doc == nil {
				spec.Doc = group.Doc
			}
			t[spec.Name.Name] = spec
		}
	}
}

// walk returns the group of a struct, and after it those of the structs in it.
func (t structs) walk(name, path string) []group {
	body, ok := t[name].Type.(*ast.StructType)
	if !ok {
		return nil
	}
	own := group{path: path, doc: t[name].Doc.Text()}
	var below []group
	names := t.names(body)
	if path != "" {
		names[name] = path
	}
	own.doc = spoken(own.doc, names)
	for _, f := range body.Fields.List {
		if f.Tag == nil {
			continue
		}
		text, err := strconv.Unquote(f.Tag.Value)
		yaml := reflect.StructTag(text).Get("yaml")
		if err != nil || yaml == "" {
			continue
		}
		full := strings.TrimPrefix(path+"."+yaml, ".")
		kind, inner, suffix := t.kind(f.Type)
		own.keys = append(own.keys, key{path: full, kind: kind, doc: spoken(f.Doc.Text()+f.Comment.Text(), names)})
		if inner != "" {
			below = append(below, t.walk(inner, full+suffix)...)
		}
	}
	return append([]group{own}, below...)
}

// names are the keys of a struct's fields, by the names that comments call them.
func (t structs) names(body *ast.StructType) map[string]string {
	names := map[string]string{}
	for _, f := range body.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		if text, err := strconv.Unquote(f.Tag.Value); err == nil {
			names[f.Names[0].Name] = reflect.StructTag(text).Get("yaml")
		}
	}
	return names
}

// kind says what is written for a type, which struct it leads to, and what comes between.
func (t structs) kind(of ast.Expr) (kind, inner, suffix string) {
	switch of := of.(type) {
	case *ast.StarExpr:
		return t.kind(of.X)
	case *ast.ArrayType:
		kind, inner, suffix = t.kind(of.Elt)
		return "[" + kind + ", ...]", inner, "[]" + suffix
	case *ast.MapType:
		kind, inner, suffix = t.kind(of.Value)
		return "{NAME: " + kind + ", ...}", inner, ".NAME" + suffix
	case *ast.SelectorExpr:
		return strings.ToLower(of.Sel.Name), "", ""
	case *ast.Ident:
		if spec := t[of.Name]; spec != nil {
			if _, ok := spec.Type.(*ast.StructType); ok {
				return "{...}", of.Name, ""
			}
			return strings.ToLower(of.Name), "", ""
		}
		return map[string]string{"string": "text", "bool": "true or false", "int": "number", "float64": "number"}[of.Name], "", ""
	}
	return "", "", ""
}

var word = regexp.MustCompile(`[A-Z][A-Za-z0-9]*`)

// spoken is a comment with the keys in place of Go's names for them.
func spoken(doc string, names map[string]string) string {
	return word.ReplaceAllStringFunc(strings.TrimSpace(doc), func(w string) string {
		if yaml, ok := names[w]; ok && yaml != "" {
			return yaml
		}
		return w
	})
}

// writeKeys writes the groups as sections of a page.
func writeKeys(page *manual.Page, groups []group) {
	page.Section("keys")
	for _, g := range groups {
		if g.path != "" {
			page.Subsection(g.path)
			page.Text(g.doc)
		}
		for _, k := range g.keys {
			page.Item(k.path, k.kind, k.doc)
		}
	}
}
