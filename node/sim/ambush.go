package sim

import (
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// ambush is trouble at a moment that chance seldom hits: how probable it is at each. Only mixes ask for it.
type ambush struct {
	// vote: a voter's power goes when its vote is on its way, and who got it is cut off soon after.
	vote float64
	// ack: a follower's power goes when it has acknowledged something, with the page that said so, and the leader's too.
	ack float64
}

// ambush looks at what a daemon sends to another.
func (s *store) ambush(m *pb.Message) {
	c := s.d.h.c
	to := c.hostOf(m.GetTo())
	if to == nil || m.GetReject() || c.w.now >= c.calmAt {
		return
	}
	switch {
	case m.GetType() == pb.MsgVoteResp && c.w.often(c.plan.ambush.vote):
		c.say("ambush: %s votes for %s", s.d.h.name, to.name)
		c.later(0, s.d.h, c.darken, 300*time.Millisecond)
		c.later(100*time.Millisecond, to, c.cutOff, 4*time.Second)
	case m.GetType() == pb.MsgAppResp && c.w.often(c.plan.ambush.ack):
		c.say("ambush: %s acknowledges what %s sent", s.d.h.name, to.name)
		c.later(0, s.d.h, c.tear, 300*time.Millisecond)
		c.later(100*time.Millisecond, to, c.darken, 4*time.Second)
	}
}

// later makes a trouble after at most a time, and mends it after at most another.
func (c *cluster) later(within time.Duration, h *host, trouble func(*host) func(), most time.Duration) {
	c.w.in(c.w.span(0, within), nil, func() {
		if mend := trouble(h); mend != nil {
			c.w.in(c.w.span(20*time.Millisecond, most), nil, mend)
		}
	})
}

func (c *cluster) hostOf(id uint64) *host {
	for _, h := range c.hosts {
		if h.id == id {
			return h
		}
	}
	return nil
}
