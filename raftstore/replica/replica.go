package replica

import (
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/duoflow/duoflow/raftstore/roster"
)

// Errors of Propose. Both mean that the command is in no log and never will be.
var (
	ErrNoLeader = errors.New("no raft leader is known")
	ErrDropped  = errors.New("the raft leader refused the proposal")
)

// Limits of one replica. A lost message costs a resend, so small batches do no harm here: the whole
// replicated state is a few kilobytes.
const (
	maxMessageBytes     = 256 << 10 // of entries in one MsgApp
	maxInflightMessages = 64        // MsgApp under way to one follower
	maxUncommittedBytes = 16 << 20  // beyond this the leader drops proposals
)

// Machine is the replicated state machine. It is called from inside Flush only.
type Machine interface {
	// Apply takes the data of one committed entry; never called for raft's own empty entries.
	Apply(index uint64, data []byte)
	// Snapshot encodes the state as of the last applied entry.
	Snapshot() ([]byte, error)
	// Restore replaces the state by that of an earlier Snapshot.
	Restore(snapshot []byte) error
}

// Config describes one replica.
type Config struct {
	ID      uint64  // raft id of this node, not 0; a voter of the storage's ConfState unless that is empty
	Storage *Memory // what the disk holds, at least the seed; the replica keeps it up to date from here
	Machine Machine
	// HeartbeatTicks and ElectionTicks are raft's: a leader beats every HeartbeatTicks, a follower
	// campaigns after ElectionTicks to twice that without a leader. 0 < heartbeat < election.
	HeartbeatTicks, ElectionTicks int
	Preferred                     uint64 // who should lead when it can; 0 = nobody in particular. A roster of the log says it anew
	// Members are those of the configuration. They count until the log has members of its own.
	Members       roster.Roster
	SnapshotEvery uint64 // applied entries between snapshots, > 0
	KeepEntries   uint64 // entries kept behind a snapshot, for slow followers
	// Doubt says why the storage may have forgotten what it promised; "" = it has not. See Replica.Doubt.
	Doubt string
	// Founded says that a Batch without Doubt was saved here before: the storage is not new, even when its log is empty.
	Founded bool
	// Current tells that a Read is fulfilled; nil = nobody reads. It is called from inside Flush.
	Current func(request uint64)
	Logger  raft.Logger // nil discards all but panics
}

// Leadership is what a replica knows about who leads.
type Leadership struct {
	Term   uint64
	Leader uint64 // 0 = unknown
	Self   bool   // this replica leads
	Ready  bool   // Self, and the first entry of its own term is applied: its state is current
}

// State is a snapshot of the replica for status reports.
type State struct {
	Leadership
	Commit, Applied, Last uint64 // raft indexes
	Snapshot              uint64 // raft index of the newest snapshot
	Voters                []uint64
	Members               roster.Roster
	Logged                bool   // they are those of the log, not of the configuration
	Leaving               bool   // it was removed, as far as is known here, and still gives its vote
	Removed               bool   // this node was a member, and nobody needs its vote any more
	Doubt                 string // see Replica.Doubt
	Stuck                 bool   // a save has been under way for an election timeout or more
}

// Replica is one member of the raft group. It must be used from one goroutine at a time.
type Replica struct {
	cfg  Config
	node *raft.RawNode

	applied     uint64        // index of the last applied entry
	appliedTerm uint64        // and its term
	snapshot    uint64        // index of the newest snapshot in storage
	conf        *pb.ConfState // as of applied
	last        uint64        // index at which the log ends, saved or not
	commit      uint64        // as of the last Flush
	announced   Leadership    // what the last Flush that changed it returned
	changed     bool          // raft's state may not be what was announced
	snapshotDue bool          // the members have changed since the newest snapshot
	preferred   uint64        // who should lead when it can

	now    int64           // ticks since New
	linked map[uint64]bool // peers that can be reached
	hinted map[uint64]int64
	race   *race // campaign after a lost leader, nil when none
	out    Output

	reads []read // confirmed, and not applied that far

	flying  *write // the save under way, nil when none
	waiting write  // what comes after it

	members members
	removal removal
	handoff handoff
	doubt   doubt
	disk    disk
}

// New makes a replica from what its storage holds and restores the machine from the newest snapshot.
// Committed entries after that snapshot are applied by the first Flush.
func New(cfg Config) (*Replica, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, linked: map[uint64]bool{}, hinted: map[uint64]int64{}, changed: true}
	r.members.roster, r.preferred = cfg.Members, cfg.Preferred
	r.disk.peers, r.disk.lastSeen = map[uint64]uint64{}, map[uint64]int64{}
	r.handoff.wait = r.handoffWait()
	if err := r.load(); err != nil {
		return nil, err
	}
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              cfg.ElectionTicks,
		HeartbeatTick:             cfg.HeartbeatTicks,
		Storage:                   cfg.Storage,
		Applied:                   r.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  math.MaxUint64,
		MaxUncommittedEntriesSize: maxUncommittedBytes,
		MaxInflightMsgs:           maxInflightMessages,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		Logger:                    cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	r.node = node
	r.startDoubt()
	return r, nil
}

// validate checks what raft itself does not, and fills the logger.
func (c *Config) validate() error {
	if c.Logger == nil {
		c.Logger = discard{}
	}
	if c.Current == nil {
		c.Current = func(uint64) {}
	}
	switch {
	case c.Storage == nil || c.Machine == nil:
		return errors.New("replica needs a storage and a machine")
	case c.SnapshotEvery == 0:
		return errors.New("replica needs SnapshotEvery > 0")
	}
	return nil
}

