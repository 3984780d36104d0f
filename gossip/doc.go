// Package gossip tells who else is out there: which nodes answer, at what address, with what version and
// with what round trip. It wraps hashicorp/memberlist (SWIM with suspicion, encrypted with a shared key).
//
// What it says is a HINT, never a fact. Status pages, `duoctl topology`, the doctor and the order in which peers
// are tried may read it; no rule that decides who is active, who may be fenced or who has a vote may. Those
// rules live in the raft log and in the metastore, and they hold when everything in this package is wrong, late
// or made up by whoever holds the key. scripts/lint keeps the pure packages from importing it.
//
// Use: New validates and starts nothing, Run listens and blocks until its context ends, Members may be called at
// any time from any goroutine.
package gossip
