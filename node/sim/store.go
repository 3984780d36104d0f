package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore"
	"github.com/duoflow/duoflow/raftstore/replica"
)

// store drives a real replica as raftstore's Store does (loop.go, store.go), with the world's network and disk instead
// of gRPC and bbolt. It is what a node takes for its replicated log.
type store struct {
	d     *daemon
	rep   *replica.Replica
	links []*link
	// waiters are proposals of this daemon that have not ended.
	waiters  map[uint64]*waiter
	proposed uint64
	ticking  bool
	alarm    *event
	state    replica.State
	inTurn   bool
	calls    []func()
	// roster is that of the log, nil until it has one; hinted are those that a node which joins has heard of.
	roster *raftstore.Roster
	hinted map[uint64]bool
}

type waiter struct {
	done bool
	err  error
}

const commandHeader = 8

// errDiskFull ends a daemon, as every error of its disk does.
var errDiskFull = errors.New("no space left on device")

func newStore(d *daemon) *store {
	s := &store{d: d, waiters: map[uint64]*waiter{}, hinted: map[uint64]bool{}}
	for _, h := range d.h.c.hosts {
		if h != d.h && !h.joins {
			s.links = append(s.links, &link{s: s, peer: h})
		}
	}
	return s
}

// begin opens the disk and connects.
func (s *store) begin() {
	if s.d.h.full {
		s.d.fail(errDiskFull)
		return
	}
	memory, doubt, err := s.d.h.disk.open()
	if err != nil {
		s.d.fail(err)
		return
	}
	_, heartbeat, election := s.d.cfg.RaftTiming()
	s.rep, err = replica.New(replica.Config{
		ID: s.d.h.id, Storage: memory, Machine: commands{s}, HeartbeatTicks: heartbeat, ElectionTicks: election,
		Preferred: s.d.h.c.preferred, Members: s.d.h.c.bootstrap(s.d.cfg), SnapshotEvery: s.d.h.c.plan.snapshotEvery, KeepEntries: s.d.h.c.plan.keepEntries,
		Doubt: doubt, Founded: s.d.h.disk.founded, Current: func(request uint64) { s.complete(binary.BigEndian.AppendUint64(nil, request), nil) },
	})
	if err != nil {
		s.d.fail(err)
		return
	}
	if doubt != "" {
		s.d.say("disk in doubt: %s", doubt)
	}
	s.d.listens = true
	for _, l := range s.links {
		l.dial()
	}
	s.turn(func() {})
}

// turn is one turn of the store's loop.
func (s *store) turn(do func()) {
	if s.rep == nil || s.d.dead {
		return
	}
	s.calls = append(s.calls, do)
	if s.inTurn {
		return
	}
	s.inTurn = true
	for len(s.calls) > 0 {
		next := s.calls[0]
		s.calls = s.calls[1:]
		next()
		s.flush()
	}
	s.inTurn = false
}

func (s *store) flush() {
	out, err := s.rep.Flush()
	if err != nil {
		s.d.fail(err)
		return
	}
	for _, m := range out.Messages {
		if !s.send(m) {
			s.unsent(m)
		}
		s.ambush(m)
	}
	if out.Save != nil && s.d.h.full {
		s.d.fail(errDiskFull)
		return
	}
	if out.Save != nil {
		s.d.h.disk.save(s.d.w, s.d.actor, s.d.h.c.fsync(s.d.h), out.Save, func() {
			s.turn(func() {
				if err := s.rep.Saved(); err != nil {
					s.d.fail(err)
				}
			})
		})
	}
	for _, entry := range out.Dropped {
		s.complete(entry.GetData(), raftstore.ErrDropped)
	}
	if out.Wake > 0 {
		s.d.w.cancel(s.alarm)
		s.alarm = s.d.w.in(out.Wake, s.d.actor, func() { s.turn(s.rep.Wake) })
	}
	s.publish()
	for _, m := range out.Members {
		s.enlist(m.Roster)
		s.complete(binary.BigEndian.AppendUint64(nil, m.Request), nil)
	}
	if out.Leadership != nil {
		now := *out.Leadership
		s.d.say("raft: term %d, leader %s, ready %v", now.Term, s.d.h.c.nameOf(now.Leader), now.Ready)
		if now.Self {
			s.d.h.c.oracle.leads(now.Term, s.d.h.name)
		}
		s.d.wire.Leadership(raftstore.Leadership(now))
	}
}

func (s *store) publish() {
	before, removed := s.state.Doubt, s.state.Removed
	s.state = s.rep.State()
	if s.state.Doubt != before {
		s.d.say("doubt of the disk: %q", s.state.Doubt)
	}
	if s.state.Removed && !removed {
		s.leave()
	}
}

func (s *store) send(m *pb.Message) bool {
	for _, l := range s.links {
		if l.peer.id != m.GetTo() || l.over {
			continue
		}
		if !l.up {
			return false
		}
		if m.GetType() == pb.MsgProp {
			m = proto.Clone(m).(*pb.Message) // the leader writes into the entries it is given
		}
		l.send(func(to *daemon) { to.store.receive(m) })
		if m.GetType() == pb.MsgSnap {
			s.d.w.in(0, s.d.actor, func() { s.turn(func() { s.rep.SnapshotSent(l.peer.id, true) }) })
		}
		return true
	}
	return false
}

func (s *store) unsent(m *pb.Message) {
	s.rep.Unreachable(m.GetTo())
	if m.GetType() == pb.MsgSnap {
		s.rep.SnapshotSent(m.GetTo(), false)
	}
	if m.GetType() == pb.MsgProp && m.GetFrom() == s.d.h.id {
		for _, entry := range m.GetEntries() {
			s.complete(entry.GetData(), raftstore.ErrDropped)
		}
	}
}

