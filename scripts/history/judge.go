package history

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// windowSize is how many operations are judged together, and those up to the next moment at which the state is known.
	windowSize = 300
	// forever is the end of an operation that may take effect at any later time.
	forever = math.MaxInt64
)

// Verdict is what a history says.
type Verdict struct {
	Operations int // of them Reads answered, Asks accepted, Refused and Unknown; the rest are somebody else's
	Reads      int
	Asks       int
	Refused    int
	Unknown    int
	Epochs     int // that reads saw, over all jobs
	Windows    int
	// Wrong are windows that no order of their operations explains, a line each.
	Wrong []string
	// Undecided are windows for which the time did not suffice.
	Undecided []string
}

// Judge examines a history, each job and each window within a time. It changes nothing.
func Judge(all []Operation, within time.Duration) Verdict {
	v := Verdict{Operations: len(all)}
	jobs := map[string][]Operation{}
	for _, op := range all {
		v.count(op)
		jobs[op.Job] = append(jobs[op.Job], op)
	}
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		epochs := map[uint64]bool{}
		for _, op := range jobs[name] {
			if op.Kind == Read {
				epochs[op.Lease.Epoch] = true
			}
		}
		v.Epochs += len(epochs)
		for _, w := range windows(jobs[name], windowSize) {
			v.judge(w, within)
		}
	}
	return v
}

func (v *Verdict) count(op Operation) {
	switch {
	case op.Kind == Read:
		v.Reads++
	case op.Kind == Foreign:
	case op.Outcome == Done:
		v.Asks++
	case op.Outcome == Refused:
		v.Refused++
	default:
		v.Unknown++
	}
}

// judge examines one window.
func (v *Verdict) judge(window []Operation, within time.Duration) {
	v.Windows++
	switch porcupine.CheckOperationsTimeout(model(), open(window), within) {
	case porcupine.Illegal:
		v.Wrong = append(v.Wrong, explain(window, within))
	case porcupine.Unknown:
		v.Undecided = append(v.Undecided, span(window))
	case porcupine.Ok:
	}
}

func span(window []Operation) string {
	return fmt.Sprintf("job %s, %d operations from %s to %s", window[0].Job, len(window),
		time.Duration(window[0].Call), time.Duration(window[len(window)-1].Return))
}

// explain names the first operation by whose return there is no order any more.
func explain(window []Operation, within time.Duration) string {
	byReturn := slices.Clone(window)
	slices.SortStableFunc(byReturn, func(a, b Operation) int { return cmp.Compare(a.Return, b.Return) })
	sound, broken := 0, len(byReturn)
	for sound+1 < broken { // halving: what begins with an impossible history is impossible
		half := (sound + broken) / 2
		if porcupine.CheckOperationsTimeout(model(), open(upTo(window, byReturn[half-1].Return)), within) == porcupine.Illegal {
			broken = half
		} else {
			sound = half
		}
	}
	return fmt.Sprintf("%s: not linearizable from %s on", span(window), byReturn[broken-1])
}

// upTo is a history as it was at a time: what was under way then is of unknown outcome, and reads are not yet answered.
func upTo(window []Operation, at int64) []Operation {
	var out []Operation
	for _, op := range window {
		switch {
		case op.Call > at || op.Return > at && op.Kind == Read:
			continue
		case op.Return > at:
			op.Outcome = Unknown
		}
		out = append(out, op)
	}
	return out
}

// open gives every operation its span. One of unknown outcome is under way for ever, unless it is for an epoch that was seen to be
// over: it took effect before that, or never will.
func open(window []Operation) []porcupine.Operation {
	out := make([]porcupine.Operation, 0, len(window))
	for _, op := range window {
		end := op.Return
		switch {
		case op.Outcome == Unknown && op.Kind == Ask:
			end = overAt(window, op)
		case op.Outcome == Unknown:
			end = forever
		}
		out = append(out, porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: end})
	}
	return out
}

// overAt is when a wish's epoch had been seen to be over.
func overAt(window []Operation, ask Operation) int64 {
	end := int64(forever)
	for _, op := range window {
		if op.Kind == Read && op.Lease.Epoch > ask.Epoch {
			end = min(end, op.Return)
		}
	}
	return max(end, ask.Call)
}

// windows cuts one job's history where the state is known: at a read that nothing else was under way with. That read ends one
// window and begins the next, so that the windows together say what the whole says. Wishes of unknown outcome go on in the
// next, as long as their epoch does: there the same wish could come true twice, which the whole would not allow.
func windows(history []Operation, size int) [][]Operation {
	ops := slices.Clone(history)
	slices.SortStableFunc(ops, func(a, b Operation) int { return cmp.Compare(a.Call, b.Call) })
	var out [][]Operation
	var window []Operation
	busy := int64(-1) // until then something is under way
	for i, op := range ops {
		window = append(window, op)
		alone := op.Kind == Read && op.Call > busy && (i+1 == len(ops) || ops[i+1].Call > op.Return)
		if op.Outcome != Unknown {
			busy = max(busy, op.Return)
		}
		if alone && len(window) >= size && i+1 < len(ops) {
			out = append(out, window)
			window = append(pending(window, op), op)
		}
	}
	return append(out, window)
}

// pending are the wishes of a window that may still come true when a read has seen the state.
func pending(window []Operation, at Operation) []Operation {
	var out []Operation
	for _, op := range window {
		if op.Outcome == Unknown && (op.Kind == Foreign || op.Epoch >= at.Lease.Epoch) {
			out = append(out, op)
		}
	}
	return out
}
