package node

import (
	"hash/fnv"

	"github.com/duoflow/duoflow/node/lease"
)

// RaftID is the raft identity of a node: the FNV-1a hash of its name, so that adding a node renumbers nobody.
func RaftID(id lease.NodeID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	if sum := h.Sum64(); sum != 0 {
		return sum
	}
	return 1 // raft takes 0 for nobody
}
