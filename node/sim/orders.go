package sim

import (
	"math/rand/v2"
	"time"

	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// orderly says whether operators give orders in the world of a seed: in one of four, without a mix. They have dice of their own, so
// that all others are drawn as if there were none.
func orderly(seed uint64, mix string) bool { return mix == "" && seed%4 == 3 }

// order is something that an operator asks a daemon for.
type order func(*daemon, *rand.Rand) error

// orders has operators give orders, again and again as long as there is trouble, and end the last pause after it.
func (c *cluster) orders(dice *rand.Rand) {
	c.w.in(upTo(dice, 2*time.Second), nil, func() {
		if c.w.now >= c.calmAt {
			c.endPause(0)
			return
		}
		d := c.hosts[dice.IntN(len(c.hosts))].daemon
		c.give(d, dice, pick(dice, order(pause), pause, resume, plan3, plan3, cancel, restart))
		c.orders(dice)
	})
}

func (c *cluster) give(d *daemon, dice *rand.Rand, o order) {
	if d.dead {
		return
	}
	own := rand.New(rand.NewPCG(dice.Uint64(), 0)) // by when it is asked, others may have been
	c.w.spawn(0, d.actor, func() {
		err := o(d, own)
		d.say("an operator's order: %v", err)
		if err == nil {
			c.oracle.count.orders++
		}
	})
}

// endPause asks one daemon after the other to end what pause there is, for good: an order that was on its way may come late.
func (c *cluster) endPause(turn int) {
	if d := c.hosts[turn%len(c.hosts)].daemon; !d.dead {
		c.w.spawn(0, d.actor, func() { _ = resume(d, nil) }) // refused when there is no pause
	}
	c.w.in(500*time.Millisecond, nil, func() { c.endPause(turn + 1) })
}

func pause(d *daemon, dice *rand.Rand) error {
	_, err := d.node.Operators().Pause(d.parts, &duoflowv1.PauseRequest{
		Job: jobName, Level: string(pick(dice, lease.PauseMoves, lease.PauseGrants, lease.PauseStopped)),
		ForMs: pick(dice, 0, uint64(upTo(dice, 5*time.Second).Milliseconds())),
	})
	return err
}

func resume(d *daemon, _ *rand.Rand) error {
	_, err := d.node.Operators().Resume(d.parts, &duoflowv1.ResumeRequest{Job: jobName})
	return err
}

// plan3 plans a move within three seconds.
func plan3(d *daemon, dice *rand.Rand) error {
	_, err := d.node.Operators().Switchover(d.parts, &duoflowv1.SwitchoverRequest{Job: jobName, InMs: 1 + uint64(upTo(dice, 3*time.Second).Milliseconds())})
	return err
}

func cancel(d *daemon, _ *rand.Rand) error {
	_, err := d.node.Operators().Cancel(d.parts, &duoflowv1.CancelRequest{Job: jobName})
	return err
}

func restart(d *daemon, _ *rand.Rand) error {
	_, err := d.node.Operators().Restart(d.parts, &duoflowv1.RestartRequest{Job: jobName})
	return err
}

func upTo(dice *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(most)))
}
