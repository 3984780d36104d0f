package replica

import (
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestBatchesJoin: any row of batches, written as one, leaves what they leave one by one.
func TestBatchesJoin(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		oneByOne, joined := seeded(t), seeded(t)
		for range 10 {
			var all Batch
			for range 1 + random.IntN(5) {
				b := randomBatch(t, random, oneByOne)
				if err := oneByOne.Save(&b); err != nil {
					t.Fatal(err)
				}
				all.add(b)
			}
			if err := joined.Save(&all); err != nil {
				t.Fatal(err)
			}
			same(t, oneByOne, joined)
		}
	}
}

// seeded is the memory of a new node.
func seeded(t *testing.T) *Memory {
	t.Helper()
	snapshot, hard := Seed(ids)
	m, err := NewMemory(snapshot, hard, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomBatch is one legal write: it replaces nothing that is committed.
func randomBatch(t *testing.T, random *rand.Rand, m *Memory) Batch {
	t.Helper()
	commit, term := m.Hard().GetCommit(), m.Hard().GetTerm()
	last, err := m.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	at := snapshot.GetMetadata().GetIndex()
	hard := func(term, commit uint64) *pb.HardState {
		return &pb.HardState{Term: new(term), Vote: new(random.Uint64N(3)), Commit: new(commit)}
	}
	switch random.IntN(6) {
	case 0, 1, 2:
		return Batch{Entries: randomEntries(random, commit+1+random.Uint64N(last-commit+1), term)}
	case 3:
		return Batch{Hard: hard(term+random.Uint64N(2), commit+random.Uint64N(last-commit+1))}
	case 4:
		if commit > at {
			return Batch{Compact: &Compaction{Snapshot: snapshotAt(commit, term), Through: random.Uint64N(commit)}}
		}
	case 5:
		if random.IntN(3) == 0 {
			at := last + 1 + random.Uint64N(10)
			return Batch{Hard: hard(term, at), Snapshot: snapshotAt(at, term)}
		}
	}
	return Batch{Hard: hard(term+1, commit)}
}

func randomEntries(random *rand.Rand, from, term uint64) []*pb.Entry {
	var entries []*pb.Entry
	for i := range 1 + random.Uint64N(5) {
		entries = append(entries, &pb.Entry{Index: new(from + i), Term: new(term), Data: []byte{byte(random.Int())}})
	}
	return entries
}

func snapshotAt(index, term uint64) *pb.Snapshot {
	snapshot, _ := Seed(ids)
	snapshot.Metadata.Index, snapshot.Metadata.Term = new(index), new(term)
	snapshot.Data = []byte{byte(index)}
	return snapshot
}

// same compares all that two memories hold.
func same(t *testing.T, want, got *Memory) {
	t.Helper()
	wantSnapshot, wantHard, wantLog := stored(t, want)
	gotSnapshot, gotHard, gotLog := stored(t, got)
	if !proto.Equal(wantSnapshot, gotSnapshot) || !proto.Equal(wantHard, gotHard) || len(wantLog) != len(gotLog) {
		t.Fatalf("joined: %v %v and %d entries, want %v %v and %d",
			gotSnapshot, gotHard, len(gotLog), wantSnapshot, wantHard, len(wantLog))
	}
	for i := range wantLog {
		if !proto.Equal(wantLog[i], gotLog[i]) {
			t.Fatalf("joined: entry %v, want %v", gotLog[i], wantLog[i])
		}
	}
}
