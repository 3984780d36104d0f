package node

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// member is a node of the cluster as this one knows it: from the log once that has members of its own, from the configuration before.
type member struct {
	ID      lease.NodeID
	Peer    string // host:port
	Gossip  string // host:port; empty: the host of Peer with the port of our own gossip address
	Witness bool
	// Joining: it takes the log and neither votes nor runs a job yet.
	Joining bool
}

// members are sorted by name. Nobody changes them once they are made.
type members struct {
	all   []member
	names map[uint64]lease.NodeID
}

func newMembers(all []member) *members {
	slices.SortFunc(all, func(a, b member) int { return cmp.Compare(a.ID, b.ID) })
	m := &members{all: all, names: map[uint64]lease.NodeID{}}
	for _, one := range all {
		m.names[RaftID(one.ID)] = one.ID
	}
	return m
}

// ids lists everybody.
func (m *members) ids() []lease.NodeID {
	ids := make([]lease.NodeID, 0, len(m.all))
	for _, one := range m.all {
		ids = append(ids, one.ID)
	}
	return ids
}

// get returns the zero member for a stranger.
func (m *members) get(id lease.NodeID) member {
	i, ok := slices.BinarySearchFunc(m.all, id, func(one member, id lease.NodeID) int { return cmp.Compare(one.ID, id) })
	if !ok {
		return member{}
	}
	return m.all[i]
}

// voters are those that the cluster agrees on as its nodes.
func (m *members) voters() []lease.Node {
	var nodes []lease.Node
	for _, one := range m.all {
		if !one.Joining {
			nodes = append(nodes, lease.Node{ID: one.ID, Witness: one.Witness})
		}
	}
	return nodes
}

// note is what the log keeps of a member for this package.
type note struct {
	Witness bool   `json:"witness,omitempty"`
	Gossip  string `json:"gossip,omitempty"`
}

// peer is the member as the replicated log knows it. The witness should lead: then the death of an active node needs no election.
func (m member) peer() raftstore.Peer {
	text, _ := json.Marshal(note{Witness: m.Witness, Gossip: m.Gossip}) // plain strings always encode
	return raftstore.Peer{ID: RaftID(m.ID), Name: string(m.ID), Addr: m.Peer, Learner: m.Joining, Preferred: m.Witness, Note: string(text)}
}

// fromRoster reads the members that the log has. A note that this version cannot read costs what is in it: it is of a newer one.
func fromRoster(list raftstore.Roster) *members {
	all := make([]member, 0, len(list.Members))
	for _, p := range list.Members {
		var n note
		_ = json.Unmarshal([]byte(p.Note), &n)
		all = append(all, member{
			ID: lease.NodeID(p.Name), Peer: p.Addr, Gossip: n.Gossip, Witness: n.Witness || (p.Note == "" && p.Preferred), Joining: p.Learner,
		})
	}
	return newMembers(all)
}

// configured are the members that the configuration names. One that joins says of itself that it does.
func (c *Config) configured() *members {
	var all []member
	for name, m := range c.Nodes {
		all = append(all, member{
			ID: lease.NodeID(name), Peer: m.Peer, Gossip: m.Gossip, Witness: m.Witness, Joining: c.Join && name == c.Node,
		})
	}
	return newMembers(all)
}

// Peers are the members that the configuration names, as the replicated log wants them.
func (c *Config) Peers() []raftstore.Peer {
	var peers []raftstore.Peer
	for _, m := range c.configured().all {
		m.Joining = false // the log's own to say
		peers = append(peers, m.peer())
	}
	return peers
}
