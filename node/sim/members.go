package sim

import (
	"math/rand/v2"
	"time"

	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

// regroup is what a seed of the mix members has drawn about changes of members. Its dice are its own, as the operators' are.
type regroup struct {
	dice *rand.Rand
	// changes are replacements, one after the other.
	changes []*replacement
}

// replacement is a new node in the place of an old one, as an operator has it made.
type replacement struct {
	old, fresh string
	at         instant
	eager      bool // just after a fence was taken, from at on
	late       bool // the new node starts after it was added
	back       bool // somebody starts the old node again on its data
	begun      bool
	asked      instant // when the last try was made; 0 = none
}

// drawRegroup draws from the seed alone.
func drawRegroup(seed uint64, chaos time.Duration) regroup {
	r := regroup{dice: rand.New(rand.NewPCG(seed, 0x6d65_6d62_6572))}
	old := []string{"a", "b", "t"}
	r.dice.Shuffle(len(old), func(i, j int) { old[i], old[j] = old[j], old[i] })
	at := 3 * time.Second
	for _, name := range old[:1+r.dice.IntN(3)] {
		at += time.Duration(r.dice.Int64N(int64(chaos)/2 + 1))
		fresh := map[string]string{"a": "c", "b": "d", "t": "u"}[name]
		r.changes = append(r.changes, &replacement{
			old: name, fresh: fresh, at: at, eager: r.dice.IntN(2) == 0, late: r.dice.IntN(2) == 0, back: r.dice.IntN(2) == 0,
		})
	}
	return r
}

// span draws a time from the dice of its own.
func (r *regroup) span(least, most time.Duration) time.Duration {
	return least + time.Duration(r.dice.Int64N(int64(most-least)+1))
}

// watchMembers has an operator look after the replacements, again and again.
func (c *cluster) watchMembers() {
	if len(c.regroup.changes) == 0 {
		return
	}
	c.w.in(c.regroup.span(100*time.Millisecond, 400*time.Millisecond), nil, func() {
		c.goOn(false)
		c.watchMembers()
	})
}

// goOn takes the first replacement that is not done a step further. fenced: a fence was taken just now.
func (c *cluster) goOn(fenced bool) {
	for _, x := range c.regroup.changes {
		if x.done(c) {
			continue
		}
		if c.w.now < x.at || (x.eager && !x.begun && !fenced && c.w.now < c.calmAt) {
			return
		}
		x.begun = true
		if !x.late || x.listed(c) {
			c.switchOn(x)
		}
		if x.asked == 0 || c.w.now-x.asked > 3*time.Second {
			c.askFor(x)
		}
		return
	}
}

// listed reports whether some daemon knows the new node for a member.
func (x *replacement) listed(c *cluster) bool {
	return c.knows(func(r raftstore.Roster) bool { _, ok := r.Member(node.RaftID(lease.NodeID(x.fresh))); return ok })
}

func (x *replacement) voting(c *cluster) bool {
	return c.knows(func(r raftstore.Roster) bool {
		m, ok := r.Member(node.RaftID(lease.NodeID(x.fresh)))
		return ok && !m.Learner
	})
}

func (x *replacement) done(c *cluster) bool {
	return c.knows(func(r raftstore.Roster) bool { return r.WasRemoved(node.RaftID(lease.NodeID(x.old))) })
}

func (c *cluster) knows(so func(raftstore.Roster) bool) bool {
	for _, h := range c.hosts {
		if h.daemon != nil && h.daemon.store.roster != nil && so(*h.daemon.store.roster) {
			return true
		}
	}
	return false
}

// switchOn makes the new host, once.
func (c *cluster) switchOn(x *replacement) {
	if c.named(x.fresh) != nil {
		return
	}
	d := &disk{}
	d.wipe()
	h := &host{
		c: c, name: x.fresh, id: node.RaftID(lease.NodeID(x.fresh)), witness: x.fresh == "u", disk: d, joins: true,
		rate: 1, slow: c.plan.fsyncMost,
	}
	c.hosts = append(c.hosts, h)
	h.boot()
}

func (c *cluster) named(name string) *host {
	for _, h := range c.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// askFor has an operator ask whoever leads for the next step.
func (c *cluster) askFor(x *replacement) {
	for _, h := range c.hosts {
		d := h.daemon
		if d == nil || d.dead || d.frozen || !d.store.state.Ready {
			continue
		}
		x.asked = c.w.now
		step := &duoflowv1.ChangeMemberRequest{Change: &duoflowv1.ChangeMemberRequest_Remove{Remove: x.old}}
		if !x.voting(c) {
			step = &duoflowv1.ChangeMemberRequest{Change: &duoflowv1.ChangeMemberRequest_Add{Add: &duoflowv1.NewMember{
				Name: x.fresh, Peer: x.fresh + ":7400", Witness: x.fresh == "u",
			}}}
		}
		c.w.spawn(0, d.actor, func() {
			ctx, cancel := c.w.within(d.parts, 3*time.Second)
			defer cancel()
			_, err := d.node.Operators().ChangeMember(ctx, step)
			d.say("an operator asks for %v: %v", step, err)
			if holder := c.oracle.holder(); err != nil && step.GetRemove() != "" && holder != nil && holder.name == x.old {
				_, err = d.node.Operators().Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: jobName})
				d.say("and so for a switchover: %v", err)
			}
			x.asked = c.w.now - 2500*time.Millisecond
		})
		return
	}
}

