package node

import (
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// line is what a job says of itself, and how long ago it did: an age needs no two clocks to be compared. The zero value: nothing.
type line struct {
	Text  string        `json:"text,omitempty"`
	Age   time.Duration `json:"age,omitempty"`   // ns, of Text when it was first said with this age
	Slots string        `json:"slots,omitempty"` // what its schedule comes to
}

// clean makes of a peer's line what a job of our own may say.
func (l line) clean() line {
	return line{airflowctl.CleanLine([]byte(l.Text)), max(l.Age, 0), airflowctl.CleanLine([]byte(l.Slots))}
}

// ageEvery is how often the age of a line is said anew, for those who did not hear it the first time. A beat that is not
// the one before has to be decoded.
const ageEvery = 5 * time.Second

// saying is the line of a job of this host as its beats carry it: the same, with the same age, for some seconds.
type saying struct {
	line line
	of   airflowctl.Line
	over control.Instant
}

func (s *saying) at(l airflowctl.Line, slots string, now control.Instant) line {
	if l.Text == "" {
		return line{Slots: slots}
	}
	if l != s.of || slots != s.line.Slots || now >= s.over {
		*s = saying{line{l.Text, time.Since(l.At), slots}, l, now.Add(ageEvery)}
	}
	return s.line
}

func (b *beat) addLine(job lease.JobName, l line) {
	if l == (line{}) {
		return
	}
	if b.Lines == nil {
		b.Lines = map[lease.JobName]line{}
	}
	b.Lines[job] = l
}

// line is what the job said on a node under the epoch that the log is at, with its age by now: what it said last, if the node is
// not heard any more.
func (p picture) line(job lease.Job, id lease.NodeID, now control.Instant) line {
	b := p.beats[id]
	l := b.Lines[job.Name]
	if b.Jobs[job.Name].Epoch != job.Epoch {
		return line{}
	}
	if l.Text != "" {
		l.Age += now.Since(b.linesAt)
	}
	return l
}
