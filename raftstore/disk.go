package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/raftstore/replica"
)

// The one file of a store, and what is in it. Keys of bucket log are indexes (see indexKey); the
// other buckets have few, named keys.
const (
	diskFile    = "raft.db"
	diskFormat  = "1"
	lockTimeout = time.Second // for another process that holds the file
)

var (
	bucketMeta  = []byte("meta")  // whose file this is: format, cluster, node
	bucketState = []byte("state") // hard, snapshot
	bucketLog   = []byte("log")

	keyFormat   = []byte("format")
	keyCluster  = []byte("cluster")
	keyNode     = []byte("node")
	keyHard     = []byte("hard")
	keySnapshot = []byte("snapshot")
)

// owner is what a data directory belongs to.
type owner struct {
	cluster string
	node    string // name and raft id, see Config.owner
	voters  []uint64
}

// disk is the bbolt file of a store. It is read once, when it is opened; each write is one transaction.
type disk struct {
	db     *bbolt.DB
	path   string
	took   *window
	memory *replica.Memory // what was found
	doubt  string          // why the file may have forgotten something; "" = it has not
}

// openDisk opens or makes the file in dir. It refuses one that belongs to somebody else.
func openDisk(dir string, who owner, took *window) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(dir, diskFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := createFile(dir, who); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("look for %s: %w", path, err)
	}
	doubt, err := metaDoubt(path)
	if err != nil {
		return nil, err
	}
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	memory, err := load(db, who)
	if errors.Is(err, errRecord) {
		err = fmt.Errorf("%w; move the data directory away: the node then starts empty and catches up before it votes", err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load %s: %w", path, err), db.Close())
	}
	return &disk{db: db, path: path, took: took, memory: memory, doubt: doubt}, nil
}

// openFile opens a bbolt file.
func openFile(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another process holds it; stop that one first: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// createFile makes the file under another name and moves it into place when it is complete: bbolt's
// own first initialisation cannot be told from damage if it is interrupted.
func createFile(dir string, who owner) error {
	draft := filepath.Join(dir, diskFile+".new")
	if err := os.Remove(draft); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := openFile(draft)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(who.seed), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, filepath.Join(dir, diskFile)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// seed writes the first content of a new file.
func (who owner) seed(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketState, bucketLog} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	snapshot, hard := replica.Seed(who.voters)
	return errors.Join(
		put(tx, bucketMeta, keyFormat, []byte(diskFormat)),
		put(tx, bucketMeta, keyCluster, []byte(who.cluster)),
		put(tx, bucketMeta, keyNode, []byte(who.node)),
		putMessage(tx, bucketState, keySnapshot, snapshot),
		putMessage(tx, bucketState, keyHard, hard),
	)
}

// Save makes a batch durable, in one transaction.
func (d *disk) Save(b *replica.Batch) error {
	d.took.begin()
	defer d.took.end()
	err := d.db.Update(func(tx *bbolt.Tx) error {
		if b.Snapshot != nil {
			if err := replaceAll(tx, b.Snapshot); err != nil {
				return err
			}
		}
		if err := appendLog(tx, b.Entries); err != nil {
			return err
		}
		if b.Compact != nil {
			if err := compact(tx, b.Compact); err != nil {
				return err
			}
		}
		return putMessage(tx, bucketState, keyHard, b.Hard)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	return nil
}

// Close releases the file.
func (d *disk) Close() error {
	if err := d.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// replaceAll makes a leader's snapshot all there is.
func replaceAll(tx *bbolt.Tx, snapshot *pb.Snapshot) error {
	if err := tx.DeleteBucket(bucketLog); err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketLog); err != nil {
		return err
	}
	return putMessage(tx, bucketState, keySnapshot, snapshot)
}

// appendLog writes entries in place of all of the same or a higher index.
func appendLog(tx *bbolt.Tx, entries []*pb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	after := indexKey(entries[len(entries)-1].GetIndex() + 1)
	cursor := tx.Bucket(bucketLog).Cursor()
	for key, _ := cursor.Seek(after); key != nil; key, _ = cursor.Seek(after) {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	for _, entry := range entries {
		if err := putMessage(tx, bucketLog, indexKey(entry.GetIndex()), entry); err != nil {
			return err
		}
	}
	return nil
}

// compact writes a snapshot and drops the entries before Through; that one stays as the anchor whose
// term raft may ask for.
func compact(tx *bbolt.Tx, c *replica.Compaction) error {
	cursor := tx.Bucket(bucketLog).Cursor()
	limit := indexKey(c.Through)
	for key, _ := cursor.First(); key != nil && bytes.Compare(key, limit) < 0; key, _ = cursor.First() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return putMessage(tx, bucketState, keySnapshot, c.Snapshot)
}

// putMessage writes a protobuf message as one record.
func putMessage(tx *bbolt.Tx, bucket, key []byte, m proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s/%s: %w", bucket, keyText(key), err)
	}
	return put(tx, bucket, key, payload)
}

// put writes one record.
func put(tx *bbolt.Tx, bucket, key, payload []byte) error {
	if err := tx.Bucket(bucket).Put(key, encodeRecord(bucket, key, payload)); err != nil {
		return fmt.Errorf("put %s/%s: %w", bucket, keyText(key), err)
	}
	return nil
}
