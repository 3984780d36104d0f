package node

import (
	"fmt"
	"sync"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// letter is one input for the machines of one job; an empty job means all of them.
type letter struct {
	job   lease.JobName
	input control.Input
	// beat is set instead of input when a node has spoken, of all its jobs at once.
	beat *beat
	// regrouped is set instead when the members have changed.
	regrouped bool
}

// mailbox collects inputs from every goroutine of the node for the one that owns the machines. Posting never
// blocks, because those who post hold other people's locks (the raft loop, a gRPC stream).
type mailbox struct {
	mu      sync.Mutex
	letters []letter
	rings   chan struct{}
}

// mailboxCap is far above what a stall of seconds can pile up: 40 beats a second from two peers for each job. More
// than this means that the loop is dead, and a dead loop must not look alive.
const mailboxCap = 100_000

func newMailbox() *mailbox { return &mailbox{rings: make(chan struct{}, 1)} }

func (m *mailbox) post(job lease.JobName, in control.Input) { m.put(letter{job: job, input: in}) }

func (m *mailbox) postBeat(b beat) { m.put(letter{beat: &b}) }

func (m *mailbox) postRegrouped() { m.put(letter{regrouped: true}) }

func (m *mailbox) put(l letter) {
	m.mu.Lock()
	m.letters = append(m.letters, l)
	n := len(m.letters)
	m.mu.Unlock()
	if n > mailboxCap {
		panic(fmt.Sprintf("node: %d inputs wait: the loop is stuck", n))
	}
	select {
	case m.rings <- struct{}{}:
	default:
	}
}

// empty takes everything out, in the order it came.
func (m *mailbox) empty() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.letters
	m.letters = nil
	return all
}
