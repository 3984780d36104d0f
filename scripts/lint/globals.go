package lint

import (
	"go/ast"
	"go/token"
	"strings"
)

// globalRule lets package-level variables be tables and sentinel errors only: they get their value where they are
// declared, nothing changes them, and nothing in them exists to be changed (locks, atomics, channels, pools).
func globalRule(t *tree) []Finding {
	var out []Finding
	globals := map[string]*globalNames{} // by package directory
	for _, s := range t.files {
		if s.test || s.generated {
			continue
		}
		names := s.imported()
		for _, v := range variables(s) {
			if globals[s.dir()] == nil {
				globals[s.dir()] = &globalNames{names: map[string]bool{}, specs: map[any]bool{}}
			}
			globals[s.dir()].add(v.spec)
			if s.syntax.Name.Name == "main" && v.spec.Names[0].Name == "version" {
				continue // the linker sets it
			}
			if what := changeable(names, v); what != "" {
				out = append(out, t.find(s, v.spec.Pos(), "globals", "%s is %s; keep it in a value that somebody owns", v.spec.Names[0].Name, what))
			}
		}
	}
	for _, s := range t.files {
		if !s.test && !s.generated && globals[s.dir()] != nil {
			out = append(out, changed(t, s, globals[s.dir()])...)
		}
	}
	return out
}

// globalNames are the package-level variables of one package.
type globalNames struct {
	names map[string]bool
	specs map[any]bool // their declarations, as the parser's objects point at them
}

func (g *globalNames) add(spec *ast.ValueSpec) {
	g.specs[spec] = true
	for _, id := range spec.Names {
		g.names[id.Name] = true
	}
}

// has tells whether id means one of them: the parser resolved it to such a declaration, or, for a declaration in
// another file of the package, to nothing.
func (g *globalNames) has(id *ast.Ident) bool {
	return id != nil && g.names[id.Name] && (id.Obj == nil || g.specs[id.Obj.Decl])
}

// variable is one declaration outside any function.
type variable struct {
	spec     *ast.ValueSpec
	embedded bool // its value is a file
}

func variables(s *source) []variable {
	var out []variable
	for _, d := range s.syntax.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			v := spec.(*ast.ValueSpec)
			if v.Names[0].Name != "_" {
				out = append(out, variable{spec: v, embedded: embeds(group.Doc) || embeds(v.Doc)})
			}
		}
	}
	return out
}

func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed") {
			return true
		}
	}
	return false
}

// changeable says what makes a variable more than a table, empty if nothing.
func changeable(names map[string]string, v variable) string {
	if len(v.spec.Values) == 0 && !v.embedded {
		return "declared without a value, so something sets it later"
	}
	what := ""
	ast.Inspect(v.spec, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // what a function does is its own affair
		case *ast.ChanType:
			what = "a channel"
		case *ast.SelectorExpr:
			if from, name := member(names, n); from == "sync" || from == "sync/atomic" {
				what = from + "." + name
			}
		}
		return true
	})
	return what
}

// changed finds what sets a global, or part of it, or hands out its address. The address of an element is let through:
// that is how big rows are read.
func changed(t *tree, s *source, globals *globalNames) []Finding {
	var out []Finding
	note := func(e ast.Expr, what string) {
		if id := root(e); globals.has(id) {
			out = append(out, t.find(s, e.Pos(), "globals", "%s %s", id.Name, what))
		}
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				if n.Tok != token.DEFINE {
					note(e, "is assigned to")
				}
			}
		case *ast.IncDecStmt:
			note(n.X, "is assigned to")
		case *ast.UnaryExpr:
			if id, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
				note(id, "has its address taken")
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (id.Name == "delete" || id.Name == "clear") {
				note(n.Args[0], "is emptied")
			}
		}
		return true
	})
	return out
}

// root is x in x, x[i], x.f, *x and any mix of them.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
