// Package replica is the deterministic half of raftstore: one raft.RawNode, the storage it reads and
// writes through an interface, and the rules that sit on top of raft here (leadership goes to the
// preferred node, a leader whose process is gone is forgotten at once, a disk in doubt does not vote).
//
// It has no goroutine, no clock and no IO but its Storage. Time enters as Tick and Wake, messages as
// Step, and everything that must happen leaves as the Output of Flush. A simulator can therefore drive
// a whole cluster in one goroutine. The one source of randomness is raft's own election jitter
// (crypto/rand); testing/cryptotest makes that repeatable in tests.
package replica
