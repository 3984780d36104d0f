package history

import "github.com/anishathalye/porcupine"

// witness is the node that never holds a job.
const witness = "t"

// known is what the operations so far say about a job's lease. The cluster itself changes it at any time: the holder releases
// its epoch, and a later one is granted, which ends every wish. So a read may always see more than is known here, and never less.
type known struct {
	any    bool // false: nothing is known
	epoch  uint64
	holder string // "" = not known
	phase  string // "" = not known
	told   bool   // move is known
	move   string // the pending wish; "" = none
	// foreign: somebody else has made a wish since the last read, maybe for an epoch that nobody has read yet.
	foreign bool
}

const (
	granted  = "granted"
	released = "released"
)

// read says whether a lease may be seen now, and what is known then.
func (k known) read(l Lease) (bool, known) {
	seen := known{any: true, epoch: l.Epoch, holder: l.Holder, phase: l.Phase, told: l.Move != nil}
	if seen.told {
		seen.move = *l.Move
	}
	sound := l.Holder != witness && (l.Epoch == 0) == (l.Holder == "") && (l.Epoch == 0) == (l.Phase == "")
	if !sound || !k.any {
		return sound, seen
	}
	switch {
	case l.Epoch < k.epoch:
		return false, k
	case l.Epoch > k.epoch:
		if seen.move != "" && !k.foreign { // a grant ends every wish, and nobody has made one since
			return false, k
		}
		seen.told = seen.told || !k.foreign
		return true, seen
	case k.holder != "" && l.Holder != k.holder, k.phase == released && l.Phase == granted, seen.told && k.told && seen.move != k.move:
		return false, k
	}
	if !seen.told {
		seen.told, seen.move = k.told, k.move
	}
	return true, seen
}

// accept says whether a wish for an epoch may have been accepted now.
func (k known) accept(epoch uint64, move string) (bool, known) {
	switch {
	case k.any && k.epoch > epoch:
		return false, k
	case !k.any || k.epoch < epoch:
		return true, known{any: true, epoch: epoch, told: true, move: move}
	}
	k.told, k.move = true, move
	return true, k
}

// step takes one operation. A client makes a wish for an epoch that it has read, so none is for a later one than is known.
func (k known) step(op Operation) (bool, known) {
	switch {
	case op.Kind == Read:
		return k.read(*op.Lease)
	case op.Kind == Foreign:
		k.told, k.move, k.foreign = false, "", true
		return true, k
	case op.Outcome == Done:
		return k.accept(op.Epoch, op.Move)
	case op.Outcome == Unknown && k.any && k.epoch == op.Epoch:
		return k.accept(op.Epoch, op.Move)
	}
	return true, k // refused, or for an epoch that is over
}

// model is for one job. porcupine tries the orders.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return known{} },
		Step: func(state, input, _ any) (bool, any) { return state.(known).step(input.(Operation)) },
	}
}