// enlist takes over a roster; see raftstore/members.go.
func (s *store) enlist(list raftstore.Roster) {
	s.roster = &list
	s.d.say("members: voters %x, learners %x", list.Voters(), list.Learners())
	for _, m := range list.Members {
		s.linkTo(m.Name)
	}
	for _, l := range s.links {
		if _, ok := list.Member(l.peer.id); !ok && !l.ends && (!s.hinted[l.peer.id] || list.WasRemoved(l.peer.id)) {
			l.ends = true
			s.d.w.in(2*time.Second, s.d.actor, func() { l.over, l.up = true, false })
		}
	}
	s.d.wire.Members(list)
}

// linkTo makes a link, unless there is one or the host is not there yet.
func (s *store) linkTo(name string) {
	peer := s.d.h.c.named(name)
	if peer == nil || peer == s.d.h {
		if peer == nil {
			s.d.w.in(200*time.Millisecond, s.d.actor, func() { s.linkTo(name) })
		}
		return
	}
	for _, l := range s.links {
		if l.peer == peer && !l.over {
			return
		}
	}
	l := &link{s: s, peer: peer}
	s.links = append(s.links, l)
	l.dial()
}

// leave is called when the node was removed and nobody needs its vote any more.
func (s *store) leave() {
	s.d.h.c.oracle.count.removed++
	s.d.say("was removed")
	s.d.wire.Removed("in a world")
}

// strange says why a peer is not listened to; empty when it is.
func (s *store) strange(id uint64) string {
	if s.roster != nil && s.roster.WasRemoved(id) {
		return "removed"
	}
	known := s.roster == nil && s.d.h.c.founder(id)
	if s.roster != nil {
		_, known = s.roster.Member(id)
	}
	if known || s.hinted[id] {
		return ""
	}
	return "unknown"
}

// meet is what a node hears of the members from one that it connects to; see raftstore/hint.go.
func (s *store) meet(other *store) {
	list := raftstore.Roster{}
	switch {
	case other.roster != nil:
		list = *other.roster
	case s.d.h.joins && other.rep != nil:
		list = other.rep.State().Members
	default:
		return // of those that the group was made of each knows the others
	}
	s.turn(func() { s.rep.PeerMembers(list) })
	for _, m := range list.Members {
		if m.ID != s.d.h.id && (s.roster == nil || !s.roster.WasRemoved(m.ID)) {
			s.hinted[m.ID] = true
			s.linkTo(m.Name)
		}
	}
}

// entertain makes a guest of a caller that is unknown here; see raftstore/hint.go.
func (s *store) entertain(caller *store) bool {
	if caller.roster == nil || s.rep == nil {
		return false
	}
	if _, member := caller.roster.Member(caller.d.h.id); !member || caller.roster.GoesOnFrom(s.agreed()) != nil {
		return false
	}
	s.meet(caller)
	return s.strange(caller.d.h.id) == ""
}

// agreed are those of the log, else of the configuration.
func (s *store) agreed() raftstore.Roster {
	if s.roster != nil {
		return *s.roster
	}
	return raftstore.Roster{Members: s.d.cfg.Peers()}
}

// farewell tells a node that was removed.
func (s *store) farewell(id uint64) {
	if h := s.d.h.c.hostOf(id); h != nil && h.daemon != nil {
		other := h.daemon
		s.d.w.in(time.Millisecond, other.actor, func() {
			other.store.turn(func() { other.store.rep.PeerRemoved(s.d.h.id) })
		})
	}
}

func (c *cluster) founder(id uint64) bool {
	for _, h := range c.hosts {
		if h.id == id {
			return !h.joins
		}
	}
	return false
}

// retired ends a host whose node was removed. Somebody may start it again, on its old data.
func (h *host) retired() {
	h.out = true
	for _, x := range h.c.regroup.changes {
		if x.old == h.name && x.back {
			x.back = false
			h.c.w.in(h.c.regroup.span(500*time.Millisecond, 5*time.Second), nil, func() {
				if !h.dark && !h.frozen && h.daemon.dead {
					h.c.say("somebody starts %s again", h.name)
					h.boot()
				}
			})
		}
	}
}
