package raftstore

import "sync"

// queue is a bounded list between producers that must not wait and one consumer. When it is full the
// newest item is refused, or the oldest one dropped: raft needs order and resends what is missing, of
// beats only the newest matter.
type queue struct {
	mu     sync.Mutex
	items  []outgoing
	limit  int
	oldest bool          // drop the oldest item when full
	filled chan struct{} // capacity 1; has a token when items may be there
}

// outgoing is one encoded payload on its way to a peer.
type outgoing struct {
	payload  []byte
	snapshot bool // a raft snapshot, whose end must be reported
}

// newQueue makes a queue of limit items.
func newQueue(limit int, dropOldest bool) *queue {
	return &queue{limit: limit, oldest: dropOldest, filled: make(chan struct{}, 1)}
}

// push adds an item and says whether it was taken.
func (q *queue) push(item outgoing) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.limit {
		if !q.oldest {
			return false
		}
		q.items = q.items[1:]
	}
	q.items = append(q.items, item)
	select {
	case q.filled <- struct{}{}:
	default:
	}
	return true
}

// takeAll empties the queue, oldest item first.
func (q *queue) takeAll() []outgoing {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}
