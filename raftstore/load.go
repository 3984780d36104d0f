package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/replica"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// ErrForeignDir is returned by Run for a data directory of another cluster or node, or of other voters.
var ErrForeignDir = errors.New("data directory belongs to somebody else")

// ErrRemoved is returned by Run for a data directory of a node that was removed from the cluster.
var ErrRemoved = errors.New("this node was removed from the cluster")

// load reads and checks the whole file.
func load(db *bbolt.DB, who owner) (memory *replica.Memory, seen found, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketState, bucketLog} {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: bucket %s is missing", errRecord, name)
			}
		}
		life, err := who.check(tx)
		if err != nil {
			return err
		}
		snapshot, hard := &pb.Snapshot{}, &pb.HardState{}
		if err := getMessage(tx, keySnapshot, snapshot); err != nil {
			return err
		}
		if err := who.checkMembers(snapshot); err != nil {
			return err
		}
		if err := getMessage(tx, keyHard, hard); err != nil {
			return err
		}
		entries, err := loadLog(tx)
		if err != nil {
			return err
		}
		if memory, err = replica.NewMemory(snapshot, hard, entries); err != nil {
			return err
		}
		seen = found{
			term: hard.GetTerm(), vote: hard.GetVote(), life: life,
			tx: uint64(tx.ID()), marked: tx.Bucket(bucketMeta).Get(keySidecar) != nil,
		}
		seen.last, err = memory.LastIndex()
		return err
	})
	return memory, seen, err
}

// check compares the owner that the file names with this one, and tells of which life it is.
func (who owner) check(tx *bbolt.Tx) (life Life, err error) {
	for _, fact := range []struct {
		key        []byte
		what, want string
	}{
		{keyFormat, "format", diskFormat},
		{keyCluster, "cluster", who.cluster},
		{keyNode, "node", who.node},
	} {
		got, err := get(tx, bucketMeta, fact.key)
		if err != nil {
			return Life{}, err
		}
		same := string(got) == fact.want
		if bytes.Equal(fact.key, keyCluster) {
			life, same = lifeIn(who.cluster, string(got))
		}
		if !same {
			return Life{}, fmt.Errorf("%w: its %s is %q, this node's is %q; set data_dir to this node's own "+
				"directory, or move this one away to start empty", ErrForeignDir, fact.what, got, fact.want)
		}
	}
	return life, nil
}

// checkMembers looks for this node among the members that the log has. As long as it has none of its own they are those that the group
// was made of, and the configuration must name the same.
func (who owner) checkMembers(snapshot *pb.Snapshot) error {
	list, _, logged, err := roster.Unwrap(snapshot.GetData())
	switch {
	case err != nil:
		return err
	case logged && list.WasRemoved(who.self):
		return fmt.Errorf("%w: its data directory says so; a node that is to take its place needs another name and an empty directory", ErrRemoved)
	case logged || len(snapshot.GetMetadata().GetConfState().GetVoters()) == 0: // or a Blank that nobody has added yet
		return nil
	case who.join:
		return replica.ErrFounder
	}
	got := slices.Sorted(slices.Values(snapshot.GetMetadata().GetConfState().GetVoters()))
	want := slices.Sorted(slices.Values(who.voters))
	if who.voters != nil && !slices.Equal(got, want) {
		return fmt.Errorf("%w: its voters are %x, the configuration names %x; members are changed with `duoctl member` while the cluster "+
			"runs: start this node with those of before, it learns of a change from the others. To make the cluster anew stop every node, "+
			"move every data directory away and start all with the same nodes", ErrForeignDir, got, want)
	}
	return nil
}

// loadLog reads every entry. That an entry sits under its own index is part of its checksum.
func loadLog(tx *bbolt.Tx) ([]*pb.Entry, error) {
	var entries []*pb.Entry
	err := tx.Bucket(bucketLog).ForEach(func(key, record []byte) error {
		payload, err := decodeRecord(bucketLog, key, record)
		if err != nil {
			return err
		}
		entry := &pb.Entry{}
		if err := proto.Unmarshal(payload, entry); err != nil {
			return fmt.Errorf("decode %s/%s: %w", bucketLog, keyText(key), err)
		}
		if len(key) != 8 || binary.BigEndian.Uint64(key) != entry.GetIndex() {
			return fmt.Errorf("%w %s/%s: holds index %d", errRecord, bucketLog, keyText(key), entry.GetIndex())
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// getMessage reads one message of bucket state.
func getMessage(tx *bbolt.Tx, key []byte, m proto.Message) error {
	payload, err := get(tx, bucketState, key)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(payload, m); err != nil {
		return fmt.Errorf("decode %s/%s: %w", bucketState, keyText(key), err)
	}
	return nil
}

// get reads one record that must exist.
func get(tx *bbolt.Tx, bucket, key []byte) ([]byte, error) {
	record := tx.Bucket(bucket).Get(key)
	if record == nil {
		return nil, fmt.Errorf("%w %s/%s: missing", errRecord, bucket, keyText(key))
	}
	return decodeRecord(bucket, key, record)
}
