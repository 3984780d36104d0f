package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// phases are the instants at which the takeover in progress reached its states, on this host's clock.
type phases struct {
	marks []mark
}

type mark struct {
	state control.State
	at    control.Instant
}

// Phases that the raft leader measures, before and beside those of the taker.
const (
	phaseStop = "stop" // the holder was asked to stop the job, and did
	phaseWait = "wait" // nobody ran the job and it was not granted yet
)

// phaseOrder is the order in which phases happen. They are reported by two nodes, so that they come in any.
var phaseOrder = []string{"detect", phaseStop, phaseWait, "grant", "fence", "drain", "adopt", "start"}

// phaseNames says what the time spent in a state is called in the history.
var phaseNames = map[control.State]string{
	control.Fencing: "fence", control.Draining: "drain", control.Adopting: "adopt", control.Starting: "start",
}

func (p *phases) note(m *control.Transition) {
	if m.To == control.Fencing {
		p.marks = p.marks[:0]
	}
	p.marks = append(p.marks, mark{m.To, m.At})
}

// timings is how long each phase took; they follow each other without gaps, so they sum to the whole.
func (p *phases) timings() []lease.Timing {
	var out []lease.Timing
	for i := 0; i+1 < len(p.marks); i++ {
		if name, ok := phaseNames[p.marks[i].state]; ok {
			out = append(out, lease.Timing{Name: name, Took: p.marks[i+1].at.Since(p.marks[i].at)})
		}
	}
	return out
}

// split separates the phases of an entry, in the order in which they happened, from how long the whole took; 0 = unknown.
func split(timings []lease.Timing) (phases []lease.Timing, whole time.Duration) {
	for _, t := range timings {
		if t.Name == lease.PhaseWhole {
			whole = t.Took
			continue
		}
		phases = append(phases, t)
	}
	slices.SortStableFunc(phases, func(a, b lease.Timing) int {
		return cmp.Compare(slices.Index(phaseOrder, a.Name), slices.Index(phaseOrder, b.Name))
	})
	return phases, whole
}
