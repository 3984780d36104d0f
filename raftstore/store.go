package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/raftstore/door"
	"github.com/duoflow/duoflow/raftstore/replica"
)

// Errors of Propose. With ErrNoLeader and ErrDropped the command is not and will not be applied;
// with any other error the outcome is unknown.
var (
	ErrNoLeader = replica.ErrNoLeader
	ErrDropped  = replica.ErrDropped
	ErrStopped  = errors.New("the store has stopped")
)

const (
	commandHeader   = 8       // bytes of the proposal's id before the command
	maxCommandBytes = 1 << 20 // of one command
	inboxSize       = 1024    // raft messages received and not yet stepped
	proposalQueue   = 256     // proposals not yet offered to raft
	controlQueue    = 64      // other calls for the loop
)

// Store is one node's member of the group. Make it with New, let it live with Run.
type Store struct {
	cfg     Config
	machine StateMachine
	log     *slog.Logger
	linked  atomic.Pointer[map[uint64]*link] // see links
	launch  func(*link)                      // starts one; of the loop, once serve has set it
	guests  map[uint64]Peer                  // of the loop; see meet
	took    window
	door    *door.Door
	probe   *probe

	inbox     chan *pb.Message
	proposals chan proposal
	control   chan func(*Store)
	ended     chan struct{} // closed when the loop ends
	stopped   chan struct{} // closed when Run returns

	behind  func(*disk) storage // what is written to: the disk; tests put one between that stands still
	saver   *saver
	replica *replica.Replica // of the loop only

	mu      sync.Mutex
	waiters map[uint64]chan error // by proposal id; capacity 1
	status  replica.State
	fresh   bool // see replica.Fresh
	address string
	started bool
}

// proposal is one command on its way to the loop.
type proposal struct {
	data  []byte
	offer chan error // capacity 1: what raft said to it
}

// New checks the configuration. It touches neither disk nor network.
func New(cfg Config, machine StateMachine) (*Store, error) {
	cfg.fill()
	if machine == nil {
		return nil, errors.New("raftstore: no state machine")
	}
	if err := errors.Join(cfg.validate(), validateTLS(cfg.TLS)); err != nil {
		return nil, fmt.Errorf("raftstore configuration: %w", err)
	}
	s := &Store{
		cfg: cfg, machine: machine,
		log:       cfg.Logger.With("node", cfg.name(cfg.Self)),
		inbox:     make(chan *pb.Message, inboxSize),
		proposals: make(chan proposal, proposalQueue),
		control:   make(chan func(*Store), controlQueue),
		ended:     make(chan struct{}),
		stopped:   make(chan struct{}),
		waiters:   map[uint64]chan error{},
		guests:    map[uint64]Peer{},
		behind:    func(d *disk) storage { return d },
	}
	s.probe = newProbe(cfg.Dir, s.log)
	var err error
	if s.door, err = newDoor(s.log); err != nil {
		return nil, fmt.Errorf("raftstore: %w", err)
	}
	s.link(cfg.members())
	return s, nil
}

// Run opens the data directory, listens, and takes part until ctx ends (nil) or something breaks. Any
// error means that this process must end: what is durable is unknown after a failed write. It may be
// called once. A write that has begun is waited for, so while the disk does not answer Run does not
// return.
func (s *Store) Run(ctx context.Context) (err error) {
	if err := s.begin(); err != nil {
		return err
	}
	defer close(s.stopped)
	disk, err := openDisk(s.cfg.Dir, s.cfg.owner(), &s.took)
	if err != nil {
		return err
	}
	s.saver = newSaver(s.behind(disk))
	defer func() { err = errors.Join(err, s.saver.storage.Close()) }()
	if s.replica, err = s.newReplica(disk); err != nil {
		return err
	}
	s.probe.look()
	s.publish()
	listener, err := s.listen()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.address = listener.Addr().String()
	s.mu.Unlock()
	if s.cfg.Listening != nil {
		s.cfg.Listening()
	}
	return s.serve(ctx, listener)
}

// begin refuses a second Run.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return errors.New("raftstore: Run was called twice")
	}
	s.started = true
	return nil
}

