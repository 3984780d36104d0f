package lint

import (
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
)

// Caps. They are hard: a file or function that does not fit has two ideas in it.
const (
	maxFuncLines = 70  // from `func` to its closing brace
	maxFileLines = 500 // of a product file
	maxTestLines = 600 // of a test file
)

// shapeRule enforces the caps.
func shapeRule(t *tree) []Finding {
	var out []Finding
	for _, s := range t.files {
		if s.generated {
			continue
		}
		limit := maxFileLines
		if s.test {
			limit = maxTestLines
		}
		if s.lines > limit {
			out = append(out, t.find(s, s.syntax.Package, "shape", "file of %d lines, at most %d", s.lines, limit))
		}
		for _, f := range functions(s) {
			if n := t.line(f.End()) - t.line(f.Pos()) + 1; n > maxFuncLines {
				out = append(out, t.find(s, f.Pos(), "shape", "function %s of %d lines, at most %d", f.Name.Name, n, maxFuncLines))
			}
		}
	}
	return out
}

func functions(s *source) []*ast.FuncDecl {
	var out []*ast.FuncDecl
	for _, d := range s.syntax.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			out = append(out, f)
		}
	}
	return out
}

// selfEvident are methods whose meaning is that of the standard interface they implement.
var selfEvident = []string{"Error", "String", "Unwrap"}

// docRule wants a comment on every package that is not generated, and on every exported top-level name.
func docRule(t *tree) []Finding {
	var out []Finding
	undocumented := map[string]*source{}
	for _, s := range t.files {
		if _, seen := undocumented[s.dir()]; !seen {
			undocumented[s.dir()] = s
		}
		if s.syntax.Doc != nil || s.generated {
			undocumented[s.dir()] = nil
		}
		if s.test || s.generated {
			continue
		}
		for _, d := range s.syntax.Decls {
			for _, id := range bare(d) {
				out = append(out, t.find(s, id.Pos(), "docs", "exported %s has no comment", id.Name))
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(undocumented)) {
		if s := undocumented[dir]; s != nil {
			out = append(out, t.find(s, s.syntax.Package, "docs", "package %s has no doc.go and no package comment", dir))
		}
	}
	return out
}

// bare lists the exported names that a declaration leaves without a comment. In a group of constants or variables the
// comment of the group counts for all; a type wants its own.
func bare(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		standard := d.Recv != nil && slices.Contains(selfEvident, d.Name.Name)
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !standard {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		if d.Doc != nil && (d.Tok != token.TYPE || !d.Lparen.IsValid()) {
			return nil
		}
		var out []*ast.Ident
		for _, spec := range d.Specs {
			out = append(out, bareNames(spec)...)
		}
		return out
	}
	return nil
}

func bareNames(spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Doc == nil && s.Comment == nil {
			names = []*ast.Ident{s.Name}
		}
	case *ast.ValueSpec:
		if s.Doc == nil && s.Comment == nil {
			names = s.Names
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(id *ast.Ident) bool { return !id.IsExported() })
}

// exportedReceiver is true for functions and for methods that a reader of the package's documentation sees.
func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// unfinished are the marks of work that was left for later. Such work belongs in an issue.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME)\b`)

// skips are the methods of testing that make a test pass without having tested.
var skips = []string{"Skip", "Skipf", "SkipNow"}

// bannedRule refuses init functions, skipped tests, unfinished-work marks and contexts that nobody owns.
func bannedRule(t *tree) []Finding {
	var out []Finding
	for _, s := range t.files {
		if s.generated {
			continue
		}
		for _, f := range functions(s) {
			if f.Recv == nil && f.Name.Name == "init" {
				out = append(out, t.find(s, f.Pos(), "banned", "init function: whoever imports the package cannot say no"))
			}
		}
		for _, group := range s.syntax.Comments {
			if mark := unfinished.FindString(group.Text()); mark != "" {
				out = append(out, t.find(s, group.Pos(), "banned", "%s: finish it or open an issue", mark))
			}
		}
		names := s.imported()
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if what := bannedCall(names, n); what != "" {
				out = append(out, t.find(s, n.Pos(), "banned", "%s", what))
			}
			return true
		})
	}
	return out
}

func bannedCall(names map[string]string, n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if from, name := member(names, sel); from == "context" && name == "TODO" {
		return "context.TODO: take the caller's context"
	}
	if names["testing"] == "testing" && slices.Contains(skips, sel.Sel.Name) {
		return "skipped test: make what it needs, or fail"
	}
	return ""
}
