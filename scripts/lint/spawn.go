package lint

import "go/ast"

// spawners are the files whose `go` statements stand outside a function named Run, each with the reason why nothing is
// left running. errgroup.Group.Go and sync.WaitGroup.Go need no line: they name who waits.
var spawners = map[string]string{
	"airflowctl/fence/take.go":               "breakLocks hands back the join, and its one caller defers it",
	"airflowctl/proc/child.go":               "a locked thread has to live as long as the child (Pdeathsig); it ends when the child is reaped",
	"airflowctl/proc/init.go":                "the init of a tree: its process ends when obey does",
	"airflowctl/proc/inittree.go":            "listens to the init; ends with the tree, which Stop and Kill wait for",
	"airflowctl/proc/joblog.go":              "at the files while lines wait; Close waits for its end, within reason: a frozen disk cannot be joined",
	"airflowctl/proc/life.go":                "turns a WaitGroup into a channel; ends with the child's pipes",
	"cmd/duoctl/confirm.go":                  "a read from a terminal cannot be ended; the program ends with it",
	"cmd/duoctl/watch.go":                    "watch hands back its stop, which joins",
	"cmd/duoflowd/main.go":                   "waits for the second signal; ends with the process",
	"cmd/duosandbox/root.go":                 "serve waits for the end of Run, which it started",
	"etl/sandbox/sandboxtest/sandboxtest.go": "the test's cleanup waits for the end of Run",
	"node/admin/server.go":                   "the second half of Run, which waits for it",
	"scripts/demo/stage.go":                  "keepWorking hands back its stop, which joins",
	"scripts/lab/net.go":                     "setns wants a thread of its own; Do waits for the result",
	"scripts/lab/process.go":                 "a locked thread has to live as long as the process (Pdeathsig)",
	"scripts/pg/process.go":                  "a locked thread has to live as long as the postmaster (Pdeathsig)",
}

// spawnRule wants every `go` statement where its end can be seen: in Run, which joins what it starts, or in a file of the
// table. A line of the table that nothing needs any more is a finding too.
func spawnRule(t *tree) []Finding { return spawnFindings(t, spawners) }

func spawnFindings(t *tree, table map[string]string) []Finding {
	var out []Finding
	needed := map[string]bool{}
	for _, s := range t.files {
		if s.test || s.generated {
			continue
		}
		for _, f := range functions(s) {
			ast.Inspect(f, func(n ast.Node) bool {
				g, ok := n.(*ast.GoStmt)
				if !ok || f.Name.Name == "Run" {
					return true
				}
				needed[s.path] = true
				if table[s.path] == "" {
					out = append(out, t.find(s, g.Pos(), "spawn", "go statement in %s, outside Run; who joins it? (scripts/lint/spawn.go)", f.Name.Name))
				}
				return true
			})
		}
	}
	for file := range table {
		if !needed[file] {
			out = append(out, Finding{File: file, Rule: "spawn", Text: "has a line in scripts/lint/spawn.go but no go statement that needs it"})
		}
	}
	return out
}
