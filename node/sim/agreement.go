package sim

import (
	"hash/fnv"

	"github.com/duoflow/duoflow/node/lease"
)

// agreement is what the logs of the nodes must have in common, and what they have agreed on. The fence bears it if a log
// breaks its word, so nothing in the metastore shows that.
type agreement struct {
	leaders map[uint64]string
	// commands are sums of them by index, as whoever applied it first had it; state is what became of them up to last.
	commands map[uint64]uint64
	state    lease.State
	last     uint64
	// given are the grants of the log, and those that operators ordered without it.
	given map[grant]bool
	// forgotten: a disk was replaced. A node that has forgotten a whole term may break the log's promise (raftstore/DESIGN.md,
	// known limits).
	forgotten bool
}

func newAgreement() agreement {
	return agreement{leaders: map[uint64]string{}, commands: map[uint64]uint64{}, given: map[grant]bool{}}
}

// leads takes in who leads in a term: one node.
func (o *oracle) leads(term uint64, name string) {
	other, known := o.log.leaders[term]
	if known && other != name && !o.log.forgotten {
		o.fail("log: %s leads in term %d, and so did %s", name, term, other)
	}
	o.log.leaders[term] = name
	if h := o.c.named(name); h != nil && h.out {
		o.fail("members: %s leads in term %d, and was removed", name, term)
	}
}

// applied takes in what a node has at an index of its log: the same as the others.
func (o *oracle) applied(d *daemon, index uint64, data []byte) {
	h := fnv.New64a()
	_, _ = h.Write(data) // never fails
	other, known := o.log.commands[index]
	if known && other != h.Sum64() && !o.log.forgotten {
		o.fail("log: %s has another command at index %d than the others", d.name, index)
	}
	o.log.commands[index] = h.Sum64()
	if index > o.log.last {
		o.log.last = index
		o.decided(data[commandHeader:])
	}
}

// decided takes in a command that no node has applied before.
func (o *oracle) decided(command []byte) {
	c, err := lease.DecodeCommand(command)
	if err != nil {
		return // the node that applies it ends
	}
	out := o.log.state.Apply(c)
	job, _ := o.log.state.Job(jobName)
	life := string(job.Holder) + string(job.Token)
	if job.Phase == lease.Granted {
		o.log.given[grant{uint64(job.Epoch), life}] = true
	}
	if c.Release != nil && out.Accepted {
		o.released(uint64(job.Epoch), life)
	}
}

// released is the other half of I6: who gives an epoch back has nothing of it left.
func (o *oracle) released(epoch uint64, life string) {
	for _, h := range o.c.hosts {
		for _, p := range h.procs {
			if p.as.epoch == epoch && h.name+string(p.by.token) == life {
				o.fail("I6: epoch %d is given back while its process is alive on %s", epoch, h.name)
			}
		}
	}
}

// ordered takes in that an operator had a daemon take an epoch by the fence alone.
func (o *oracle) ordered(d *daemon, epoch uint64) { o.log.given[d.grant(epoch)] = true }

// entitled is I5: who takes an epoch was granted it, this life and no other.
func (o *oracle) entitled(epoch uint64, life string) {
	if !o.log.given[grant{epoch, life}] && !o.log.forgotten {
		o.fail("I5: epoch %d is taken by %.8s, to which nobody gave it", epoch, life)
	}
}
