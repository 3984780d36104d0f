package raftstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"

	"google.golang.org/grpc/metadata"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// maxGuests bounds them: no sound peer tells of so many.
const maxGuests = 2 * roster.MaxMembers

// hintedGone is how many of those that were removed are told of, the newest: a header has little room.
const hintedGone = 32

// maxHintBytes bounds a hint, by telling of fewer that were removed: what it is a header of must fit in maxHeaderBytes.
const maxHintBytes = 7 << 10

// hint is what a node tells another of the members when that connects: names, addresses and who was removed. Who joins, or was away
// while members changed, may know few of them, and the one that leads has to be among those that he lets in and answers. Who votes
// he has from the log.
func hint(list Roster) string {
	var members []Peer
	for _, m := range list.Members {
		members = append(members, Peer{ID: m.ID, Name: m.Name, Addr: m.Addr, Learner: m.Learner})
	}
	told := roster.New(members)
	for keep := hintedGone; ; keep /= 2 {
		told.Removed = list.Removed[max(0, len(list.Removed)-keep):]
		if text := base64.StdEncoding.EncodeToString(told.Encode()); len(text) <= maxHintBytes || keep == 0 {
			return text
		}
	}
}

// hinted reads a hint.
func hinted(text string) (Roster, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Roster{}, err
	}
	return roster.Decode(data)
}

// introduced has a stream that is opened say who the members are, if the log of this node has it and this node is one of them. Whoever is
// called may have been away for so long that it knows nobody any more; see entertain.
func introduced(ctx context.Context, own standing, self uint64) context.Context {
	if _, ok := own.members.Member(self); !own.logged || !ok {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rosterHeader, hint(own.members))
}

// entertain makes a guest of a caller that is no member as far as is known here. Its certificate has to be a node's, and in the name that
// the caller's log has for it; and that log has to go on from the members that are known here. So one that was only configured to belong
// to this cluster is no guest, nor is an operator. See DESIGN.md, "Guests".
func (s *server) entertain(ctx context.Context, secured *tls.ConnectionState, hello *duoflowv1.PeerEnvelope) error {
	header, _ := metadata.FromIncomingContext(ctx)
	told := header.Get(rosterHeader)
	if len(told) != 1 {
		return errors.New("it tells of no members that its log has")
	}
	list, err := hinted(told[0])
	if err != nil {
		return err
	}
	caller, ok := list.Member(hello.GetFrom())
	if !ok {
		return errors.New("it is none of the members that its log has")
	}
	if err := s.store.cfg.verifyGuest(secured, caller.Name); err != nil {
		return err
	}
	answer := make(chan error, 1)
	s.store.post(func(s *Store) { answer <- s.receiveCaller(list, hello.GetCluster()) })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.store.ended:
		return ErrStopped
	}
}

// receiveCaller makes guests of the members that a caller's log has. It runs in the loop.
func (s *Store) receiveCaller(list Roster, identity string) error {
	if err := list.GoesOnFrom(s.agreed()); err != nil {
		return fmt.Errorf("the members that its log has are not those of this cluster: %w", err)
	}
	s.cfg.belongs.follow(identity)
	if err := s.cfg.belongs.check(identity); err != nil {
		return err
	}
	s.meet(list)
	return nil
}

// meet takes a hint. It makes guests of those that are unknown here, until the log says what they are. It forgets nobody: the other may
// be the one that is out of date. It runs in the loop.
func (s *Store) meet(list Roster) {
	s.replica.PeerMembers(list)
	known, before := s.agreed(), len(s.guests)
	for _, m := range list.Members {
		_, member := known.Member(m.ID)
		_, guest := s.guests[m.ID]
		if !member && !guest && !known.WasRemoved(m.ID) && len(s.guests) < maxGuests {
			s.guests[m.ID] = m
		}
	}
	if len(s.guests) > before {
		s.log.Info("heard of other members", "members", names(list, false))
		s.receiveGuests(known)
	}
}

// agreed are the members without guests: those of the log, else of the configuration. It is asked in the loop.
func (s *Store) agreed() Roster {
	if list := s.replica.State().Members; len(list.Members) > 0 {
		return list
	}
	return Roster{Members: s.cfg.Peers}
}

// receiveGuests has everybody in a roster, and the guests, let in and connected to.
func (s *Store) receiveGuests(list Roster) {
	members := list.Members
	for id, guest := range s.guests {
		if _, ok := list.Member(id); ok || list.WasRemoved(id) {
			delete(s.guests, id)
			continue
		}
		members = append(members[:len(members):len(members)], guest)
	}
	all := roster.New(members)
	all.Removed = list.Removed
	s.cfg.now.Store(&all)
	s.relink(all)
}