func (s *store) receive(m *pb.Message) {
	if why := s.strange(m.GetFrom()); why != "" {
		if why == "removed" {
			s.farewell(m.GetFrom())
		}
		return
	}
	if m.GetType() == pb.MsgProp {
		m = proto.Clone(m).(*pb.Message) // it may come twice
	}
	s.turn(func() { _ = s.rep.Step(m) }) // a useless message is no error
}

// Run implements node's log; nobody calls it here.
func (s *store) Run(context.Context) error { panic("sim: a store is not run") }

// Propose implements node's log.
func (s *store) Propose(ctx context.Context, command []byte) error {
	s.proposed++
	id := s.d.number<<32 | s.proposed
	data := append(binary.BigEndian.AppendUint64(nil, id), command...)
	wait := &waiter{}
	s.waiters[id] = wait
	defer delete(s.waiters, id)
	var offered error
	s.d.w.in(s.d.w.span(0, 300*time.Microsecond), s.d.actor, func() {
		if s.rep == nil {
			offered = raftstore.ErrNoLeader
			return
		}
		s.turn(func() { offered = s.rep.Propose(data) })
	})
	s.d.w.wait(func() bool { return wait.done || offered != nil || ctx.Err() != nil })
	switch {
	case offered != nil:
		return offered
	case wait.done:
		return wait.err
	}
	return fmt.Errorf("wait for proposal: %w", ctx.Err())
}

// Change implements node's log; see raftstore/members.go.
func (s *store) Change(ctx context.Context, c raftstore.Change) error {
	s.proposed++
	id := s.d.number<<32 | s.proposed
	wait := &waiter{}
	s.waiters[id] = wait
	defer delete(s.waiters, id)
	var offered error
	s.d.w.in(0, s.d.actor, func() { s.turn(func() { offered = s.rep.Change(id, c) }) })
	s.d.w.wait(func() bool { return wait.done || offered != nil || ctx.Err() != nil })
	switch {
	case offered != nil:
		return offered
	case wait.done:
		return wait.err
	}
	return fmt.Errorf("wait for change of members: %w", ctx.Err())
}

// Examine implements node's log.
func (s *store) Examine(_ context.Context, c raftstore.Change) error {
	if s.rep == nil {
		return raftstore.ErrNotLeader
	}
	_, err := s.rep.Examine(c)
	return err
}

// Read implements node's log; see raftstore/read.go.
func (s *store) Read(ctx context.Context) error {
	if s.d.h.c.faulty.ownReads {
		return nil
	}
	for ctx.Err() == nil {
		s.proposed++
		id := s.d.number<<32 | s.proposed
		wait, due := &waiter{}, false
		s.waiters[id] = wait
		s.d.w.in(s.d.w.span(0, 300*time.Microsecond), s.d.actor, func() {
			s.turn(func() { _ = s.rep.Read(id) }) // with nobody leading it is asked again
		})
		again := s.d.w.in(100*time.Millisecond, s.d.actor, func() { due = true })
		s.d.w.wait(func() bool { return wait.done || due || ctx.Err() != nil })
		s.d.w.cancel(again)
		delete(s.waiters, id)
		if wait.done {
			return nil
		}
	}
	return fmt.Errorf("read: %w", ctx.Err())
}

func (s *store) complete(data []byte, err error) {
	if len(data) < commandHeader {
		return
	}
	if wait, ok := s.waiters[binary.BigEndian.Uint64(data)]; ok {
		wait.done, wait.err = true, err
	}
}

// Broadcast implements node's log.
func (s *store) Broadcast(payload []byte) {
	from := s.d.h.id
	s.d.said = len(payload)
	for _, l := range s.links {
		if l.up {
			l.send(func(to *daemon) {
				switch to.store.strange(from) {
				case "":
					to.wire.Beat(from, payload)
				case "removed":
					to.store.farewell(from)
				}
			})
		}
	}
}

// Status implements node's log.
func (s *store) Status() raftstore.Status {
	status := raftstore.Status{
		Leadership: raftstore.Leadership(s.state.Leadership), Commit: s.state.Commit, Applied: s.state.Applied,
		Last: s.state.Last, Snapshot: s.state.Snapshot, Voters: s.state.Voters, Doubt: s.state.Doubt,
		Members: s.state.Members, Removed: s.state.Removed,
	}
	for _, l := range s.links {
		status.PeerStates = append(status.PeerStates, raftstore.PeerState{Peer: raftstore.Peer{ID: l.peer.id}, Connected: l.up})
	}
	return status
}

// Unwritable implements node's log.
func (s *store) Unwritable() string {
	if s.d.h.full {
		return "the disk is full"
	}
	return ""
}

// Tick implements node's log; see raftstore/tick.go.
func (s *store) Tick(n int) {
	if s.ticking || n == 0 {
		return
	}
	s.ticking = true
	s.d.w.in(s.d.w.span(0, 100*time.Microsecond), s.d.actor, func() {
		s.ticking = false
		s.turn(func() {
			for range n {
				s.rep.Tick()
			}
		})
	})
}

// commands takes a proposal's number off an entry before the node's state machine sees it.
type commands struct{ s *store }

func (c commands) Apply(index uint64, data []byte) {
	c.s.d.h.c.oracle.applied(c.s.d, index, data)
	c.s.d.wire.StateMachine().Apply(index, slices.Clone(data[commandHeader:]))
	c.s.complete(data, nil)
}

func (c commands) Snapshot() ([]byte, error) { return c.s.d.wire.StateMachine().Snapshot() }

func (c commands) Restore(snapshot []byte) error { return c.s.d.wire.StateMachine().Restore(snapshot) }
