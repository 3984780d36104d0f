// Package control decides. It holds two pure machines, both driven by Step(now, input) and answering with effects:
//
//   - Machine is what this host does about one job: take the fence, drain, adopt, start, stop. Its whole behaviour
//     is the table in transition.go, one row and one sentence per transition.
//   - Granter is what the raft leader decides about one job: whom to suspect, who may have it next. It only ever
//     proposes; what was decided is what the log says.
//
// Nothing in here knows a goroutine, a wall clock, a channel, randomness or IO. Time comes in as an Instant of this
// host; effects go out as values that carry the epoch they were decided under; results come back as inputs, and a
// result of another epoch than the present one is dropped by rule. The invariants of invariant.go are checked after
// every step, always.
package control
