package lease

import "slices"

// Agreed is Job without its history, which may be two hundred entries: for who asks often.
func (s *State) Agreed(name JobName) Job {
	i, ok := s.find(name)
	if !ok {
		return Job{Name: name, Phase: Vacant}
	}
	j := s.Jobs[i]
	j.History = nil
	return j.clone()
}

// Knows reports whether the cluster has agreed on a job of that name.
func (s *State) Knows(name JobName) bool {
	_, ok := s.find(name)
	return ok
}

// Newest returns the job's newest entries, at most n, oldest first.
func (s *State) Newest(name JobName, n int) []Entry {
	i, ok := s.find(name)
	if !ok {
		return nil
	}
	all := s.Jobs[i].History
	return slices.Clone(all[max(len(all)-n, 0):])
}

// Try says what would become of a command if it were applied now. It changes nothing.
func (s *State) Try(c Command) Outcome {
	trial := State{Nodes: slices.Clone(s.Nodes)}
	for _, j := range s.Jobs {
		if c.Configure != nil || c.Retire != nil || j.Name == c.job() {
			trial.Jobs = append(trial.Jobs, j.clone())
		}
	}
	return trial.Apply(c)
}
