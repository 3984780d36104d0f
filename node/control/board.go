package control

import "github.com/duoflow/duoflow/node/lease"

// Board is where the jobs of a cluster run or are about to be granted, by weight. The granters of one node share it: each writes
// where its own job is and reads what the others put on a node. So two that decide at the same instant do not both take the
// emptier one. One goroutine owns it; nil is a board on which nothing weighs anything.
type Board struct {
	weights map[lease.JobName]int
	at      map[lease.JobName]lease.NodeID
	loads   map[lease.NodeID]int
}

// NewBoard returns an empty board. A job that weights leaves out weighs nothing: so does one that follows another, whose weight
// is its leader's, because it goes where that goes.
func NewBoard(weights map[lease.JobName]int) *Board {
	return &Board{weights: weights, at: map[lease.JobName]lease.NodeID{}, loads: map[lease.NodeID]int{}}
}

// put says where a job is; "" is nowhere.
func (b *Board) put(job lease.JobName, node lease.NodeID) {
	if b == nil || b.at[job] == node {
		return
	}
	weight := b.weights[job]
	b.loads[b.at[job]] -= weight
	b.loads[node] += weight
	b.at[job] = node
}

// beside is what a node has to bear without a job.
func (b *Board) beside(job lease.JobName, node lease.NodeID) int {
	switch {
	case b == nil:
		return 0
	case b.at[job] == node:
		return b.loads[node] - b.weights[job]
	}
	return b.loads[node]
}

// post tells the board where our job is. What is proposed counts from the proposal on, until it is answered.
func (g *Granter) post() {
	if g.proposed > g.view.Epoch {
		return
	}
	at := g.view.Holder
	if g.view.Phase != lease.Granted {
		at = ""
	}
	g.cfg.Board.put(g.cfg.Job, at)
}

// load is what a node has to bear without the job. After a failed life it is no matter: a restart is not the time to spread, and
// a life that keeps failing has to go elsewhere, however full that is.
func (g *Granter) load(id lease.NodeID) int {
	if g.view.Phase == lease.Released && len(g.failures) > 0 {
		return 0
	}
	return g.cfg.Board.beside(g.cfg.Job, id)
}
