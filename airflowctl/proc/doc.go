// Package proc starts process trees and ends them completely.
//
// A Forest holds all trees of one job on this node, a Life is one of them: the main process and
// everything it ever forks, whatever those do (setsid, double fork, ignore signals, stop
// themselves). Life.Kill and Life.Stop return nil only when nothing of the tree is left, and
// Forest.Clear does the same for trees of an earlier daemon. That is the proof the rest of
// duoflow builds on: a node starts a job only when the trees of its older epochs are empty.
//
// Three modes, best first; New picks the first one this machine allows:
//
//   - cgroup: one cgroup v2 per life, the main process is born in it, cgroup.kill ends it.
//   - pidns: one PID namespace per life; when its init dies the kernel kills the rest.
//   - group: degraded. A subreaper per life, whose descendants are found by walking /proc.
//
// In pidns and group mode a life has a small init: this very program, started again. Therefore
// main (and TestMain) must call MaybeInit before anything else.
//
// In every mode the tree's main process dies with the daemon. What that does not reach, Clear
// finds at the next start.
package proc
