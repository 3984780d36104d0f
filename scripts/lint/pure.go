package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// purePackages are the ones that the simulator runs: same inputs, same outputs, always.
var purePackages = []string{"node/lease", "node/control", "node/sim/metastore", "raftstore/replica"}

// pureImports is all that they may import besides this module (importRule has its own say there).
var pureImports = []string{
	"bytes", "cmp", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "hash/crc32", "hash/fnv", "iter",
	"maps", "math", "math/bits", "regexp", "slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
	"go.etcd.io/raft/v3", "go.etcd.io/raft/v3/raftpb", "go.etcd.io/raft/v3/tracker", "google.golang.org/protobuf/proto",
}

// pureNames is all that they may use of packages that are not pure as a whole: durations, not clocks; text, not files.
var pureNames = map[string][]string{
	"time": {"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour", "ParseDuration"},
	"fmt":  {"Append", "Appendf", "Appendln", "Errorf", "Formatter", "GoStringer", "Sprint", "Sprintf", "Sprintln", "State", "Stringer"},
}

// sorters are the calls that take the disorder out of maps.Keys and maps.Values.
var sorters = []string{"Sorted", "SortedFunc", "SortedStableFunc"}

// pureRule proves that the pure packages have no clock, randomness, goroutine, channel or IO. mapOrderRule, which
// needs types, does the rest.
func pureRule(t *tree) []Finding {
	var out []Finding
	for _, s := range t.files {
		if s.test || !slices.Contains(purePackages, s.dir()) {
			continue
		}
		for _, spec := range s.syntax.Imports {
			target := importPath(spec)
			if !slices.Contains(pureImports, target) && !strings.HasPrefix(target, module+"/") {
				out = append(out, t.find(s, spec.Pos(), "pure", "import of %s", target))
			}
			if spec.Name != nil && spec.Name.Name == "." {
				out = append(out, t.find(s, spec.Pos(), "pure", "dot import hides what is used"))
			}
		}
		names := s.imported()
		sorted := sortedCalls(names, s.syntax)
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if what := impure(names, sorted, n); what != "" {
				out = append(out, t.find(s, n.Pos(), "pure", "%s", what))
			}
			return true
		})
	}
	return out
}

// impure names what is wrong with one node of a pure package's syntax, empty if nothing.
func impure(names map[string]string, sorted map[ast.Expr]bool, n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.SelectStmt:
		return "select"
	case *ast.ChanType:
		return "channel"
	case *ast.SendStmt:
		return "send on a channel"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "receive from a channel"
		}
	case *ast.CallExpr:
		from, name := member(names, n.Fun)
		if from == "maps" && slices.Contains([]string{"All", "Keys", "Values"}, name) && !sorted[n] {
			return "maps." + name + " without slices.Sorted: the order of a map"
		}
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
			return id.Name + " writes to standard error"
		}
	case *ast.SelectorExpr:
		from, name := member(names, n)
		if may := pureNames[from]; may != nil && !slices.Contains(may, name) {
			return "use of " + from + "." + name
		}
	}
	return ""
}

// sortedCalls are the expressions that are handed straight to slices.Sorted and its kin.
func sortedCalls(names map[string]string, f *ast.File) map[ast.Expr]bool {
	out := map[ast.Expr]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		if from, name := member(names, call.Fun); from == "slices" && slices.Contains(sorters, name) {
			out[call.Args[0]] = true
		}
		return true
	})
	return out
}

// exportData runs `go list -export` below root and returns where the compiler put the types of every package that the
// given ones need.
func exportData(root string, packages ...string) (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Export"}, packages...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list export data: %w: %s", err, stderr.String())
	}
	files := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct{ ImportPath, Export string }
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return files, nil
		} else if err != nil {
			return nil, fmt.Errorf("read export data: %w", err)
		}
		files[p.ImportPath] = p.Export
	}
}

// mapOrderRule finds every range over a map, or over an iterator of package maps, in the pure packages. exports comes
// from exportData.
func mapOrderRule(t *tree, exports map[string]string) ([]Finding, error) {
	imp := importer.ForCompiler(t.fset, "gc", func(target string) (io.ReadCloser, error) { return os.Open(exports[target]) })
	var out []Finding
	for _, dir := range purePackages {
		var files []*ast.File
		owner := map[*ast.File]*source{}
		for _, s := range t.files {
			if s.dir() == dir && !s.test {
				files = append(files, s.syntax)
				owner[s.syntax] = s
			}
		}
		if len(files) == 0 {
			continue
		}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
		if _, err := (&types.Config{Importer: imp}).Check(module+"/"+dir, t.fset, files, info); err != nil {
			return nil, fmt.Errorf("check types of %s: %w", dir, err)
		}
		for _, f := range files {
			out = append(out, mapRanges(t, owner[f], info)...)
		}
	}
	return out, nil
}

func mapRanges(t *tree, s *source, info *types.Info) []Finding {
	var out []Finding
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		loop, ok := n.(*ast.RangeStmt)
		if !ok {
			return true
		}
		switch info.TypeOf(loop.X).Underlying().(type) {
		case *types.Map:
			out = append(out, t.find(s, loop.Pos(), "pure", "range over a map: its order differs from run to run"))
		case *types.Chan:
			out = append(out, t.find(s, loop.Pos(), "pure", "range over a channel"))
		}
		return true
	})
	return out
}
