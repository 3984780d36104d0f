package sim

import (
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// readEvery is how far apart reads are, with Options.reads.
const readEvery = 20 * time.Millisecond

// read has one node after the other, again and again, say who holds the job, linearizably: the answer must not be older than what
// any node knew when it was asked.
func (c *cluster) read(turn int) {
	c.w.in(readEvery, nil, func() {
		if d := c.hosts[turn%len(c.hosts)].daemon; d != nil && !d.dead {
			c.w.spawn(0, d.actor, func() { c.readAt(d) })
		}
		c.read(turn + 1)
	})
}

func (c *cluster) readAt(d *daemon) {
	before := c.known()
	answer, err := d.node.Operators().Status(d.parts, &duoflowv1.StatusRequest{Linearizable: true})
	if err != nil {
		return
	}
	c.oracle.count.reads++
	if got := answer.GetJobs()[0].GetEpoch(); got < before {
		c.oracle.fail("read: %s answered epoch %d, but %d was known when it was asked", d.name, got, before)
	}
}

// known is the latest epoch that any node has applied, alive or not: it was agreed on.
func (c *cluster) known() (epoch uint64) {
	for _, h := range c.hosts {
		if h.daemon == nil {
			continue
		}
		if answer, err := h.daemon.node.Operators().Status(h.daemon.parts, nil); err == nil {
			epoch = max(epoch, answer.GetJobs()[0].GetEpoch())
		}
	}
	return epoch
}
