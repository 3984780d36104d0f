// Package main holds the models of the fence and proves them with Spin.
//
//	model [-o table|json] [-only WORD] [-parallel N] [-events]
//
// fence.pml asks whether the promise holds with raft broken, active.pml whether somebody is active in the end; server.pml is
// the Postgres of both. runs.go says which worlds are searched, and which mutants must be violated; a mutant that is not is a
// failure, as is a world that is. Wanted: spin and gcc (scripts/setup model).
//
// Exit codes: 0 all came out as they must, 1 not, 2 usage.
package main
