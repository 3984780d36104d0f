package raftstore

import (
	"encoding/base64"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// maxGuests bounds them: no sound peer tells of so many.
const maxGuests = 2 * roster.MaxMembers

// hintedGone is how many of those that were removed are told of, the newest: a header has little room.
const hintedGone = 32

// hint is what a node tells another of the members when that connects: names, addresses and who was removed. Who joins, or was away
// while members changed, may know few of them, and the one that leads has to be among those that he lets in and answers. Who votes
// he has from the log.
func hint(list Roster) string {
	var members []Peer
	for _, m := range list.Members {
		members = append(members, Peer{ID: m.ID, Name: m.Name, Addr: m.Addr, Learner: m.Learner})
	}
	told := roster.New(members)
	told.Removed = list.Removed[max(0, len(list.Removed)-hintedGone):]
	return base64.StdEncoding.EncodeToString(told.Encode())
}

// hinted reads a hint.
func hinted(text string) (Roster, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Roster{}, err
	}
	return roster.Decode(data)
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
