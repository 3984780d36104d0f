package relay

import (
	"container/heap"
	"context"
	"time"
)

// maxHeld bounds the packets that one host's gate holds: 100 MB of full ones. What comes beyond is lost, as in a router.
const maxHeld = 1 << 16

// held is a packet that waits.
type held struct {
	due   time.Time
	order uint64 // of two that are due at once, the one that came first goes first
	frame []byte
}

type byDue []held

func (q byDue) Len() int { return len(q) }
func (q byDue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].order < q[j].order
}
func (q byDue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *byDue) Push(x any)   { *q = append(*q, x.(held)) }
func (q *byDue) Pop() any {
	last := len(*q) - 1
	h := (*q)[last]
	(*q)[last] = held{}
	*q = (*q)[:last]
	return h
}

// forward sends what comes in when it is due, until in is closed or ctx ends. What is held then is lost.
func forward(ctx context.Context, in <-chan held, send func(frame []byte)) {
	var waiting byDue
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Hour
		if len(waiting) > 0 {
			wait = time.Until(waiting[0].due)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return
		case h, ok := <-in:
			if !ok {
				return
			}
			if len(waiting) < maxHeld {
				heap.Push(&waiting, h)
			}
		case <-timer.C:
		}
		for now := time.Now(); len(waiting) > 0 && !waiting[0].due.After(now); {
			send(heap.Pop(&waiting).(held).frame)
		}
	}
}
