package raftstore

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/replica"
)

// seal puts a raft message into an envelope from 2 to 1.
func seal(t testing.TB, m *pb.Message) *duoflowv1.PeerEnvelope {
	t.Helper()
	m.From, m.To = new(uint64(2)), new(uint64(1))
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &duoflowv1.PeerEnvelope{
		Cluster: "test", From: 2, To: 1, Payload: &duoflowv1.PeerEnvelope_Raft{Raft: payload},
	}
}

func TestDecodeRaftRefuses(t *testing.T) {
	entry := &pb.Entry{Index: new(uint64(8)), Term: new(uint64(2)), Data: []byte("12345678")}
	change := &pb.Entry{Type: pb.EntryConfChange.Enum(), Data: []byte("12345678")}
	one := func(kind pb.MessageType) *pb.Message { return &pb.Message{Type: kind.Enum(), Term: new(uint64(1))} }
	for name, m := range map[string]*pb.Message{
		"no term":            {Type: pb.MsgVote.Enum()},
		"last term":          {Type: pb.MsgVote.Enum(), Term: new(uint64(math.MaxUint64))},
		"proposal of a term": {Type: pb.MsgProp.Enum(), Term: new(uint64(2)), Entries: []*pb.Entry{{Data: []byte("12345678")}}},
		"entry from ahead":   {Type: pb.MsgApp.Enum(), Term: new(uint64(1)), Index: new(uint64(7)), Entries: []*pb.Entry{entry}},
		"local type":         one(pb.MsgHup),
		"read index":         one(pb.MsgReadIndex),
		"empty proposal":     {Type: pb.MsgProp.Enum()},
		"short proposal":     {Type: pb.MsgProp.Enum(), Entries: []*pb.Entry{{Data: []byte("short")}}},
		"change of members":  {Type: pb.MsgProp.Enum(), Entries: []*pb.Entry{change}},
		"gap in entries":     {Type: pb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(uint64(6)), Entries: []*pb.Entry{entry}},
		"snapshot with none": one(pb.MsgSnap),
		"read of no number":  {Type: pb.MsgReadIndex.Enum()},
		"read of two":        {Type: pb.MsgReadIndex.Enum(), Entries: []*pb.Entry{{Data: []byte("12345678")}, {Data: []byte("12345678")}}},
		"short answer":       {Type: pb.MsgReadIndexResp.Enum(), Term: new(uint64(1)), Entries: []*pb.Entry{{Data: []byte("1234567")}}},
		"note of a reader":   {Type: pb.MsgHeartbeatResp.Enum(), Term: new(uint64(1)), Context: []byte("x")},
	} {
		if _, err := decodeRaft(seal(t, m)); !errors.Is(err, errEnvelope) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	sound := seal(t, &pb.Message{Type: pb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(uint64(7)), Entries: []*pb.Entry{entry}})
	if _, err := decodeRaft(sound); err != nil {
		t.Errorf("sound message: %v", err)
	}
	sound.From = 3
	if _, err := decodeRaft(sound); !errors.Is(err, errEnvelope) {
		t.Errorf("foreign message: got %v", err)
	}
}

func TestCheckEnvelope(t *testing.T) {
	cfg := Config{Cluster: "test", Self: 1, Peers: []Peer{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}}}
	cfg.fill()
	for name, e := range map[string]*duoflowv1.PeerEnvelope{
		"cluster":  {Cluster: "other", From: 2, To: 1},
		"receiver": {Cluster: "test", From: 2, To: 2},
		"twin":     {Cluster: "test", From: 1, To: 1},
		"stranger": {Cluster: "test", From: 9, To: 1},
	} {
		if err := cfg.checkEnvelope(e); !errors.Is(err, errEnvelope) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := cfg.checkEnvelope(&duoflowv1.PeerEnvelope{Cluster: "test", From: 2, To: 1}); err != nil {
		t.Error(err)
	}
}

// FuzzEnvelope: bytes of the network must lead to a message or an error. A message that is let
// through must not make raft panic on its form; a fresh replica takes it, and a leader.
func FuzzEnvelope(f *testing.F) {
	cfg := Config{Cluster: "test", Self: 1, Peers: []Peer{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}}
	cfg.fill()
	for _, kind := range []pb.MessageType{pb.MsgVote, pb.MsgPreVote, pb.MsgApp, pb.MsgProp, pb.MsgHeartbeat,
		pb.MsgSnap, pb.MsgAppResp, pb.MsgVoteResp, pb.MsgPreVoteResp, pb.MsgHeartbeatResp, pb.MsgTimeoutNow,
		pb.MsgReadIndex, pb.MsgReadIndexResp} {
		m := &pb.Message{Type: kind.Enum(), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1)),
			Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(2)), Data: []byte("12345678")}},
			Snapshot: &pb.Snapshot{Data: []byte("[]"), Metadata: &pb.SnapshotMetadata{
				Index: new(uint64(7)), Term: new(uint64(2)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}}}
		if kind == pb.MsgProp || kind == pb.MsgReadIndex {
			m.Term = nil
		}
		if kind == pb.MsgHeartbeat || kind == pb.MsgHeartbeatResp {
			m.Context = []byte("12345678")
		}
		payload, err := proto.Marshal(seal(f, m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		e := &duoflowv1.PeerEnvelope{}
		if proto.Unmarshal(wire, e) != nil || cfg.checkEnvelope(e) != nil {
			return
		}
		m, err := decodeRaft(e)
		if err != nil {
			return
		}
		if m.GetType() == pb.MsgSnap {
			return // the machine's own decoder is the caller's to fuzz
		}
		face(t, m, false)
		face(t, m, true)
	})
}

