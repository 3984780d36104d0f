package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/raftstore/replica"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// Beginning is what a life of a cluster begins with. It has to be the same on every node, to the byte.
type Beginning struct {
	Life Life // not the first
	// Index and Term are where raft's log begins: above those of an empty node, which then gets the state from a leader.
	Index, Term uint64
	State       []byte // what StateMachine.Snapshot would have returned; the members are put before it
}

// ErrDirUsed refuses to make a data directory where there is one.
var ErrDirUsed = errors.New("there is a data directory already")

// Found makes the data directory cfg.Dir of a node for the beginning of a life, whole or not at all. Of cfg it looks at Cluster,
// Self, Peers, PreferredLeader and Dir: its Peers are the members with which the life begins. Nothing may be running there. With replace the directory that is there is moved away, and Found tells where
// to; else it is refused with ErrDirUsed.
func Found(cfg Config, b Beginning, replace bool) (moved string, err error) {
	cfg.fill()
	if err := errors.Join(cfg.validatePeers(), b.validate()); err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	used, err := inUse(cfg.Dir)
	switch {
	case err != nil:
		return "", fmt.Errorf("look at data directory: %w", err)
	case used && !replace:
		return "", fmt.Errorf("%w: %s; move it away, if it is of no use any more", ErrDirUsed, cfg.Dir)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	list, err := cfg.charter()
	if err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	draft, err := os.MkdirTemp(filepath.Dir(cfg.Dir), filepath.Base(cfg.Dir)+".new-")
	if err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	if err := b.write(draft, cfg.owner(), list); err != nil {
		return "", errors.Join(fmt.Errorf("make data directory: %w", err), os.RemoveAll(draft))
	}
	if used {
		moved = cfg.Dir + ".before-" + b.Life.String()
	}
	if err := exchange(draft, cfg.Dir, used); err != nil {
		return "", errors.Join(fmt.Errorf("put data directory in place: %w", err), os.RemoveAll(draft))
	}
	if used { // draft is the old one now
		err = os.Rename(draft, moved)
	}
	if err = errors.Join(err, syncDir(filepath.Dir(cfg.Dir))); err != nil {
		return moved, fmt.Errorf("put data directory in place: %w", err)
	}
	return moved, nil
}

func (b Beginning) validate() error {
	if b.Life == (Life{}) || b.Index <= replica.SeedIndex || b.Term <= replica.SeedTerm || len(b.State) == 0 {
		return fmt.Errorf("a life cannot begin as %s at index %d of term %d with %d bytes", b.Life, b.Index, b.Term, len(b.State))
	}
	return nil
}

// inUse says whether a directory has something in it.
func inUse(dir string) (bool, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(names) > 0, err
}

// charter is the roster that a life begins with: that of the configuration, and nobody was removed in it yet. It is in the log from the
// start, so a node whose configuration says Join, because it joined in a life before, is as good a founder as any other.
func (c *Config) charter() (Roster, error) {
	list := c.founding()
	if _, err := roster.Decode(list.Encode()); err != nil {
		return Roster{}, err
	}
	return list, nil
}

// write makes both files. A node that starts with them is in no doubt: nothing was promised in this life.
func (b Beginning) write(dir string, who owner, list Roster) error {
	snapshot, hard := replica.Seed(who.voters)
	snapshot.Data, snapshot.Metadata.Index, snapshot.Metadata.Term = list.Wrap(b.State), new(b.Index), new(b.Term)
	hard = &pb.HardState{Term: new(b.Term), Vote: hard.Vote, Commit: new(b.Index)}
	db, err := openFile(filepath.Join(dir, diskFile))
	if err != nil {
		return err
	}
	d := &disk{db: db, path: filepath.Join(dir, diskFile), who: who, founded: true, last: b.Index}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			who.seed(tx), putLife(tx, who.cluster, b.Life),
			putMessage(tx, bucketState, keySnapshot, snapshot), putMessage(tx, bucketState, keyHard, hard),
		)
	})
	if err == nil {
		d.side, _ = openSidecar(dir) // there is none yet
		err = d.note(hard, "", b.Index)
	}
	return errors.Join(err, d.Close(), syncDir(dir))
}

// exchange puts a directory in the place of another, at once; swap wants the other to be kept under the first one's name, else there is none, or it
// is empty.
func exchange(draft, dir string, swap bool) error {
	if swap {
		return unix.Renameat2(unix.AT_FDCWD, draft, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	}
	return unix.Rename(draft, dir) // os.Rename refuses an empty directory that is there
}
