// Package lint holds the rules of the house that a linter from the shelf does not know, as a Go test:
//
//	imports   who may import whom, inside the module and outside it
//	pure      node/lease, node/control, node/sim/metastore and raftstore/replica have no clock, randomness, goroutine, channel, map order or IO
//	shape     at most 70 lines a function, 500 a file (600 a test file)
//	docs      every package and every exported top-level name has a comment
//	names     no package is called util, common, helpers, types and the like
//	banned    no init function, no skipped test, no unfinished-work mark, no context without an owner
//	globals   package-level variables are tables and sentinel errors that nothing changes
//	spawn     `go` only in functions named Run, or in a file of the table with a reason
//	steps     the tests of every package are run by a step of scripts/test
//	markdown  paths, links, anchors, test names and make targets in the documents exist
//
// A rule is a function from the parsed tree to findings, so each is tested on small bad examples (rules_test.go) and then
// run on the repository (lint_test.go). Test files are exempt from imports, pure, docs, globals and spawn; generated files from all
// but imports. The tables at the top of each file are the rules: to allow something new, add a line there with its reason.
package lint