// TestNoFormOfAMessagePanics: what a sound sender could never have sent, but is not refused, does no harm.
func TestNoFormOfAMessagePanics(t *testing.T) {
	kinds := []pb.MessageType{pb.MsgVote, pb.MsgPreVote, pb.MsgApp, pb.MsgProp, pb.MsgHeartbeat, pb.MsgAppResp,
		pb.MsgVoteResp, pb.MsgPreVoteResp, pb.MsgHeartbeatResp, pb.MsgTimeoutNow, pb.MsgReadIndex, pb.MsgReadIndexResp}
	numbers := []uint64{0, 1, 2, 3, 4, 5, 1 << 20, maxTerm, 1 << 62, math.MaxUint64}
	taken := 0
	for seed := range uint64(20_000) {
		dice := rand.New(rand.NewPCG(seed, 0))
		number := func() *uint64 { return new(numbers[dice.IntN(len(numbers))]) }
		m := &pb.Message{
			Type: kinds[dice.IntN(len(kinds))].Enum(), Term: number(), LogTerm: number(), Index: number(),
			Commit: number(), RejectHint: number(), Reject: new(dice.IntN(2) == 0),
		}
		if dice.IntN(2) == 0 {
			m.Context = []byte("12345678")
		}
		for i := range dice.IntN(3) {
			m.Entries = append(m.Entries, &pb.Entry{
				Index: new(m.GetIndex() + 1 + uint64(i)), Term: number(), Data: []byte("12345678"),
			})
		}
		if m, err := decodeRaft(seal(t, m)); err == nil {
			taken++
			face(t, m, dice.IntN(2) == 0)
		}
	}
	if taken < 1000 {
		t.Errorf("only %d messages were taken", taken)
	}
}

// face gives a message to a replica, which may lead, and lets what comes of it take its course.
func face(t *testing.T, m *pb.Message, leads bool) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%v, leader %v: %v", m, leads, p)
		}
	}()
	r := lonely(t)
	if leads {
		elect(t, r)
	}
	_ = r.Step(m)
	flush(t, r)
	for range 25 {
		r.Tick()
		flush(t, r)
	}
}

// lonely is replica 1 of three, whose peer 2 is new.
func lonely(t *testing.T) *replica.Replica {
	t.Helper()
	snapshot, hard := replica.Seed([]uint64{1, 2, 3})
	memory, err := replica.NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := replica.New(replica.Config{ID: 1, Storage: memory, Machine: &list{},
		HeartbeatTicks: 1, ElectionTicks: 10, SnapshotEvery: 100})
	if err != nil {
		t.Fatal(err)
	}
	r.PeerFresh(2, true)
	return r
}

// elect makes it leader with the votes of peer 2, and gives it a command that nobody else has.
func elect(t *testing.T, r *replica.Replica) {
	t.Helper()
	r.Link(2, true)
	answers := map[pb.MessageType]pb.MessageType{pb.MsgPreVote: pb.MsgPreVoteResp, pb.MsgVote: pb.MsgVoteResp}
	for range 100 {
		for _, m := range flush(t, r) {
			if kind, ok := answers[m.GetType()]; ok && m.GetTo() == 2 {
				_ = r.Step(&pb.Message{Type: kind.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: m.Term})
			}
		}
		if r.State().Self {
			_ = r.Propose([]byte("12345678")) // only for what comes next: it is not committed
			flush(t, r)
			return
		}
		r.Tick()
	}
	t.Fatal("it does not lead")
}

// flush carries out what it has ready, with a disk that takes no time.
func flush(t *testing.T, r *replica.Replica) (messages []*pb.Message) {
	t.Helper()
	for {
		out, err := r.Flush()
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, out.Messages...)
		if out.Save == nil {
			return messages
		}
		if err := r.Saved(); err != nil {
			t.Fatal(err)
		}
	}
}
