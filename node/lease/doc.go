// Package lease is the replicated state machine of duoflow: what the cluster has agreed on.
//
// For every job it holds the current epoch, the node and the process life (token) that epoch was granted to, an
// operator's pending wish to move it, and a bounded history. A command is a compare-and-set on the epoch: Apply
// accepts or refuses it looking only at the state and the command, so that every node, given the same log, holds
// the same state. There is no clock here, no IO and no knowledge of raft; time decides only when a node proposes.
//
// What the state says is never by itself a permission to write to the metastore. That permission is the fence row
// in Postgres (package fence); the lease says which node should go and take it.
package lease
