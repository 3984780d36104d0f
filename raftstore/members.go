package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/raftstore/replica"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// Errors of Change and Examine: the change is in no log.
var (
	// ErrNotLeader: this node does not lead, or has only just begun to.
	ErrNotLeader = replica.ErrNotLeader
	// ErrChanging: one change at a time, and another one is under way.
	ErrChanging = replica.ErrChanging
	// ErrRefused: it must not be made, for the reason that is told.
	ErrRefused = roster.ErrRefused
)

// lingers is how long the link to a node that was removed is kept: the word that it is agreed on is on its way to it.
const lingers = 2 * time.Second

// Change makes one step to other members and waits until it is in force here. Only the raft leader can. After an error other than
// those above, that of ctx included, it may still come to be.
func (s *Store) Change(ctx context.Context, c Change) error {
	number := make([]byte, commandHeader)
	if _, err := rand.Read(number); err != nil {
		return fmt.Errorf("draw number of a change: %w", err)
	}
	request := binary.BigEndian.Uint64(number)
	end := s.await(request)
	defer s.forget(request)
	p := proposal{offer: make(chan error, 1)}
	s.post(func(s *Store) {
		if err := ctx.Err(); err != nil { // whoever asked has gone on
			p.offer <- err
			return
		}
		p.offer <- s.change(request, c)
	})
	return s.outcome(ctx, p, end)
}

// Examine says why Change would not make a step; nil = it would.
func (s *Store) Examine(ctx context.Context, c Change) error {
	answer := make(chan error, 1)
	s.post(func(s *Store) { answer <- s.examine(c) })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("examine change of members: %w", ctx.Err())
	case <-s.stopped:
		return ErrStopped
	}
}

func (s *Store) examine(c Change) error {
	if _, err := s.replica.Examine(c); err != nil {
		return err
	}
	for _, l := range s.links() {
		if l.up.Load() && !l.knows.Load() && l.peer.ID != c.Remove {
			return fmt.Errorf("%w: node %s is of a version that takes its members from its configuration; upgrade it first", ErrRefused, l.peer.Name)
		}
	}
	return nil
}

func (s *Store) change(request uint64, c Change) error {
	if err := s.examine(c); err != nil {
		return err
	}
	return s.replica.Change(request, c)
}

// links are those to all other members, by raft id. Nobody changes the map.
func (s *Store) links() map[uint64]*link { return *s.linked.Load() }

// link makes the links of a roster: it keeps those that are there. It returns what is new and what is needless.
func (s *Store) link(list Roster) (fresh, over []*link) {
	before := map[uint64]*link{}
	if now := s.linked.Load(); now != nil {
		before = *now
	}
	next := map[uint64]*link{}
	for _, m := range list.Members {
		switch have := before[m.ID]; {
		case m.ID == s.cfg.Self:
		case have != nil && have.peer.Name == m.Name && have.peer.Addr == m.Addr:
			next[m.ID] = have
		default:
			next[m.ID] = newLink(s, m)
			fresh = append(fresh, next[m.ID])
		}
	}
	for id, l := range before {
		if next[id] != l {
			over = append(over, l)
		}
	}
	s.linked.Store(&next)
	return fresh, over
}

// relink starts and ends links, so that they are those of a roster.
func (s *Store) relink(list Roster) {
	fresh, over := s.link(list)
	for _, l := range fresh {
		s.launch(l)
	}
	for _, l := range over {
		time.AfterFunc(lingers, l.stop)
	}
}

// enlist takes over the rosters that have come into force. It runs in the loop, after what was to be sent to those of before.
func (s *Store) enlist(told []replica.Membership) {
	if len(told) == 0 {
		return
	}
	for _, m := range told {
		list := m.Roster
		s.log.Info("members", "voters", names(list, false), "learners", names(list, true))
		s.receiveGuests(list)
		s.cfg.Observer.Members(list)
		s.complete(binary.BigEndian.AppendUint64(nil, m.Request), nil)
	}
}

func names(list Roster, learners bool) []string {
	all := []string{}
	for _, m := range list.Members {
		if m.Learner == learners {
			all = append(all, m.Name)
		}
	}
	return all
}

// leave is called when this node was removed and nobody needs its vote any more. It runs in the loop.
func (s *Store) leave() {
	const why = "the nodes that are left say so"
	s.log.Error("this node was removed from the cluster", "reason", why)
	s.cfg.Observer.Removed(why)
}
