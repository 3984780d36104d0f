// Package sim is whole clusters in one goroutine: three nodes made of the real loop and effect runner (node), the real
// machines (node/control), the real agreed state (node/lease) and the real raft member (raftstore/replica), on a clock, a
// network, disks and processes of this package's own, and before a model of the metastore. One seed decides everything.
//
// For tests only. See DESIGN.md.
package sim
