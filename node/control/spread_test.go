package control_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// placedOf reads `name@node*weight`, with ! at the end for one that stays, all of them fit for a and b.
func placedOf(text string) []control.Placed {
	var jobs []control.Placed
	for _, word := range strings.Fields(text) {
		p := control.Placed{Weight: 1, Stays: strings.HasSuffix(word, "!")}
		word = strings.TrimSuffix(word, "!")
		name, at, _ := strings.Cut(word, "@")
		at, weight, heavy := strings.Cut(at, "*")
		if heavy {
			_, _ = fmt.Sscan(weight, &p.Weight)
		}
		p.Job, p.At = lease.JobName(name), lease.NodeID(at)
		for _, id := range []lease.NodeID{"a", "b"} {
			if id != p.At {
				p.Fit = append(p.Fit, id)
			}
		}
		jobs = append(jobs, p)
	}
	return jobs
}

func shiftText(shifts []control.Shift) string {
	var words []string
	for _, s := range shifts {
		words = append(words, fmt.Sprintf("%s:%s-%s", s.Job, s.From, s.To))
	}
	return strings.Join(words, " ")
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct{ name, jobs, want string }{
		{"nothing", "", ""},
		{"even", "x@a y@b", ""},
		{"as even as it gets", "x@a y@a z@b", ""},
		{"two of four", "w@a x@a y@a z@a", "w:a-b x:a-b"},
		{"the one that fits", "w@a*3 x@a*2 y@a z@b*2", "x:a-b"},
		{"one too heavy to help", "x@a*9 y@b*2", ""},
		{"what stays counts", "w@a! x@a! y@a z@a", "y:a-b z:a-b"},
		{"all stay", "x@a! y@a! z@a!", ""},
		{"nowhere", "x@ y@a z@a", "y:a-b"},
		{"no burden", "x@a*0 y@a*-1 z@b", ""},
	} {
		if got := shiftText(control.Spread(placedOf(tt.jobs))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSpreadGoesByPriority(t *testing.T) {
	jobs := placedOf("w@a x@a y@a z@a")
	jobs[0].Priority = map[lease.NodeID]int{"b": 1}                   // prefers where it is not
	jobs[1].Priority = map[lease.NodeID]int{"a": 1}                   // prefers where it is
	jobs[2].Fit, jobs[2].Priority = nil, map[lease.NodeID]int{"b": 1} // prefers where it cannot be
	if got, want := shiftText(control.Spread(jobs)), "w:a-b z:a-b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	jobs = placedOf("x@a y@b z@b") // evenness does not matter to who prefers
	jobs[0].Priority = map[lease.NodeID]int{"b": 1}
	if got, want := shiftText(control.Spread(jobs)), "x:a-b y:b-a"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// world draws jobs over the nodes a to d.
func drawPlaced(r *rand.Rand) []control.Placed {
	nodes := []lease.NodeID{"a", "b", "c", "d"}[:2+r.IntN(3)]
	var jobs []control.Placed
	for i := range r.IntN(12) {
		p := control.Placed{Job: lease.JobName(fmt.Sprintf("j%d", i)), Weight: r.IntN(6), Stays: r.IntN(6) == 0, Priority: map[lease.NodeID]int{}}
		for _, id := range nodes {
			p.Priority[id] = r.IntN(4) / 3
		}
		if r.IntN(10) > 0 {
			p.At = nodes[r.IntN(len(nodes))]
		}
		for _, id := range nodes {
			if id != p.At && r.IntN(4) > 0 {
				p.Fit = append(p.Fit, id)
			}
		}
		jobs = append(jobs, p)
	}
	return jobs
}

// TestSpreadOracle says what a plan has to be, whatever the way to it: every job once, to where it could be, not to a lower priority
// than it has; in the end nobody is of a lower priority than it could be, and no move of one job would do any good.
func TestSpreadOracle(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		jobs := drawPlaced(r)
		shifts := control.Spread(slices.Clone(jobs))
		if broken := judgeSpread(jobs, shifts); broken != "" {
			t.Fatalf("seed %d: %s\njobs %+v\nplan %s", seed, broken, jobs, shiftText(shifts))
		}
		again := slices.Clone(jobs)
		r.Shuffle(len(again), func(i, k int) { again[i], again[k] = again[k], again[i] })
		for i := range again {
			again[i].Fit = slices.Clone(again[i].Fit)
			slices.Reverse(again[i].Fit)
		}
		if got, want := shiftText(control.Spread(again)), shiftText(shifts); got != want {
			t.Fatalf("seed %d: in another order %q, was %q", seed, got, want)
		}
	}
}

func judgeSpread(jobs []control.Placed, shifts []control.Shift) string {
	loads, at := map[lease.NodeID]int{}, map[lease.JobName]lease.NodeID{}
	for _, j := range jobs {
		at[j.Job] = j.At
	}
	moved := map[lease.JobName]bool{}
	for _, s := range shifts {
		if moved[s.Job] || s.From != at[s.Job] || s.To == s.From {
			return fmt.Sprintf("%s is moved from %s to %s", s.Job, s.From, s.To)
		}
		moved[s.Job], at[s.Job] = true, s.To
	}
	for _, j := range jobs {
		if moved[j.Job] && (j.Stays || j.Weight <= 0 || j.At == "" || !slices.Contains(j.Fit, at[j.Job]) || j.Priority[at[j.Job]] < j.Priority[j.At]) {
			return fmt.Sprintf("%s may not be moved to %s", j.Job, at[j.Job])
		}
		loads[at[j.Job]] += max(j.Weight, 0)
	}
	for _, j := range jobs {
		if j.Stays || j.Weight <= 0 || j.At == "" {
			continue
		}
		here := at[j.Job]
		for _, id := range append([]lease.NodeID{j.At}, j.Fit...) {
			switch {
			case id == here || j.Priority[id] < j.Priority[here]:
			case j.Priority[id] > j.Priority[here]:
				return fmt.Sprintf("%s could be on %s, which it prefers", j.Job, id)
			case loads[here]-loads[id] > j.Weight:
				return fmt.Sprintf("%s on %s instead of %s would be better", j.Job, id, here)
			}
		}
	}
	return ""
}
