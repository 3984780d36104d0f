// Package raftstore replicates opaque commands to a few nodes with etcd's raft, keeps raft's log in
// bbolt with a checksum on every record, and carries raft messages and beats between the nodes over
// gRPC streams. It does not know what the commands mean.
//
// One goroutine owns the raft state (see package replica for everything deterministic). Beats bypass
// it: they go from Broadcast straight into each peer's queue and from each stream straight to the
// Observer, so a slow disk delays no beat.
package raftstore
