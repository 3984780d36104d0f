package raftstore

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/replica"
)

// maxEnvelopeBytes bounds one envelope, and with it a snapshot; maxPayloadBytes leaves room for the
// address.
const (
	maxEnvelopeBytes = 16 << 20
	maxPayloadBytes  = maxEnvelopeBytes - 4096
)

// errEnvelope is the root of all complaints about a received envelope.
var errEnvelope = errors.New("refused envelope")

// errUnknown refuses who is no member that this node knows.
var errUnknown = errors.New("is no member that this node knows")

// errRemoved tells who was removed that he was.
var errRemoved = errors.New("was removed from the cluster")

// checkEnvelope compares the address on an envelope with this node. The texts go to the sender.
func (c *Config) checkEnvelope(e *duoflowv1.PeerEnvelope) error {
	foreign := c.belongs.check(e.GetCluster())
	switch {
	case foreign != nil:
		return fmt.Errorf("%w: %w", errEnvelope, foreign)
	case e.GetTo() != c.Self:
		return fmt.Errorf("%w: it is for node %s, this is node %s; compare the nodes' addresses in the configurations",
			errEnvelope, c.name(e.GetTo()), c.name(c.Self))
	case e.GetFrom() == c.Self:
		return fmt.Errorf("%w: it comes from a second node %s", errEnvelope, c.name(c.Self))
	}
	list := c.members()
	if _, ok := list.Member(e.GetFrom()); ok {
		return nil
	}
	if list.WasRemoved(e.GetFrom()) {
		return fmt.Errorf("%w: node %s %w; a node that is to take its place needs another name and an empty data directory",
			errEnvelope, c.name(e.GetFrom()), errRemoved)
	}
	return fmt.Errorf("%w: node %x %w; `duoctl member add` it first", errEnvelope, e.GetFrom(), errUnknown)
}

// decodeRaft reads a raft message out of an envelope that checkEnvelope accepted. raft panics on some
// messages that no sound peer sends; those are refused here.
func decodeRaft(e *duoflowv1.PeerEnvelope) (*pb.Message, error) {
	m := &pb.Message{}
	if err := proto.Unmarshal(e.GetRaft(), m); err != nil {
		return nil, fmt.Errorf("%w: raft message: %w", errEnvelope, err)
	}
	if m.GetFrom() != e.GetFrom() || m.GetTo() != e.GetTo() {
		return nil, fmt.Errorf("%w: raft message from %x to %x in an envelope from %x to %x",
			errEnvelope, m.GetFrom(), m.GetTo(), e.GetFrom(), e.GetTo())
	}
	if err := checkTerm(m); err != nil {
		return nil, err
	}
	switch m.GetType() {
	case pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgTimeoutNow:
		return m, nil
	case pb.MsgHeartbeat, pb.MsgHeartbeatResp:
		if n := len(m.GetContext()); n > 0 && n != replica.RequestBytes { // it counts reads; a leader panics on a short one
			return nil, fmt.Errorf("%w: %s with a context of %d bytes", errEnvelope, m.GetType(), n)
		}
		return m, nil
	case pb.MsgReadIndex, pb.MsgReadIndexResp:
		return m, checkRead(m)
	case pb.MsgApp:
		return m, checkEntries(m)
	case pb.MsgProp:
		return m, checkProposal(m)
	case pb.MsgSnap:
		if raft.IsEmptySnap(m.GetSnapshot()) {
			return nil, fmt.Errorf("%w: snapshot message without a snapshot", errEnvelope)
		}
		return m, nil
	default:
		return nil, fmt.Errorf("%w: raft message of type %s", errEnvelope, m.GetType())
	}
}

// maxTerm is far beyond any term that is reached by elections. What comes with a higher one is damaged, and taking it
// over could not be undone.
const maxTerm = 1 << 48

// checkTerm wants a term on everything but a proposal and a request to read, whose senders lead in none.
func checkTerm(m *pb.Message) error {
	asks := m.GetType() == pb.MsgProp || m.GetType() == pb.MsgReadIndex
	if (m.GetTerm() == 0) != asks || m.GetTerm() > maxTerm {
		return fmt.Errorf("%w: %s of term %d", errEnvelope, m.GetType(), m.GetTerm())
	}
	return nil
}

// checkRead wants the one number that names a read.
func checkRead(m *pb.Message) error {
	if entries := m.GetEntries(); len(entries) != 1 || len(entries[0].GetData()) != replica.RequestBytes {
		return fmt.Errorf("%w: %s without the number of a read", errEnvelope, m.GetType())
	}
	return nil
}

// checkEntries wants the entries of a MsgApp to follow each other and the index they are sent for, and to be of no later
// term than that of their sender.
func checkEntries(m *pb.Message) error {
	for i, entry := range m.GetEntries() {
		want, term := m.GetIndex()+1+uint64(i), entry.GetTerm()
		if entry.GetIndex() != want || term == 0 || term > m.GetTerm() {
			return fmt.Errorf("%w: entry of index %d term %d where index %d belongs",
				errEnvelope, entry.GetIndex(), entry.GetTerm(), want)
		}
	}
	return nil
}

// checkProposal wants at least one entry, and no change of configuration: peers do not propose those.
func checkProposal(m *pb.Message) error {
	if len(m.GetEntries()) == 0 {
		return fmt.Errorf("%w: empty proposal", errEnvelope)
	}
	for _, entry := range m.GetEntries() {
		if entry.GetType() != pb.EntryNormal || len(entry.GetData()) < commandHeader {
			return fmt.Errorf("%w: proposal of type %s with %d bytes", errEnvelope, entry.GetType(), len(entry.GetData()))
		}
	}
	return nil
}
