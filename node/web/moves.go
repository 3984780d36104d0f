package web

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// NodeView is one node of the cluster as this one sees it.
type NodeView struct {
	Name, Role string
	// HeardMS is how long ago it was last heard; below 0 = never.
	HeardMS   int64
	Connected bool
	Version   string
	Trouble   string // empty = none
}

// HeardText is HeardMS for people; ages below a second are not told, so that a page does not change all the time.
func (n NodeView) HeardText() string {
	switch {
	case n.HeardMS < 0:
		return "never"
	case n.HeardMS < 1000:
		return "now"
	}
	return (time.Duration(n.HeardMS) * time.Millisecond).Truncate(time.Second).String() + " ago"
}

// OnView is what a node is to a job.
type OnView struct {
	Node, State string
	Unfit       string // why it cannot be granted the job; empty = it can, or has it
}

// MoveView is one transition of a job.
type MoveView struct {
	Job    string
	Epoch  uint64
	Kind   string // grant, release or observe
	Node   string
	Reason string
	At     time.Time // on the proposer's clock, for people
	Took   time.Duration
}

// AtText is At for people.
func (m MoveView) AtText() string {
	if m.At.IsZero() {
		return "-"
	}
	return m.At.UTC().Format("2006-01-02 15:04:05.000")
}

// TookText is Took for people; empty = not measured.
func (m MoveView) TookText() string {
	if m.Took == 0 {
		return ""
	}
	return m.Took.Round(time.Millisecond).String()
}

// Lane is who held a job, over time.
type Lane struct {
	Job, From string
	Spans     []Span
}

// Span is one holder's time in a Lane.
type Span struct {
	X, Width     float64 // percent of the lane
	Class        string  // one or two, the same for a node in all lanes, or none
	Label, Title string
}

// Lanes draws the Moves, which are the newest first, up to Now.
func (v View) Lanes() []Lane {
	var lanes []Lane
	classes := map[string]string{}
	for _, j := range v.Jobs {
		var moves []MoveView
		for _, m := range slices.Backward(v.Moves) {
			if m.Job == j.Name && !m.At.IsZero() {
				moves = append(moves, m)
			}
		}
		if len(moves) > 0 && v.Now.After(moves[0].At) {
			lanes = append(lanes, lane(j.Name, moves, v.Now, classes))
		}
	}
	return lanes
}

// lane takes the moves of one job, the oldest first. Times of several hosts' clocks may contradict their order: a span is then
// drawn as nothing.
func lane(job string, moves []MoveView, now time.Time, classes map[string]string) Lane {
	l := Lane{Job: job, From: moves[0].AtText()}
	whole := now.Sub(moves[0].At).Seconds()
	percent := func(d time.Duration) float64 { return max(math.Round(10_000*d.Seconds()/whole)/100, 0) }
	for i, m := range moves {
		end := now
		if i+1 < len(moves) {
			end = moves[i+1].At
		}
		x, width := percent(m.At.Sub(moves[0].At)), percent(end.Sub(m.At))
		s := Span{X: x, Width: width, Class: "none", Title: fmt.Sprintf("nobody from %s: %s", m.AtText(), m.Reason)}
		if m.Kind != "release" {
			if classes[m.Node] == "" {
				classes[m.Node] = []string{"one", "two"}[len(classes)%2]
			}
			s.Class, s.Title = classes[m.Node], fmt.Sprintf("%s, epoch %d, from %s: %s", m.Node, m.Epoch, m.AtText(), m.Reason)
			if width > 3+2.5*float64(len(m.Node)) { // room for it on a telephone too
				s.Label = m.Node
			}
		}
		l.Spans = append(l.Spans, s)
	}
	return l
}

var percentage = regexp.MustCompile(`\b(\d{1,3}) %`)

// Percent is how far the job says it is, in its Status; -1 when it does not.
func (j JobView) Percent() int {
	found := percentage.FindStringSubmatch(j.Status)
	if found == nil {
		return -1
	}
	n, err := strconv.Atoi(found[1])
	if err != nil || n > 100 {
		return -1
	}
	return n
}
