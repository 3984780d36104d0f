package lease

import (
	"cmp"
	"fmt"
	"slices"
)

// Outcome is what became of a command. A refusal is not an error: it is how two proposers who saw the same epoch
// are told apart, and every node comes to the same one.
type Outcome struct {
	Accepted bool
	// Job is the job the command spoke of; for a Configure that was refused, the job that was the reason, else empty.
	Job JobName
	// Why says why it was refused; empty when accepted.
	Why string
}

// Apply carries out one command. It panics when the result would break an invariant: a node that went on from
// there could disagree with the others for ever.
func (s *State) Apply(c Command) Outcome { return s.ApplyAt(0, c) }

// ApplyAt is Apply of the command at an index of raft's log, which the history keeps.
func (s *State) ApplyAt(index uint64, c Command) Outcome {
	s.index = index
	if err := c.validate(); err != nil {
		return Outcome{Why: err.Error()}
	}
	if c.Configure != nil {
		return s.configure(*c.Configure)
	}
	if c.Retire != nil {
		return s.retire(*c.Retire)
	}
	i, ok := s.find(c.job())
	if !ok {
		return refuse(c.job(), "no such job")
	}
	before := s.Jobs[i].clone()
	out := s.applyTo(&s.Jobs[i], c)
	s.mustHold(before, s.Jobs[i])
	return out
}

func (c Command) job() JobName {
	switch {
	case c.Grant != nil:
		return c.Grant.Job
	case c.Release != nil:
		return c.Release.Job
	case c.Observe != nil:
		return c.Observe.Job
	case c.Ask != nil:
		return c.Ask.Job
	case c.Report != nil:
		return c.Report.Job
	case c.Hold != nil:
		return c.Hold.Job
	}
	return ""
}

func (s *State) applyTo(j *Job, c Command) Outcome {
	switch {
	case c.Grant != nil:
		return s.grant(j, *c.Grant)
	case c.Release != nil:
		return s.release(j, *c.Release)
	case c.Observe != nil:
		return s.observe(j, *c.Observe)
	case c.Ask != nil:
		return s.ask(j, *c.Ask)
	case c.Hold != nil:
		return s.hold(j, *c.Hold)
	default:
		return report(j, *c.Report)
	}
}

