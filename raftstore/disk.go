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
	keySidecar  = []byte("sidecar") // there is one, so it may not be missing
	keyHard     = []byte("hard")
	keySnapshot = []byte("snapshot")
)

// owner is what a data directory belongs to.
type owner struct {
	cluster string
	node    string   // name and raft id, see Config.owner
	self    uint64   // the raft id alone
	voters  []uint64 // nil = whoever they are
	join    bool     // see Config.Join
	// belongs is told which life the directory is of; nil = nobody else wants to know.
	belongs *belonging
}

// disk is the bbolt file of a store and its sidecar. They are read once, when they are opened; each
// write is one transaction.
type disk struct {
	db     *bbolt.DB
	path   string
	who    owner
	side   *sidecar
	took   *window
	memory *replica.Memory // what was found
	last   uint64          // index at which the log ends
	noted  bool            // the sidecar is of this life
	doubt  string          // why the files may have forgotten something; "" = they have not
	// founded is replica.Config.Founded, as of the newest Save.
	founded bool
}

// openDisk opens or makes the files in dir. It refuses those of somebody else.
func openDisk(dir string, who owner, took *window) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, advise(fmt.Errorf("make data directory: %w", err), "")
	}
	if who.belongs == nil {
		who.belongs = &belonging{cluster: who.cluster}
	}
	d := &disk{path: filepath.Join(dir, diskFile), who: who, took: took}
	made, err := d.make(dir)
	if err != nil {
		return nil, advise(err, "")
	}
	if d.doubt, err = metaDoubt(d.path); err != nil {
		return nil, err
	}
	if err := checkPages(d.path); err != nil {
		return nil, advise(fmt.Errorf("%w; %s", err, adviceDamaged), "")
	}
	if d.db, err = openFile(d.path); err != nil {
		return nil, advise(err, "")
	}
	if err := d.load(dir, made); err != nil {
		return nil, errors.Join(advise(err, ""), d.Close())
	}
	return d, nil
}

// make makes the bbolt file when it is missing.
func (d *disk) make(dir string) (made bool, err error) {
	if _, err := os.Stat(d.path); err == nil {
		return false, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("look for %s: %w", d.path, err)
	}
	if err := createFile(dir, d.who); err != nil {
		return false, fmt.Errorf("create %s: %w", d.path, err)
	}
	return true, nil
}

// load reads both files, compares them and, if there is no doubt, writes to both: an older copy of
// the bbolt file that is put back later is then known by the number of its newest transaction. With a
// doubt they stay as they are, as they are what shows it; the first Save replaces the sidecar.
func (d *disk) load(dir string, made bool) error {
	memory, seen, err := load(d.db, d.who)
	if err != nil && !errors.Is(err, ErrForeignDir) && !errors.Is(err, ErrRemoved) && !errors.Is(err, replica.ErrFounder) {
		err = fmt.Errorf("%w; %s", err, adviceDamaged)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", d.path, err)
	}
	seen.made, d.memory, d.last = made, memory, seen.last
	side, problem := openSidecar(dir)
	d.side = side
	if problem != nil && !errors.Is(problem, os.ErrNotExist) && !errors.Is(problem, errSidecar) {
		return problem
	}
	if problem == nil {
		if err := d.who.checkMark(side.found); err != nil {
			return fmt.Errorf("load %s: %w", side.path, err)
		}
	}
	if d.doubt == "" {
		d.doubt = judge(seen, side.found, problem)
	}
	d.founded = problem == nil && !made && side.found.Founded
	d.who.belongs.found(seen.life, seen.empty() && !d.founded)
	hard := side.found.newest(memory.Hard())
	if err := memory.Save(&replica.Batch{Hard: hard}); err != nil {
		return err
	}
	if d.doubt != "" {
		return side.retire()
	}
	return d.start(hard)
}

// start writes the first transaction of a life, and notes it in the sidecar.
func (d *disk) start(hard *pb.HardState) error {
	err := d.db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			put(tx, bucketMeta, keySidecar, []byte(sidecarFile)),
			putMessage(tx, bucketState, keyHard, hard),
		)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	return d.note(hard, "", d.last)
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
	if err == nil {
		err = errors.Join(db.Update(who.seed), db.Close())
	}
	if err == nil {
		err = os.Rename(draft, filepath.Join(dir, diskFile))
	}
	if err != nil {
		_ = os.Remove(draft) // it may never have come to be
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
	if who.join {
		snapshot, hard = replica.Blank()
	}
	return errors.Join(
		put(tx, bucketMeta, keyFormat, []byte(diskFormat)),
		put(tx, bucketMeta, keyCluster, []byte(who.cluster)),
		put(tx, bucketMeta, keyNode, []byte(who.node)),
		put(tx, bucketMeta, keySidecar, []byte(sidecarFile)),
		putMessage(tx, bucketState, keySnapshot, snapshot),
		putMessage(tx, bucketState, keyHard, hard),
	)
}

// Save makes a batch durable, in one transaction. The sidecar comes first: a vote, or a doubt, must be
// there before anything that rests on it is.
func (d *disk) Save(b *replica.Batch) error {
	d.took.begin()
	defer d.took.end()
	d.founded = d.founded || b.Doubt == ""
	if err := d.note(b.Hard, b.Doubt, d.last); err != nil {
		return advise(err, adviceElse)
	}
	// gofail: var raftBetweenFiles struct{}
	life, told := d.who.belongs.settle()
	err := d.db.Update(func(tx *bbolt.Tx) error {
		if told {
			if err := putLife(tx, d.who.cluster, life); err != nil {
				return err
			}
		}
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
		return advise(fmt.Errorf("write %s: %w", d.path, err), adviceElse)
	}
	if n := len(b.Entries); n > 0 {
		d.last = b.Entries[n-1].GetIndex()
	} else if b.Snapshot != nil {
		d.last = b.Snapshot.GetMetadata().GetIndex()
	}
	return nil
}

// note writes the sidecar, unless it says the same already. last is where the log ends in the newest transaction, which is the one
// that judgeVotes finds if the next does not end.
func (d *disk) note(hard *pb.HardState, doubt string, last uint64) error {
	was := d.side.found
	same := was.Term == hard.GetTerm() && was.Vote == hard.GetVote() && was.Doubt == doubt && was.Founded == d.founded
	if same && d.side.file != nil && d.noted {
		return nil
	}
	m := mark{
		Cluster: d.who.cluster, Node: d.who.node, Doubt: doubt, Founded: d.founded,
		Term: hard.GetTerm(), Vote: hard.GetVote(), Last: last,
	}
	err := d.db.View(func(tx *bbolt.Tx) error { m.Tx = uint64(tx.ID()); return nil })
	if err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	d.noted = true
	return d.side.write(m)
}

// Close releases the files.
func (d *disk) Close() error {
	var err error
	if d.side != nil {
		err = d.side.close()
	}
	if err = errors.Join(err, d.db.Close()); err != nil {
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
