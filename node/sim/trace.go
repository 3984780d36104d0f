package sim

import (
	"fmt"
)

// trace is what happened in a world: a sum over everything, to tell whether two runs were the same, and lines for people.
type trace struct {
	sum uint64
	// loud keeps every line; otherwise only a sum is kept of them.
	loud  bool
	lines []string
}

const (
	sumBasis = 14695981039346656037
	sumPrime = 1099511628211
)

func newTrace(loud bool) *trace { return &trace{sum: sumBasis, loud: loud} }

func (t *trace) fold(v uint64) { t.sum = (t.sum ^ v) * sumPrime }

// step adds something that happened to the sum.
func (t *trace) step(now instant, e *event) {
	t.fold(uint64(now))
	t.fold(e.seq)
	if e.who != nil {
		t.fold(e.who.number)
	}
}

// say adds a line.
func (t *trace) say(now instant, who, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for i := range len(text) {
		t.sum = (t.sum ^ uint64(text[i])) * sumPrime
	}
	if t.loud {
		t.lines = append(t.lines, fmt.Sprintf("%10.4f %-12s %s", now.Seconds(), who, text))
	}
}

// note adds a line for people only.
func (t *trace) note(now instant, who, format string, args ...any) {
	if t.loud {
		t.lines = append(t.lines, fmt.Sprintf("%10.4f %-12s %s", now.Seconds(), who, fmt.Sprintf(format, args...)))
	}
}