func (s *State) configure(c Configure) Outcome {
	nodes := slices.Clone(c.Nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	nodes = slices.CompactFunc(nodes, func(a, b Node) bool { return a.ID == b.ID })
	for i := range nodes {
		known, _ := s.Node(nodes[i].ID)
		nodes[i].Leaving = known.Leaving
	}
	// A holder cannot be made a witness under its own feet (I7): move the job away first.
	next := State{Nodes: nodes}
	for _, j := range s.Jobs {
		if broken := next.witnessNeverHolds(j); broken != "" {
			return refuse(j.Name, "%s", broken)
		}
	}
	s.Nodes = nodes
	for _, name := range c.Jobs {
		if i, ok := s.find(name); !ok {
			s.Jobs = slices.Insert(s.Jobs, i, Job{Name: name, Phase: Vacant})
		}
	}
	return Outcome{Accepted: true}
}

func (s *State) grant(j *Job, g Grant) Outcome {
	if g.Expect != j.Epoch {
		return refuse(j.Name, "epoch is %d, the grant expected %d", j.Epoch, g.Expect)
	}
	if g.Next <= j.Epoch {
		return refuse(j.Name, "next epoch %d does not exceed %d", g.Next, j.Epoch)
	}
	n, ok := s.Node(g.Node)
	if !ok {
		return refuse(j.Name, "no such node: %s", g.Node)
	}
	if n.Witness {
		return refuse(j.Name, "%s is a witness", g.Node)
	}
	if n.Leaving {
		return refuse(j.Name, "%s is leaving the cluster", g.Node)
	}
	if j.Pause.stops() {
		return refuse(j.Name, "it is paused: stopped%s", byWhom(j.Pause.By, j.Pause.Reason))
	}
	j.begin(g.Next, g.Node, g.Token)
	entry := Entry{Kind: KindGrant, Epoch: g.Next, Node: g.Node, Cause: g.Cause, Detail: g.Detail, At: g.At}
	if g.Detect.Took > 0 {
		entry.Phases = []Timing{g.Detect}
	}
	s.record(j, entry)
	return accept(j.Name)
}

func (s *State) release(j *Job, r Release) Outcome {
	if j.Phase != Granted || j.Epoch != r.Epoch || j.Token != r.Token {
		return refuse(j.Name, "epoch %d is not held by that life", r.Epoch)
	}
	j.Phase = Released
	s.record(j, Entry{Kind: KindRelease, Epoch: r.Epoch, Node: j.Holder, Cause: r.Cause, Detail: r.Detail, At: r.At})
	return accept(j.Name)
}

func (s *State) observe(j *Job, o Observe) Outcome {
	if o.Epoch <= j.Epoch {
		return refuse(j.Name, "epoch is %d, nothing new in %d", j.Epoch, o.Epoch)
	}
	if n, ok := s.Node(o.Node); ok && n.Witness {
		return refuse(j.Name, "%s is a witness", o.Node)
	}
	j.begin(o.Epoch, o.Node, o.Token)
	if j.Pause.stops() {
		j.Pause, j.Order = nil, j.Order+1 // somebody with more rights than who stopped it has had it taken over since
	}
	s.record(j, Entry{Kind: KindObserve, Epoch: o.Epoch, Node: o.Node, Cause: CauseForced, At: o.At})
	return accept(j.Name)
}

// begin makes an epoch the job's. What operators wanted of the one before is over; a pause is not.
func (j *Job) begin(epoch Epoch, node NodeID, token Token) {
	j.Epoch, j.Holder, j.Token, j.Phase, j.Move = epoch, node, token, Granted, nil
	j.unplan()
}

func (j *Job) unplan() {
	if j.Plan != nil {
		j.Plan, j.Order = nil, j.Order+1
	}
}

func (s *State) ask(j *Job, a Ask) Outcome {
	switch {
	case a.Epoch != j.Epoch:
		return refuse(j.Name, "epoch is %d, the request was made for %d", j.Epoch, a.Epoch)
	case a.Cancel:
		return cancel(j)
	case j.Pause.stops():
		return refuse(j.Name, "it is paused: stopped%s", byWhom(j.Pause.By, j.Pause.Reason))
	}
	if a.Move.Here && (a.Move.Now || a.Move.To != j.Holder || j.Phase != Granted) {
		return refuse(j.Name, "there is no life on %q to be followed by another", a.Move.To)
	}
	if a.Move.To != "" {
		n, ok := s.Node(a.Move.To)
		if !ok {
			return refuse(j.Name, "no such node: %s", a.Move.To)
		}
		if n.Witness {
			return refuse(j.Name, "%s is a witness and never runs a job", a.Move.To)
		}
		if n.Leaving && !a.Move.Here {
			return refuse(j.Name, "%s is leaving the cluster", a.Move.To)
		}
		if j.Phase == Granted && j.Holder == a.Move.To && !a.Move.Here {
			return refuse(j.Name, "%s holds it already", a.Move.To)
		}
	}
	if a.In > 0 {
		j.Plan, j.Order = &Plan{Move: a.Move, In: a.In, By: a.By, At: a.At}, j.Order+1
		return accept(j.Name)
	}
	move := a.Move
	j.Move = &move
	j.unplan()
	return accept(j.Name)
}

func cancel(j *Job) Outcome {
	if j.Move == nil && j.Plan == nil {
		return refuse(j.Name, "no move is asked for or planned")
	}
	j.Move = nil
	j.unplan()
	return accept(j.Name)
}

func report(j *Job, r Report) Outcome {
	for i := len(j.History) - 1; i >= 0; i-- {
		e := &j.History[i]
		if e.Epoch == r.Epoch && e.Kind.Begins() {
			if len(e.Phases)+len(r.Phases) > maxEntryPhases {
				return refuse(j.Name, "epoch %d has %d phases already", r.Epoch, len(e.Phases))
			}
			// A fresh slice: a clone of the job may share the old one.
			e.Phases = append(slices.Clone(e.Phases), r.Phases...)
			e.By = cmp.Or(r.By, e.By)
			return accept(j.Name)
		}
	}
	return refuse(j.Name, "epoch %d is not in the history", r.Epoch)
}

func accept(job JobName) Outcome { return Outcome{Accepted: true, Job: job} }

func refuse(job JobName, format string, args ...any) Outcome {
	return Outcome{Job: job, Why: fmt.Sprintf(format, args...)}
}
