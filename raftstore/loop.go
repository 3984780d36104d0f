package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// loop owns the replica. Every wake takes in all that has come before it lets time pass, and at most
// one tick per wake: ticks that were missed in a stall must not look like a silent leader.
func (s *Store) loop(ctx context.Context) error {
	defer close(s.ended)
	ticker := time.NewTicker(s.cfg.Tick)
	defer ticker.Stop()
	alarm := time.NewTimer(time.Hour)
	alarm.Stop()
	defer alarm.Stop()
	for {
		if err := s.flush(alarm); err != nil {
			return err
		}
		tick, ring, err := false, false, error(nil)
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.inbox:
			s.step(m)
		case p := <-s.proposals:
			p.offer <- s.replica.Propose(p.data)
		case call := <-s.control:
			call(s)
		case end := <-s.saver.done:
			err = s.saved(end)
		case <-ticker.C:
			tick = true
		case <-alarm.C:
			ring = true
		}
		if err := errors.Join(err, s.drain()); err != nil {
			return err
		}
		if tick {
			s.replica.Tick()
		}
		if ring {
			s.replica.Wake()
		}
	}
}

// drain takes in what is waiting, without waiting itself.
func (s *Store) drain() error {
	for range inboxSize {
		select {
		case m := <-s.inbox:
			s.step(m)
		case p := <-s.proposals:
			p.offer <- s.replica.Propose(p.data)
		case call := <-s.control:
			call(s)
		case end := <-s.saver.done:
			if err := s.saved(end); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// saved takes the end of the save under way.
func (s *Store) saved(err error) error {
	if err != nil {
		return err
	}
	return s.replica.Saved()
}

// step gives a peer's message to raft.
func (s *Store) step(m *pb.Message) {
	if err := s.replica.Step(m); err != nil {
		s.log.Debug("useless raft message", "peer", s.cfg.name(m.GetFrom()), "err", err)
	}
}

// flush carries out what raft has ready. The messages go first: a leader's entries reach the disks of
// the others while they are written here.
func (s *Store) flush(alarm *time.Timer) error {
	out, err := s.replica.Flush()
	if err != nil {
		return err
	}
	for _, m := range out.Messages {
		// gofail: var raftBeforeSend struct{}
		if !s.send(m) {
			s.unsent(m)
		}
		// gofail: var raftAfterSend struct{}
	}
	if out.Save != nil {
		s.saver.todo <- out.Save
	}
	for _, entry := range out.Dropped {
		if len(entry.GetData()) >= commandHeader { // else it is none of this node's
			s.complete(entry.GetData(), ErrDropped)
		}
	}
	if out.Wake > 0 {
		alarm.Reset(out.Wake)
	}
	s.enlist(out.Members)
	s.publish()
	if out.Leadership != nil {
		now := Leadership(*out.Leadership)
		s.log.Info("raft leadership", "term", now.Term, "peer", s.leaderName(now.Leader), "ready", now.Ready)
		s.cfg.Observer.Leadership(now)
	}
	return nil
}

// leaderName is the leader's name for logs.
func (s *Store) leaderName(id uint64) string {
	if id == 0 {
		return "none"
	}
	return s.cfg.name(id)
}

// send queues a raft message for its peer and says whether there is hope for it.
func (s *Store) send(m *pb.Message) bool {
	l := s.links()[m.GetTo()]
	if l == nil || !l.up.Load() {
		return false
	}
	payload, err := proto.Marshal(m)
	if err == nil && len(payload) > maxPayloadBytes {
		// It would end the stream, and with it the connection, at every try.
		err = fmt.Errorf("%d bytes are more than %d", len(payload), maxPayloadBytes)
	}
	if err != nil {
		s.log.Error("dropped raft message", "peer", l.peer.Name, "err", err)
		return false
	}
	return l.raft.push(outgoing{payload: payload, snapshot: m.GetType() == pb.MsgSnap})
}

// unsent handles a message that never left. A proposal of this node fails at once: it is nowhere.
func (s *Store) unsent(m *pb.Message) {
	s.replica.Unreachable(m.GetTo())
	if m.GetType() == pb.MsgSnap {
		s.replica.SnapshotSent(m.GetTo(), false)
	}
	if m.GetType() == pb.MsgProp && m.GetFrom() == s.cfg.Self {
		for _, entry := range m.GetEntries() {
			s.complete(entry.GetData(), ErrDropped)
		}
	}
}

// receive takes a message of a peer for the loop. When the loop is far behind it is dropped, as a
// network may: waiting here would hold up the stream.
func (s *Store) receive(m *pb.Message) {
	if l := s.links()[m.GetFrom()]; l != nil {
		l.received.Add(1)
	}
	select {
	case s.inbox <- m:
	default:
		s.log.Debug("dropped raft message", "peer", s.cfg.name(m.GetFrom()), "reason", "inbox full")
	}
}

// post has the loop make a call. It waits for room, but not for a loop that has ended, nor for one that never began because Run did
// not come that far.
func (s *Store) post(call func(*Store)) {
	select {
	case s.control <- call:
	case <-s.ended:
	case <-s.stopped:
	}
}

// commands takes the proposal's id off an entry before the state machine sees it, and completes the
// proposal if it was made here.
type commands struct{ store *Store }

// Apply implements replica.Machine.
func (c commands) Apply(index uint64, data []byte) {
	if len(data) < commandHeader {
		panic(fmt.Sprintf("entry at index %d has %d bytes, less than a proposal's id", index, len(data)))
	}
	// gofail: var raftBeforeApply struct{}
	c.store.machine.Apply(index, data[commandHeader:])
	// gofail: var raftAfterApply struct{}
	c.store.complete(data, nil)
}

// Snapshot implements replica.Machine.
func (c commands) Snapshot() ([]byte, error) { return c.store.machine.Snapshot() }

// Restore implements replica.Machine.
func (c commands) Restore(snapshot []byte) error { return c.store.machine.Restore(snapshot) }
