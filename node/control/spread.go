package control

import (
	"cmp"
	"slices"

	"github.com/duoflow/duoflow/node/lease"
)

// Placed is a job as Spread looks at it.
type Placed struct {
	Job lease.JobName
	// Weight includes what follows the job; 0 and less is a job that is no burden, and stays.
	Weight int
	// At is the node that holds it; "" is nowhere.
	At lease.NodeID
	// Fit are the other nodes that could be granted it now, Priority orders them and At, higher first; absent is 0.
	Fit      []lease.NodeID
	Priority map[lease.NodeID]int
	// Stays: it counts where it is and is not moved.
	Stays bool
}

// Shift is a move of one job.
type Shift struct {
	Job      lease.JobName
	From, To lease.NodeID
}

// Spread returns the moves that bring jobs to the nodes where they would be if they were all granted anew: each to one of the
// highest priority among those it could be granted to, and among equals so that no further move of one job would bring two nodes closer together.
// Every move after those for priority makes the difference between two nodes smaller, so it may end after any of them. The same jobs, in any
// order, give the same moves.
func Spread(jobs []Placed) []Shift {
	s := newSpreading(jobs)
	for i := range s.jobs {
		s.promote(&s.jobs[i])
	}
	for {
		job, to := s.best()
		if job == nil {
			return s.shifts()
		}
		s.move(job, to)
	}
}

// spreading is a Spread under way.
type spreading struct {
	jobs  []spreadJob
	loads map[lease.NodeID]int
	moved []*spreadJob // in order, each once
}

type spreadJob struct {
	Placed
	from  lease.NodeID
	homes []lease.NodeID // of the highest priority, sorted; none when it stays
}

func newSpreading(jobs []Placed) *spreading {
	s := &spreading{loads: map[lease.NodeID]int{}}
	for _, p := range jobs {
		j := spreadJob{Placed: p, from: p.At}
		if p.At != "" && !p.Stays && p.Weight > 0 {
			j.homes = p.homes()
		}
		s.jobs = append(s.jobs, j)
		s.loads[p.At] += max(p.Weight, 0)
	}
	slices.SortFunc(s.jobs, func(a, b spreadJob) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Job, b.Job))
	})
	return s
}

// homes are the nodes of the highest priority among those that have the job or could.
func (p Placed) homes() []lease.NodeID {
	all := append([]lease.NodeID{p.At}, p.Fit...)
	top := p.Priority[p.At]
	for _, id := range all {
		top = max(top, p.Priority[id])
	}
	all = slices.DeleteFunc(all, func(id lease.NodeID) bool { return p.Priority[id] < top })
	slices.Sort(all)
	return slices.Compact(all)
}

// promote moves a job that is on a node of a lower priority than it could be to the emptiest of the highest.
func (s *spreading) promote(j *spreadJob) {
	if len(j.homes) == 0 || slices.Contains(j.homes, j.At) {
		return
	}
	s.move(j, slices.MinFunc(j.homes, func(a, b lease.NodeID) int { return cmp.Compare(s.loads[a], s.loads[b]) }))
}

// best is the move that does most against the differences between nodes; nil when none does anything.
func (s *spreading) best() (job *spreadJob, to lease.NodeID) {
	top := 0
	for i := range s.jobs {
		j := &s.jobs[i]
		for _, id := range j.homes {
			if gain := j.Weight * (s.loads[j.At] - s.loads[id] - j.Weight); id != j.At && gain > top {
				job, to, top = j, id, gain
			}
		}
	}
	return job, to
}

func (s *spreading) move(j *spreadJob, to lease.NodeID) {
	s.loads[j.At] -= j.Weight
	s.loads[to] += j.Weight
	if !slices.Contains(s.moved, j) {
		s.moved = append(s.moved, j)
	}
	j.At = to
}

func (s *spreading) shifts() []Shift {
	var out []Shift
	for _, j := range s.moved {
		if j.At != j.from {
			out = append(out, Shift{Job: j.Job, From: j.from, To: j.At})
		}
	}
	return out
}