// serve runs the loop, the storage, the server and the links until the first of them ends.
func (s *Store) serve(ctx context.Context, listener net.Listener) error {
	server := newServer(s)
	group, running := errgroup.WithContext(ctx)
	s.launch = func(l *link) {
		linked, stop := context.WithCancel(running)
		l.stop = stop
		group.Go(func() error { defer stop(); l.run(linked); return nil })
	}
	for _, l := range s.links() {
		s.launch(l)
	}
	group.Go(func() error { return s.loop(running) })
	group.Go(func() error { s.saver.run(running); return nil })
	group.Go(func() error { s.probe.run(running); return nil })
	group.Go(func() error {
		if err := server.Serve(listener); err != nil && running.Err() == nil {
			return fmt.Errorf("serve peers: %w", err)
		}
		return nil
	})
	group.Go(func() error { <-running.Done(); server.Stop(); return nil })
	return group.Wait()
}

// newReplica makes the raft member on top of the loaded disk.
func (s *Store) newReplica(d *disk) (*replica.Replica, error) {
	return replica.New(replica.Config{
		ID: s.cfg.Self, Storage: d.memory, Machine: commands{s},
		HeartbeatTicks: s.cfg.HeartbeatTicks, ElectionTicks: s.cfg.ElectionTicks,
		Preferred: s.cfg.PreferredLeader, Members: s.cfg.bootstrap(),
		SnapshotEvery: s.cfg.SnapshotEvery, KeepEntries: s.cfg.KeepEntries,
		Doubt: d.doubt, Founded: d.founded,
		Current: s.current,
		Logger:  raftLogger{s.log},
	})
}

// Propose replicates a command and waits until this node has applied it. nil = committed and applied
// here. ErrNoLeader and ErrDropped: not in any log. Any other error, that of ctx included: unknown,
// it may still be applied.
func (s *Store) Propose(ctx context.Context, command []byte) error {
	if len(command) > maxCommandBytes {
		return fmt.Errorf("%w: command of %d bytes is longer than %d", ErrDropped, len(command), maxCommandBytes)
	}
	data := make([]byte, commandHeader, commandHeader+len(command))
	if _, err := rand.Read(data); err != nil {
		return fmt.Errorf("draw proposal id: %w", err)
	}
	id := binary.BigEndian.Uint64(data)
	end := s.await(id)
	defer s.forget(id)
	p := proposal{data: append(data, command...), offer: make(chan error, 1)}
	select {
	case s.proposals <- p:
	case <-ctx.Done():
		return fmt.Errorf("propose: %w", ctx.Err())
	case <-s.stopped:
		return ErrStopped
	}
	return s.outcome(ctx, p, end)
}

// outcome waits for what becomes of a proposal that the loop has.
func (s *Store) outcome(ctx context.Context, p proposal, end <-chan error) error {
	for {
		select {
		case err := <-p.offer:
			if err != nil {
				return err
			}
		case err := <-end:
			return err
		case <-ctx.Done():
			return fmt.Errorf("wait for proposal: %w", ctx.Err())
		case <-s.stopped:
			return ErrStopped
		}
	}
}

// await registers a waiter.
func (s *Store) await(id uint64) <-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := make(chan error, 1)
	s.waiters[id] = end
	return end
}

// complete ends the waiter for an entry that is applied (nil) or will never be.
func (s *Store) complete(data []byte, err error) {
	id := binary.BigEndian.Uint64(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, ok := s.waiters[id]; ok {
		end <- err
		delete(s.waiters, id)
	}
}

// forget removes a waiter that may have gone already.
func (s *Store) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiters, id)
}

// Broadcast sends a beat to every peer. It never blocks: a peer that is not connected, or takes its
// beats too slowly, misses the oldest ones. The payload must not be changed afterwards.
func (s *Store) Broadcast(payload []byte) {
	for _, l := range s.links() {
		if l.up.Load() {
			l.beats.push(outgoing{payload: payload})
		}
	}
}

// Addr is the address that the store listens on; "" before Run listens.
func (s *Store) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}
