package raftstore

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/replica"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// Remains is what a data directory holds, read without taking part in anything.
type Remains struct {
	Life Life
	// Snapshot is of StateMachine.Snapshot at index SnapshotAt; nil = the log begins with nothing.
	Snapshot   []byte
	SnapshotAt uint64
	// Members are those as of the log's end; without any when it has none of its own, and they are those of the configuration.
	Members Roster
	// Commands are all that come after the snapshot, also those after Commit: a majority may have agreed on them without this node
	// having heard of it.
	Commands []Command
	// Commit is up to where this node's disk knows that a majority has agreed, Last where its log ends, Term the newest one it knows.
	Commit, Last, Term uint64
	// Doubt is why the directory may have forgotten something; "" = it has not.
	Doubt string
}

// Command is one entry of the log.
type Command struct {
	Index uint64
	Data  []byte
}

// ErrRunning says that a process holds the data directory.
var ErrRunning = errors.New("a process holds the data directory")

// Salvage reads the data directory cfg.Dir of a node that is not running, and changes nothing. Of cfg it looks at Cluster, Self, Dir, and
// Peers for this node's name: the voters need not be the same any more. ErrForeignDir: it is of another cluster or node. ErrRemoved: of a node
// that was removed, so the others went on without it.
func Salvage(cfg Config) (Remains, error) {
	cfg.fill()
	who := cfg.owner()
	who.voters, who.join = nil, false
	path := filepath.Join(cfg.Dir, diskFile)
	doubt, err := metaDoubt(path)
	if err == nil {
		err = checkPages(path)
	}
	if err != nil {
		return Remains{}, fmt.Errorf("read data directory: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return Remains{}, fmt.Errorf("%w: %s", ErrRunning, cfg.Dir)
	}
	if err != nil {
		return Remains{}, fmt.Errorf("open %s: %w", path, err)
	}
	r, err := salvage(db, cfg.Dir, who)
	if doubt != "" {
		r.Doubt = doubt
	}
	return r, errors.Join(err, db.Close())
}

func salvage(db *bbolt.DB, dir string, who owner) (Remains, error) {
	memory, seen, err := load(db, who)
	if err != nil {
		return Remains{}, fmt.Errorf("load %s: %w", db.Path(), err)
	}
	side, problem := openSidecar(dir)
	if problem == nil {
		problem = side.close()
		if err := who.checkMark(side.found); err != nil {
			return Remains{}, fmt.Errorf("load %s: %w", side.path, err)
		}
	}
	if problem != nil && !errors.Is(problem, os.ErrNotExist) && !errors.Is(problem, errSidecar) {
		return Remains{}, problem
	}
	snapshot, err := memory.Snapshot()
	if err != nil {
		return Remains{}, fmt.Errorf("read snapshot: %w", err)
	}
	list, state, _, err := roster.Unwrap(snapshot.GetData())
	if err != nil {
		return Remains{}, fmt.Errorf("read snapshot: %w", err)
	}
	r := Remains{
		Life: seen.life, Members: list, Snapshot: state, SnapshotAt: snapshot.GetMetadata().GetIndex(),
		Commit: memory.Hard().GetCommit(), Last: seen.last, Term: max(seen.term, side.found.Term), Doubt: judge(seen, side.found, problem),
	}
	if r.Last > r.SnapshotAt {
		entries, err := memory.Entries(r.SnapshotAt+1, r.Last+1, math.MaxUint64)
		if err != nil {
			return Remains{}, fmt.Errorf("read log: %w", err)
		}
		r.Commands = commandsOf(entries)
		if list, changed, err := replica.RosterAfter(entries); err != nil {
			return Remains{}, fmt.Errorf("read log: %w", err)
		} else if changed {
			r.Members = list
		}
	}
	return r, nil
}

// commandsOf leaves out what is raft's own: a new leader's first entry, and changes of the voters.
func commandsOf(entries []*pb.Entry) []Command {
	var all []Command
	for _, e := range entries {
		if e.GetType() == pb.EntryNormal && len(e.GetData()) >= commandHeader {
			all = append(all, Command{Index: e.GetIndex(), Data: e.GetData()[commandHeader:]})
		}
	}
	return all
}
