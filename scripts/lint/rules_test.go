package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// example is a tree in memory and what one rule must find in it: "file:line" and a part of the text.
type example struct {
	name  string
	files map[string]string
	want  []string
}

// parse builds the tree; every file's directories exist too.
func parse(t *testing.T, files map[string]string) *tree {
	t.Helper()
	paths := map[string]bool{}
	for name := range files {
		for i, c := range name {
			if c == '/' {
				paths[name[:i]] = true
			}
		}
		paths[name] = true
	}
	repo, err := newTree(files, paths)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func check(t *testing.T, rule func(*tree) []Finding, examples []example) {
	t.Helper()
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) { compare(t, rule(parse(t, e.files)), e.want) })
	}
}

// compare wants one finding for each wanted "file:line text", in any order.
func compare(t *testing.T, found []Finding, want []string) {
	t.Helper()
	left := slices.Clone(want)
	for _, f := range found {
		i := slices.IndexFunc(left, func(w string) bool {
			place, text, _ := strings.Cut(w, " ")
			return place == fmt.Sprintf("%s:%d", f.File, f.Line) && strings.Contains(f.Text, text)
		})
		if i < 0 {
			t.Errorf("not wanted: %s", f)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, w := range left {
		t.Errorf("not found: %s", w)
	}
}

func TestImportRule(t *testing.T) {
	inner := func(room string) string { return `import _ "github.com/duoflow/duoflow/` + room + `"` }
	one := func(file, line string) map[string]string { return map[string]string{file: "package p\n" + line + "\n"} }
	check(t, importRule, []example{
		{"control may know lease", one("node/control/x.go", inner("node/lease")), nil},
		{"lease may not know control", one("node/lease/x.go", inner("node/control")), []string{"node/lease/x.go:2 may not import node/control"}},
		{"gossip is no input of a decision", one("node/control/x.go", inner("gossip")), []string{"node/control/x.go:2 gossip"}},
		{"siblings do not know each other", one("raftstore/x.go", inner("gossip")), []string{"raftstore/x.go:2 gossip"}},
		{"siblings do not know node", one("airflowctl/fence/x.go", inner("node")), []string{"airflowctl/fence/x.go:2 node"}},
		{"airflow may know fence", one("airflowctl/airflow/x.go", inner("airflowctl/fence")), nil},
		{"fence may not know airflow", one("airflowctl/fence/x.go", inner("airflowctl/airflow")), []string{"airflowctl/fence/x.go:2 airflowctl/airflow"}},
		{"replica may not know its driver", one("raftstore/replica/x.go", inner("raftstore")), []string{"raftstore/replica/x.go:2 raftstore"}},
		{"a longer name is another room", one("gossip/x.go", inner("gossipers")), []string{"gossip/x.go:2 gossipers"}},
		{"duoctl may fence", one("cmd/duoctl/x.go", inner("airflowctl/fence")), nil},
		{"duoctl may not run a node", one("cmd/duoctl/x.go", inner("node")), []string{"cmd/duoctl/x.go:2 node"}},
		{"scripts use the product from outside", one("scripts/bench/x.go", inner("raftstore")), []string{"scripts/bench/x.go:2 raftstore"}},
		{"tests are exempt", one("raftstore/x_test.go", inner("node")), nil},
		{"unknown room", one("attic/x.go", ""), []string{"attic/x.go:1 no room called attic"}},
		{"standard library", one("gossip/x.go", `import _ "net/http"`), nil},
		{"foreign module in its room", one("raftstore/x.go", `import _ "go.etcd.io/bbolt"`), nil},
		{"foreign module elsewhere", one("node/x.go", `import _ "go.etcd.io/bbolt"`), []string{"node/x.go:2 may not use go.etcd.io/bbolt"}},
		{"foreign module without a line", one("node/x.go", `import _ "example.com/new"`), []string{"node/x.go:2 no line"}},
	})
}

func TestNameRule(t *testing.T) {
	check(t, nameRule, []example{
		{"by clause", map[string]string{"node/x.go": "package util"}, []string{"node/x.go:1 util"}},
		{"by directory", map[string]string{"node/helpers/x.go": "package mend"}, []string{"node/helpers/x.go:1 helpers"}},
		{"good", map[string]string{"node/lease/x.go": "package lease"}, nil},
	})
}

// pureBody wraps the body of a function in a file of node/lease; its first line is line 7.
func pureBody(body string) map[string]string {
	return map[string]string{"node/lease/x.go": `package lease
import ("time"; "fmt"; "maps"; "slices")
var _, _ = time.Second, fmt.Sprint
var _, _ = maps.Clone[map[int]int], slices.Max[[]int]
type reads map[int]int
func f(m map[int]int) {
` + body + "\n}\n"}
}

func TestPureRule(t *testing.T) {
	at := func(text string) []string { return []string{"node/lease/x.go:7 " + text} }
	check(t, pureRule, []example{
		{"clock", pureBody("_ = time.Now()"), at("time.Now")},
		{"clock as a value", pureBody("f := time.Now; _ = f"), at("time.Now")},
		{"timer", pureBody("<-time.After(1)"), append(at("time.After"), at("receive")...)},
		{"sleep", pureBody("time.Sleep(1)"), at("time.Sleep")},
		{"elapsed", pureBody("var x time.Duration = time.Hour; _ = x"), nil},
		{"wall clock type", pureBody("var x time.Time; _ = x"), at("time.Time")},
		{"renamed clock", map[string]string{"node/control/x.go": "package p\nimport tm \"time\"\nvar _ = tm.Now"}, []string{"node/control/x.go:3 time.Now"}},
		{"dot import", map[string]string{"node/control/x.go": "package p\nimport . \"time\"\nvar _ = Now"}, []string{"node/control/x.go:2 dot import"}},
		{"goroutine", pureBody("go f(nil)"), at("go statement")},
		{"select", pureBody("select {}"), at("select")},
		{"channel", pureBody("_ = make(chan int)"), at("channel")},
		{"send", pureBody("(chan int)(nil) <- 1"), append(at("send"), at("channel")...)},
		{"print", pureBody("fmt.Println()"), at("fmt.Println")},
		{"builtin print", pureBody("println()"), at("standard error")},
		{"unsorted keys", pureBody("for range maps.Keys(m) {}"), at("maps.Keys")},
		{"unsorted values", pureBody("_ = slices.Collect(maps.Values(m))"), at("maps.Values")},
		{"sorted keys", pureBody("_ = slices.Sorted(maps.Keys(m))"), nil},
		{"files", map[string]string{"node/lease/x.go": "package p\nimport _ \"os\""}, []string{"node/lease/x.go:2 import of os"}},
		{"network", map[string]string{"raftstore/replica/x.go": "package p\nimport _ \"net/http\""}, []string{"raftstore/replica/x.go:2 net/http"}},
		{"streams", map[string]string{"node/lease/x.go": "package p\nimport _ \"io\""}, []string{"node/lease/x.go:2 import of io"}},
		{"dice", map[string]string{"node/lease/x.go": "package p\nimport _ \"math/rand/v2\""}, []string{"node/lease/x.go:2 math/rand/v2"}},
		{"better dice", map[string]string{"node/lease/x.go": "package p\nimport _ \"crypto/rand\""}, []string{"node/lease/x.go:2 crypto/rand"}},
		{"locks", map[string]string{"node/lease/x.go": "package p\nimport _ \"sync\""}, []string{"node/lease/x.go:2 sync"}},
		{"elsewhere all is allowed", map[string]string{"node/x.go": "package p\nimport \"time\"\nvar _ = time.Now\nfunc f() { go f() }"}, nil},
		{"tests are exempt", map[string]string{"node/lease/x_test.go": "package p\nimport \"time\"\nvar _ = time.Now"}, nil},
	})
}

func TestMapOrderRule(t *testing.T) {
	exports, err := exportData(".", "time", "fmt", "maps", "slices")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []example{
		{"map", pureBody("for range m {}"), []string{"node/lease/x.go:7 map"}},
		{"named map", pureBody("for range reads(m) {}"), []string{"node/lease/x.go:7 map"}},
		{"map behind a call", pureBody("for range maps.Clone(m) {}"), []string{"node/lease/x.go:7 map"}},
		{"slice", pureBody("for range slices.Sorted(maps.Keys(m)) {}"), nil},
		{"count", pureBody("for range len(m) {}"), nil},
	} {
		t.Run(e.name, func(t *testing.T) {
			found, err := mapOrderRule(parse(t, e.files), exports)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, found, e.want)
		})
	}
	if _, err := mapOrderRule(parse(t, pureBody("undefined()")), exports); err == nil {
		t.Error("a package that does not compile was checked")
	}
	if _, err := exportData(".", "./nowhere"); err == nil {
		t.Error("export data of a package that is not there")
	}
}

func TestShapeRule(t *testing.T) {
	function := func(lines int) string { return "package p\nfunc f() {\n" + strings.Repeat("\n", lines-2) + "}\n" }
	file := func(lines int) string { return "package p\n" + strings.Repeat("\n", lines-1) }
	check(t, shapeRule, []example{
		{"function at the cap", map[string]string{"a.go": function(70)}, nil},
		{"function past the cap", map[string]string{"a.go": function(71)}, []string{"a.go:2 function f of 71 lines"}},
		{"file at the cap", map[string]string{"a.go": file(500), "a_test.go": file(600)}, nil},
		{"file past the cap", map[string]string{"a.go": file(501), "a_test.go": file(601)}, []string{"a.go:1 501", "a_test.go:1 601"}},
		{"generated", map[string]string{"a.pb.go": "// Code generated by x. DO NOT EDIT.\n\n" + file(900)}, nil},
	})
}

func TestDocRule(t *testing.T) {
	check(t, docRule, []example{
		{"package without a word", map[string]string{"a/x.go": "package a", "a/y.go": "package a"}, []string{"a/x.go:1 package a has no doc.go"}},
		{"one file speaks for all", map[string]string{"a/x.go": "package a", "a/y.go": "// Package a is one.\npackage a"}, nil},
		{"names", map[string]string{"x.go": `// Package p is one.
package p
func Bare() {}
type Type struct{}
func (Type) Method() {}
func (*Type) Pointer() {}
func (t Type) Error() string { return "" }
type hidden struct{}
func (hidden) Method() {}
const Const = 1
var Var, other = 1, 2
type (
	Inner int
)
`}, []string{"x.go:3 Bare", "x.go:4 Type", "x.go:5 Method", "x.go:6 Pointer", "x.go:10 Const", "x.go:11 Var", "x.go:13 Inner"}},
		{"documented", map[string]string{"x.go": `// Package p is one.
package p
// Good is.
func Good() {}
// T is.
type T struct{}
// Group is.
const (
	A = 1
	B = 2
)
var (
	C = 1 // C is.
	// D is.
	D = 2
)
type G[K any] struct { _ K } // G is.
// M is.
func (*G[K]) M() {}
`}, nil},
		{"methods of a generic type", map[string]string{"x.go": "// Package p is one.\npackage p\n// G is.\ntype G[K any] struct{}\nfunc (*G[K]) M() {}"}, []string{"x.go:5 M"}},
	})
}

func TestBannedRule(t *testing.T) {
	later := "TO" + "DO"
	check(t, bannedRule, []example{
		{"init", map[string]string{"x.go": "package p\nfunc init() {}"}, []string{"x.go:2 init"}},
		{"method called init", map[string]string{"x.go": "package p\ntype t int\nfunc (t) init() {}"}, nil},
		{"skip", map[string]string{"x_test.go": "package p\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Skip() }"}, []string{"x_test.go:3 skipped"}},
		{"skipf of a helper", map[string]string{"x.go": "package p\nimport \"testing\"\nfunc need(tb testing.TB) { tb.Skipf(\"\") }"}, []string{"x.go:3 skipped"}},
		{"another Skip", map[string]string{"x.go": "package p\nfunc f(r interface{ Skip() }) { r.Skip() }"}, nil},
		{"mark", map[string]string{"x.go": "package p\n// " + later + ": all of it\nvar _ = 1 // FIX" + "ME"}, []string{"x.go:2 " + later, "x.go:3 FIX"}},
		{"mark within a word", map[string]string{"x.go": "package p\n// MASTODON\nvar _ = 1"}, nil},
		{"context of nobody", map[string]string{"x.go": "package p\nimport \"context\"\nvar _ = context." + later + "()"}, []string{"x.go:3 caller's context"}},
	})
}

func TestGlobalRule(t *testing.T) {
	one := func(text string) map[string]string { return map[string]string{"a/x.go": "package a\n" + text} }
	check(t, globalRule, []example{
		{"table and sentinel", one("var table = []int{1}\nvar Err = errors.New(\"x\")\nvar _ I = (*T)(nil)"), nil},
		{"no value", one("var x int"), []string{"a/x.go:2 without a value"}},
		{"set by the linker", map[string]string{"cmd/x/main.go": "package main\nvar version string"}, nil},
		{"a file", one("//go:embed page.html\nvar page string"), nil},
		{"lock", one("import \"sync\"\nvar x = sync.Mutex{}"), []string{"a/x.go:3 sync.Mutex"}},
		{"atomic in a struct", one("import \"sync/atomic\"\nvar x = struct{ n atomic.Int64 }{}"), []string{"a/x.go:3 sync/atomic.Int64"}},
		{"channel", one("var x = make(chan int)"), []string{"a/x.go:2 a channel"}},
		{"set", one("var x = 1\nfunc f() { x = 2 }"), []string{"a/x.go:3 x is assigned"}},
		{"element set", one("var x = []int{1}\nfunc f() { x[0] = 2 }"), []string{"a/x.go:3 x is assigned"}},
		{"field counted up", one("var x = struct{ n int }{}\nfunc f() { (x.n)++ }"), []string{"a/x.go:3 x is assigned"}},
		{"address", one("var x = 1\nfunc f() { g(&x) }"), []string{"a/x.go:3 address"}},
		{"address of an element", one("var x = []int{1}\nfunc f() { g(&x[0]) }"), nil},
		{"emptied", one("var x = map[int]int{}\nfunc f() { clear(x); delete(x, 1) }"), []string{"a/x.go:3 emptied", "a/x.go:3 emptied"}},
		{"set from another file", map[string]string{"a/x.go": "package a\nvar x = 1", "a/y.go": "package a\nfunc f() { x = 2 }"}, []string{"a/y.go:2 x is assigned"}},
		{"another package's name", map[string]string{"a/x.go": "package a\nvar x = 1", "b/y.go": "package b\nfunc f() { var x int; x = 2 }"}, nil},
		{"local of the same name", one("var x = 1\nfunc f() { var x int; x = 2; for x := range 3 { x++ } }\nfunc g(x int) { x = 3 }"), nil},
		{"tests are exempt", map[string]string{"a/x_test.go": "package a\nvar x int"}, nil},
	})
}

func TestSpawnRule(t *testing.T) {
	in := func(f string) string { return "package p\nfunc " + f + "() {\n\tgo func() {}()\n}\n" }
	table := map[string]string{"told/x.go": "it is joined", "stale/x.go": "it was joined once"}
	rule := func(repo *tree) []Finding { return spawnFindings(repo, table) }
	stale := "stale/x.go:0 no go statement"
	check(t, rule, []example{
		{"in Run", map[string]string{"a/x.go": in("Run"), "told/x.go": in("f")}, []string{stale}},
		{"elsewhere", map[string]string{"a/x.go": in("start"), "told/x.go": in("f")}, []string{"a/x.go:3 go statement in start", stale}},
		{"in a test", map[string]string{"a/x_test.go": in("start"), "told/x.go": in("f")}, []string{stale}},
		{"line not needed", map[string]string{"told/x.go": in("Run")}, []string{stale, "told/x.go:0 no go statement"}},
	})
}

func TestStepsRule(t *testing.T) {
	rule := func(repo *tree) []Finding { return stepsRule(repo, "go vet ./...\ngo test ./a/... $(go list ./b)") }
	check(t, rule, []example{
		{"run", map[string]string{"a/x_test.go": "package a", "a/c/x_test.go": "package c", "b/x_test.go": "package b"}, nil},
		{"not run", map[string]string{"b/c/x_test.go": "package c", "b/c/y_test.go": "package c", "ab/x_test.go": "package ab"}, []string{
			"b/c/x_test.go:0 no step", "ab/x_test.go:0 no step",
		}},
		{"nothing to run", map[string]string{"d/x.go": "package d"}, nil},
	})
}

func TestMarkdownRule(t *testing.T) {
	code := "package p\nfunc TestGood() {}\nfunc FuzzGood() {}\n"
	with := func(text string) map[string]string {
		return map[string]string{
			"node/x_test.go": code, "node/lease/y.go": "package lease", "node/DESIGN.md": text, "README.md": "", "scripts/there.go": "package there",
			"Makefile": "MINUTES ?= 5\n\ngood: ## one\nother:\n",
		}
	}
	check(t, markdownRule, []example{
		{"paths that exist", with("`node/x_test.go` `node/lease` `./node/...` `node/*/y.go` `node/lease.Apply` `go test ./node/lease/` `node/x_test.go:2`"), nil},
		{"path that does not", with("a\n`node/gone.go`"), []string{"node/DESIGN.md:2 node/gone.go"}},
		{"pattern that matches nothing", with("`node/*/gone.go`"), []string{"node/DESIGN.md:1 gone"}},
		{"not paths", with("`/active` `go.etcd.io/raft` `application/json` `a/b` `node`"), nil},
		{"test that exists", with("`TestGood` `FuzzGood` `TestGood/sub`"), nil},
		{"test that does not", with("| x | `TestGone` |"), []string{"node/DESIGN.md:1 TestGone"}},
		{"links", with("# Here & `there`, twice\n# Here & there, twice\n[a](x_test.go) [b](../README.md) [c](https://e.org/x#y) [d](#here--there-twice) [e](DESIGN.md#here--there-twice-1) ![f](lease)"), nil},
		{"broken anchor", with("# Here\n[a](#there) [b](DESIGN.md#gone)"), []string{"node/DESIGN.md:2 #there", "node/DESIGN.md:2 #gone"}},
		{"anchor in a block", with("```\n# Here\n```\n[a](#here)"), []string{"node/DESIGN.md:4 #here"}},
		{"anchor of what has none", with("[a](x_test.go#top)"), []string{"node/DESIGN.md:1 #top"}},
		{"targets", with("`make good MINUTES='3 of 4'`, `make` and `make sense of it`\n```sh\nmake good other MINUTES=3  # make no sense\n```"),
			[]string{"node/DESIGN.md:1 target sense", "node/DESIGN.md:1 target of", "node/DESIGN.md:1 target it"}},
		{"targets in a block", with("```sh\n$ make bad HOURS=3\nscripts/gone x\n```"),
			[]string{"node/DESIGN.md:2 target bad", "node/DESIGN.md:2 HOURS", "node/DESIGN.md:3 scripts/gone"}},
		{"broken link", with("[a](gone.md)"), []string{"node/DESIGN.md:1 gone.md"}},
		{"code block", with("```\n`node/gone.go`\n```\n`node/gone.go`"), []string{"node/DESIGN.md:4 node/gone.go"}},
	})
}

func TestTreeThatDoesNotParse(t *testing.T) {
	if _, err := newTree(map[string]string{"x.go": "package"}, nil); err == nil {
		t.Error("accepted")
	}
	if _, err := load("./nowhere"); err == nil {
		t.Error("a tree that is not there was read")
	}
}
