package lease

import "fmt"

// mustHold panics, with the values, when a command has taken a job from before to after in a way no command may.
// It runs after every command, in production too: the checks cost nanoseconds and a raft entry costs a disk sync.
func (s *State) mustHold(before, after Job) {
	for _, broken := range []string{
		epochIncreases(before, after),
		epochHasOneLife(before, after),
		s.witnessNeverHolds(after),
		phaseMatchesEpoch(after),
	} {
		if broken != "" {
			panic(fmt.Sprintf("lease: job %s: %s\nbefore: %+v\nafter:  %+v", after.Name, broken, before, after))
		}
	}
}

// epochIncreases is I1, first half: the epoch never decreases, whatever is released, observed or configured.
func epochIncreases(before, after Job) string {
	if after.Epoch < before.Epoch {
		return fmt.Sprintf("I1: epoch went from %d back to %d", before.Epoch, after.Epoch)
	}
	return ""
}

// epochHasOneLife is I1, second half, and I4: an epoch belongs to one life of one node, and is granted once.
func epochHasOneLife(before, after Job) string {
	if after.Epoch != before.Epoch {
		return ""
	}
	if after.Holder != before.Holder || after.Token != before.Token {
		return fmt.Sprintf("I1: epoch %d changed its owner", after.Epoch)
	}
	if before.Phase == Released && after.Phase == Granted {
		return fmt.Sprintf("I4: epoch %d was granted twice", after.Epoch)
	}
	return ""
}

// witnessNeverHolds is I7.
func (s *State) witnessNeverHolds(after Job) string {
	if n, ok := s.Node(after.Holder); ok && n.Witness && after.Phase == Granted {
		return fmt.Sprintf("I7: witness %s holds epoch %d", n.ID, after.Epoch)
	}
	return ""
}

func phaseMatchesEpoch(after Job) string {
	if (after.Phase == Vacant) != (after.Epoch == 0) {
		return fmt.Sprintf("phase %s at epoch %d", after.Phase, after.Epoch)
	}
	return ""
}
