package raftstore

import (
	"encoding/base64"
	"slices"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// hint is what a node tells another of the members when that connects: names and addresses. Who joins may know a few of them only,
// and the one that leads has to be among those that he lets in and answers. It decides nothing else: who votes, he has from the log.
func hint(list Roster) string {
	var members []Peer
	for _, m := range list.Members {
		members = append(members, Peer{ID: m.ID, Name: m.Name, Addr: m.Addr})
	}
	return base64.StdEncoding.EncodeToString(roster.New(members).Encode())
}

// hinted reads a hint.
func hinted(text string) (Roster, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Roster{}, err
	}
	return roster.Decode(data)
}

// meet has a node that is not of the group yet connect with those that it hears of. It forgets nobody: the other may be the one that
// is out of date. It runs in the loop.
func (s *Store) meet(list Roster) {
	if !s.cfg.Join || s.replica.Logged() {
		return
	}
	known := s.cfg.members()
	members := slices.Clone(known.Members)
	for _, m := range list.Members {
		if _, ok := known.Member(m.ID); !ok {
			members = append(members, m)
		}
	}
	if len(members) == len(known.Members) {
		return
	}
	next := roster.New(members)
	s.cfg.now.Store(&next)
	s.log.Info("heard of other members", "members", names(next, false))
	fresh, _ := s.link(next)
	for _, l := range fresh {
		s.launch(l)
	}
}
