package lease

import "cmp"

// Retire has a node granted nothing any more, because it is about to be removed from the cluster; Undo takes that back. It comes
// before the removal, in the same log as the grants, so that no grant can come between: who holds a job cannot be retired.
type Retire struct {
	Node NodeID `json:"node"`
	Undo bool   `json:"undo,omitempty"`
	By   string `json:"by,omitempty"`
	At   int64  `json:"at,omitempty"`
}

func (r Retire) validate() error {
	return cmp.Or(validNode(r.Node), validText(r.By))
}

func (s *State) retire(r Retire) Outcome {
	i, ok := s.findNode(r.Node)
	switch {
	case !ok:
		return refuse("", "no such node: %s", r.Node)
	case r.Undo && !s.Nodes[i].Leaving:
		return refuse("", "%s is not leaving", r.Node)
	case r.Undo:
		s.Nodes[i].Leaving = false
		return accept("")
	}
	for _, j := range s.Jobs {
		if j.Phase == Granted && j.Holder == r.Node {
			return refuse(j.Name, "%s holds epoch %d of it; move it to another node first", r.Node, j.Epoch)
		}
	}
	if !s.Nodes[i].Witness && s.candidates(r.Node) == 0 {
		return refuse("", "%s is the only node that could run a job; add another one first", r.Node)
	}
	s.Nodes[i].Leaving = true
	for k := range s.Jobs {
		s.Jobs[k].forsake(r.Node)
	}
	return accept("")
}

// candidates counts the nodes that could be granted something, but for one.
func (s *State) candidates(but NodeID) int {
	n := 0
	for _, node := range s.Nodes {
		if node.ID != but && !node.Witness && !node.Leaving {
			n++
		}
	}
	return n
}

// forsake drops what an operator wanted to be on a node that is leaving.
func (j *Job) forsake(node NodeID) {
	if j.Move != nil && j.Move.To == node {
		j.Move = nil
	}
	if j.Plan != nil && j.Plan.Move.To == node {
		j.unplan()
	}
}