// load reads the newest snapshot and gives it to the machine, unless it is the seed.
func (r *Replica) load() error {
	snapshot, err := r.cfg.Storage.Snapshot()
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	meta := snapshot.GetMetadata()
	r.applied, r.appliedTerm = meta.GetIndex(), meta.GetTerm()
	r.snapshot, r.conf = meta.GetIndex(), meta.GetConfState()
	if r.last, err = r.cfg.Storage.LastIndex(); err != nil {
		return fmt.Errorf("read last index: %w", err)
	}
	if meta.GetIndex() <= SeedIndex {
		return nil
	}
	return r.rebuild(snapshot)
}

// rebuild takes members and machine from a snapshot that is not the seed.
func (r *Replica) rebuild(snapshot *pb.Snapshot) error {
	data, err := r.unwrap(snapshot)
	if err != nil {
		return err
	}
	if err := r.cfg.Machine.Restore(data); err != nil {
		return fmt.Errorf("restore snapshot at index %d: %w", snapshot.GetMetadata().GetIndex(), err)
	}
	return nil
}

// Tick moves the replica's time on by one tick. The driver must not make up for ticks it missed: a
// burst of them looks like silence of the leader.
func (r *Replica) Tick() {
	r.now++
	// The tick of a follower does nothing but campaign.
	if r.announced.Self || (r.doubt.reason == "" && !r.disk.stuck && !r.lastVotes()) {
		r.node.Tick()
	}
	r.tickDisk()
	r.tickHandoff()
	r.tickMembers()
	r.tickRemoval()
}

// Step takes a message of a peer. An error means that the message was of no use; raft lives on.
func (r *Replica) Step(m *pb.Message) error {
	r.hearDisk(m)
	if m.GetType() == pb.MsgProp {
		return r.stepProposal(m)
	}
	if m = r.admit(m); m == nil {
		return nil
	}
	if err := r.node.Step(m); err != nil {
		return fmt.Errorf("step %s from %x: %w", m.GetType(), m.GetFrom(), err)
	}
	return nil
}

// dropped is the Context of an answer that gives back a proposal which is in no log. raft itself would say
// nothing, and who proposed would wait for as long as it has patience.
const dropped = "dropped"

// stepProposal takes a proposal that a peer has passed on. Who does not lead any more does not pass it
// on again: it would go out under the name of the first sender, which nobody accepts.
func (r *Replica) stepProposal(m *pb.Message) error {
	lead := r.leadership()
	if lead.Self {
		err := r.node.Step(m)
		if err == nil {
			return nil
		}
		if !errors.Is(err, raft.ErrProposalDropped) {
			return fmt.Errorf("step %s from %x: %w", m.GetType(), m.GetFrom(), err)
		}
	}
	r.send(&pb.Message{
		Type: pb.MsgAppResp.Enum(), To: m.From, From: new(r.cfg.ID), Term: new(lead.Term),
		Reject: new(true), Context: []byte(dropped), Entries: m.GetEntries(),
	})
	return nil
}

// tell gives raft an answer of its own storage. It is refused only when this node is no member any more.
func (r *Replica) tell(m *pb.Message) error {
	if err := r.node.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
		return fmt.Errorf("tell raft %s: %w", m.GetType(), err)
	}
	return nil
}

// Propose offers data for replication, through the leader when that is another node. nil means only
// that it was offered: whether it is ever applied shows in Machine.Apply.
func (r *Replica) Propose(data []byte) error {
	if r.node.BasicStatus().Lead == raft.None {
		return ErrNoLeader
	}
	if err := r.node.Propose(data); err != nil {
		if errors.Is(err, raft.ErrProposalDropped) {
			return ErrDropped
		}
		return fmt.Errorf("propose: %w", err)
	}
	return nil
}

// Link tells whether a peer can be reached.
func (r *Replica) Link(id uint64, up bool) {
	r.linked[id] = up
	if !up {
		r.node.ReportUnreachable(id)
	}
}

// Unreachable tells that a message to the peer was lost before it left this node. It may be called
// from within Config.Early.
func (r *Replica) Unreachable(id uint64) { r.node.ReportUnreachable(id) }

// SnapshotSent tells how the sending of a snapshot ended. Without it a follower stays unserved.
func (r *Replica) SnapshotSent(id uint64, ok bool) {
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
	}
	r.node.ReportSnapshot(id, status)
}

// State reports the replica's state as of the last Flush.
func (r *Replica) State() State {
	return State{
		Leadership: r.announced,
		Commit:     r.commit,
		Applied:    r.applied,
		Last:       r.last,
		Snapshot:   r.snapshot,
		Voters:     r.conf.GetVoters(),
		Members:    r.members.roster,
		Logged:     r.members.logged,
		Leaving:    r.removal.known && !r.removal.over,
		Removed:    r.removal.over,
		Doubt:      r.Doubt(),
		Stuck:      r.disk.stuck,
	}
}

// leadership says who leads now.
func (r *Replica) leadership() Leadership {
	now, _ := r.status()
	return now
}

// status asks raft who leads, and for its commit index.
func (r *Replica) status() (Leadership, uint64) {
	status := r.node.BasicStatus()
	self := status.RaftState == raft.StateLeader
	return Leadership{
		Term:   status.GetTerm(),
		Leader: status.Lead,
		Self:   self,
		Ready:  self && r.appliedTerm == status.GetTerm(),
	}, status.GetCommit()
}
