package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// Parts are what a node is joined from; cmd/duoflowd makes the real ones.
type Parts struct {
	Config Config
	// Version of the program, told to the other nodes.
	Version string
	// Token is this daemon's life; NewToken draws one.
	Token lease.Token
	// Wire is where the parts below report to; the same one they were made with.
	Wire *Wire
	Log  replicatedLog
	// Gossip may not be nil.
	Gossip membership
	// Logger is nil to discard.
	Logger *slog.Logger
	// Hurry is told when the node begins and stops to be in a hurry: a takeover is under way here, nobody leads, or a
	// node is late. It is called from one goroutine. nil: nobody wants to know.
	Hurry func(on bool)
	// Alive is told by the loop each time it lets time pass, which is several times a second; it must not block. nil: nobody wants to know.
	Alive func(now control.Instant)
	// CertificateEnds is when the certificate this node shows is no longer valid; nil: it shows none.
	CertificateEnds func() time.Time

	// Jobs are this host's; a witness has none.
	Jobs map[lease.JobName]HostedJob
	// Machine is what the node runs on; nil: this computer.
	Machine Machine
}

// Node is one duoflowd. Use New, then Run once.
type Node struct {
	cfg     Config
	self    lease.NodeID
	version string
	token   lease.Token
	wire    *Wire
	log     replicatedLog
	gossip  membership
	logger  *slog.Logger
	metrics *metrics
	hurry   func(on bool)
	alive   func(now control.Instant)
	// certificateEnds is nil when the node shows none.
	certificateEnds func() time.Time
	machine         Machine
	// removing: an operator's removal of a member goes on here.
	removing atomic.Bool

	// Owned by the loop.
	seats []*seat
	// seatsOf are the seats that what the log says of a job concerns: its own, and those that follow it.
	seatsOf map[lease.JobName][]*seat
	board   *control.Board
	heard   *hearing
	leading bool
	inHurry bool
	beatAt  control.Instant
	// tickedAt is up to when the log's time has passed.
	tickedAt control.Instant
	// disk is what the log last said of itself, made anew at diskAt.
	disk   raftstore.Status
	diskAt control.Instant
	// configureAt is when a leader next compares the nodes and jobs that are agreed on with the voters and the configuration's jobs.
	configureAt control.Instant

	// picture is what the surfaces show; written by the loop, read by anyone.
	mu      sync.Mutex
	picture picture
}

// seat is one job's place in the node.
type seat struct {
	name    lease.JobName
	cfg     Job
	machine *control.Machine
	granter *control.Granter
	// hosted is nil on a witness.
	hosted HostedJob
	// takeover ends the steps of a takeover when the machine gives it up.
	takeover context.Context
	abandon  context.CancelFunc
	// out is closed when the effect that was carried out last has returned. A stop waits for it, or a start that was
	// given up could still make a process after its epoch was released.
	out    <-chan struct{}
	phases phases
	// account is of the job's transitions, as the raft leader sees them.
	account account
	// saying is what the job says of itself, as the beats carry it.
	saying saying
	// fresh: something happened to the job that the picture does not show.
	fresh bool
}

func seatsOf(all []*seat) map[lease.JobName][]*seat {
	of := map[lease.JobName][]*seat{}
	for _, s := range all { // sorted by name, and so is each list
		of[s.name] = append(of[s.name], s)
		if leader := lease.JobName(s.cfg.Follow); leader != "" {
			of[leader] = append(of[leader], s)
		}
	}
	return of
}

// NewToken draws the token of a daemon's life.
func NewToken() lease.Token {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the program instead
	return lease.Token(hex.EncodeToString(raw[:]))
}

// New joins the parts and starts nothing.
func New(p Parts) (*Node, error) {
	if p.Wire == nil || p.Log == nil || p.Gossip == nil || !p.Token.Valid() {
		return nil, errors.New("node: wire, log, gossip and token are needed")
	}
	logger := p.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: p.Config, self: lease.NodeID(p.Config.Node), version: p.Version, token: p.Token,
		wire: p.Wire, log: p.Log, gossip: p.Gossip, logger: logger.With("node", p.Config.Node),
		heard: newHearing(), hurry: p.Hurry, alive: p.Alive, certificateEnds: p.CertificateEnds, machine: p.Machine,
	}
	if n.machine == nil {
		n.machine = &computer{}
	}
	if n.hurry == nil {
		n.hurry = func(bool) {}
	}
	if n.alive == nil {
		n.alive = func(control.Instant) {}
	}
	n.board = control.NewBoard(n.cfg.weights())
	for _, name := range p.Config.jobNames() {
		s, err := n.newSeat(name, p.Jobs[name])
		if err != nil {
			return nil, err
		}
		n.seats = append(n.seats, s)
	}
	n.seatsOf = seatsOf(n.seats)
	n.metrics = newMetrics(n)
	return n, nil
}

func (n *Node) newSeat(name lease.JobName, hosted HostedJob) (*seat, error) {
	if hosted == nil && !n.cfg.Witness {
		return nil, fmt.Errorf("node: job %s has nothing to run it", name)
	}
	job := n.cfg.Jobs[string(name)]
	timing := n.cfg.timing(job)
	priority, never := n.cfg.priorities(job), map[lease.NodeID]bool{}
	for _, id := range n.cfg.nodeNames() {
		never[id] = n.cfg.Nodes[string(id)].NoFailover
	}
	return &seat{
		name: name, cfg: job, hosted: hosted, abandon: func() {},
		machine: control.NewMachine(control.Config{
			Job: name, Self: n.self, Token: n.token, Witness: n.cfg.Witness, Timing: timing,
		}),
		granter: control.NewGranter(control.GranterConfig{
			Job: name, Self: n.self, Follow: lease.JobName(job.Follow),
			Priority: priority, NoFailover: never, Timing: timing, Board: n.board,
		}),
	}, nil
}

// Run runs the node until ctx ends, then lets its jobs end in order and tells the others. It returns the first error
// of a part that cannot be lived without; a storage error of the log is one.
func (n *Node) Run(ctx context.Context) error {
	clock, err := newPulse()
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	// The parts must outlive the jobs: what a stopping job releases still has to reach the log.
	parts, stopParts := context.WithCancelCause(context.WithoutCancel(ctx))
	var joined sync.WaitGroup
	start := func(what string, run func(context.Context) error) {
		joined.Go(func() {
			if err := run(parts); err != nil && parts.Err() == nil {
				stopParts(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start("pulse", clock.run)
	start("replicated log", n.log.Run)
	start("gossip", n.gossip.Run)
	for _, s := range n.seats {
		if s.hosted != nil {
			start("job "+string(s.name), s.hosted.Run)
		}
	}
	stopParts(n.Loop(parts).run(ctx.Done(), clock))
	joined.Wait()
	n.machine.Join()
	if cause := context.Cause(parts); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if why := n.wire.removed.Load(); why != nil {
		return fmt.Errorf("%w: %s", ErrRemoved, *why)
	}
	return nil
}

// ErrRemoved is returned by Run when the node does not belong to the cluster any more. To start it again is of no use.
var ErrRemoved = raftstore.ErrRemoved

// members are those in force.
func (n *Node) members() *members { return n.wire.members.Load() }

// leaveWithin bounds how long a stopping daemon waits for its jobs and for its release to be agreed on; systemd's
// TimeoutStopSec must be longer.
const leaveWithin = 40 * time.Second
