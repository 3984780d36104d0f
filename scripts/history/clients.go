package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// callWithin is the patience of a client with one call.
const callWithin = 3 * time.Second

// Endpoint is a node's operators' service, as a client reaches it.
type Endpoint struct {
	Node  string
	Admin duoflowv1.AdminClient
}

// Config of Clients.
type Config struct {
	Job string
	// Clients are as many as there are lists; the first endpoint of each is the one that it asks most.
	Clients [][]Endpoint
	// Candidates may hold the job.
	Candidates []string
	// File gets a line for each operation.
	File string
	Seed uint64
	// Pace is the mean time between two operations of a client, > 0.
	Pace time.Duration
}

// Clients ask a cluster about its job. Methods may be called while Run does.
type Clients struct {
	cfg    Config
	asking atomic.Bool

	mu   sync.Mutex
	file *os.File
	lost error // the first operation that could not be written down
}

// New checks the configuration and makes the file; it asks nobody.
func New(cfg Config) (*Clients, error) {
	if cfg.Job == "" || len(cfg.Clients) == 0 || len(cfg.Candidates) < 2 || cfg.Pace <= 0 {
		return nil, errors.New("history: job, clients, two candidates and a pace are needed")
	}
	for i, endpoints := range cfg.Clients {
		if len(endpoints) == 0 {
			return nil, fmt.Errorf("history: client %d has nobody to ask", i)
		}
	}
	file, err := os.OpenFile(cfg.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return &Clients{cfg: cfg, file: file}, nil
}

// Asking says whether the clients ask to have the job moved, too, by what they read last. It begins with no.
func (c *Clients) Asking(on bool) { c.asking.Store(on) }

// Run lets the clients ask until ctx ends, and closes the file. The error is one of writing it.
func (c *Clients) Run(ctx context.Context) error {
	var group errgroup.Group
	for i, endpoints := range c.cfg.Clients {
		dice := rand.New(rand.NewPCG(c.cfg.Seed, uint64(i))) // #nosec: this is chance, not secrecy
		group.Go(func() error {
			(&client{all: c, number: i, endpoints: endpoints, dice: dice}).run(ctx)
			return nil
		})
	}
	_ = group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.lost, c.file.Close())
}

// Foreign records that somebody else may have asked to have the job moved while do was under way. do says what became of that;
// a wish that was refused is none.
func (c *Clients) Foreign(do func() Outcome) {
	op := Operation{Client: len(c.cfg.Clients), Kind: Foreign, Job: c.cfg.Job, Call: now()}
	op.Outcome = do()
	op.Return = now()
	if op.Outcome != Refused {
		c.record(op)
	}
}

func (c *Clients) record(op Operation) {
	line, err := json.Marshal(op)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		_, err = c.file.Write(append(line, '\n'))
	}
	if c.lost == nil && err != nil {
		c.lost = fmt.Errorf("write history: %w", err)
	}
}

// now reads the machine's clock that never goes back, which all network namespaces share.
func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(fmt.Sprintf("history: read clock: %v", err)) // there is no Linux without it
	}
	return at.Nano()
}

// client does one operation after the other.
type client struct {
	all       *Clients
	number    int
	endpoints []Endpoint
	dice      *rand.Rand
	last      Lease  // what it read last
	silent    uint64 // epoch that it has asked to end, with unknown outcome: to ask again would only multiply what may be
}

func (c *client) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		pause.Reset(time.Duration((0.5 + c.dice.Float64()) * float64(c.all.cfg.Pace)))
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			c.turn(ctx)
		}
	}
}

// turn does one operation, drawn by the client's dice.
func (c *client) turn(ctx context.Context) {
	to := c.endpoints[0]
	if c.dice.IntN(4) == 0 {
		to = c.endpoints[c.dice.IntN(len(c.endpoints))]
	}
	kind := c.dice.IntN(20)
	op := Operation{Client: c.number, Kind: Read, Job: c.all.cfg.Job, Node: to.Node, Outcome: Done}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	switch {
	case kind == 0 && c.last.Epoch > 1:
		c.ask(ctx, to, op, c.last.Epoch-1) // too late: nobody may accept it
	case kind < 10 && c.last.Epoch > 0 && c.silent != c.last.Epoch && c.all.asking.Load():
		c.ask(ctx, to, op, c.last.Epoch)
	case kind < 12:
		c.read(op, func() (*Lease, error) { return c.newest(ctx, to) })
	default:
		c.read(op, func() (*Lease, error) { return c.status(ctx, to) })
	}
}

// read records a read that is answered.
func (c *client) read(op Operation, ask func() (*Lease, error)) {
	op.Call = now()
	lease, err := ask()
	op.Return = now()
	if err != nil {
		return
	}
	op.Lease, c.last = lease, *lease
	c.all.record(op)
}

// status reads all that is agreed on.
func (c *client) status(ctx context.Context, to Endpoint) (*Lease, error) {
	answer, err := to.Admin.Status(ctx, &duoflowv1.StatusRequest{Linearizable: true})
	if err != nil {
		return nil, err
	}
	for _, job := range answer.GetJobs() {
		if job.GetName() == c.all.cfg.Job {
			move := ""
			if p := job.GetPending(); p != nil {
				move = MoveTo(p.GetKind(), p.GetTo())
			}
			return &Lease{Epoch: job.GetEpoch(), Holder: job.GetHolder(), Phase: job.GetPhase(), Move: &move}, nil
		}
	}
	return nil, fmt.Errorf("node %s knows no job %s", to.Node, c.all.cfg.Job)
}

// newest reads the newest transition. It does not tell whether a wish is pending.
func (c *client) newest(ctx context.Context, to Endpoint) (*Lease, error) {
	answer, err := to.Admin.History(ctx, &duoflowv1.HistoryRequest{Job: c.all.cfg.Job, Limit: 1, Linearizable: true})
	if err != nil {
		return nil, err
	}
	entries := answer.GetEntries()
	if len(entries) == 0 {
		return &Lease{}, nil
	}
	newest := entries[0]
	phase := granted
	if newest.GetKind() == "release" {
		phase = released
	}
	return &Lease{Epoch: newest.GetEpoch(), Holder: newest.GetNode(), Phase: phase}, nil
}

// ask asks to have the job moved, if its epoch is still the one named.
func (c *client) ask(ctx context.Context, to Endpoint, op Operation, epoch uint64) {
	other := ""
	if c.dice.IntN(2) == 0 {
		other = c.other()
	}
	op.Kind, op.Epoch = Ask, epoch
	op.Call = now()
	var err error
	if c.dice.IntN(2) == 0 {
		op.Move = MoveTo("failover", other)
		_, err = to.Admin.Failover(ctx, &duoflowv1.FailoverRequest{Job: op.Job, To: other, ExpectEpoch: epoch})
	} else {
		op.Move = MoveTo("switchover", other)
		_, err = to.Admin.Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: op.Job, To: other, ExpectEpoch: epoch})
	}
	op.Return = now()
	if op.Outcome = outcome(err); op.Outcome != Done {
		op.Why = err.Error()
	}
	if op.Outcome == Unknown {
		c.silent = epoch
	}
	c.all.record(op)
}

// other is a candidate that did not hold the job when it was last read: a wish for its holder is refused.
func (c *client) other() string {
	for _, name := range c.all.cfg.Candidates {
		if name != c.last.Holder {
			return name
		}
	}
	return ""
}

// outcome is what an answer means: a refusal that says why is one, everything else may still come true.
func outcome(err error) Outcome {
	if err == nil {
		return Done
	}
	for _, detail := range status.Convert(err).Details() {
		problem, ok := detail.(*duoflowv1.Problem)
		if !ok {
			continue
		}
		switch problem.GetKind() {
		case duoflowv1.Problem_KIND_USAGE, duoflowv1.Problem_KIND_UNSAFE, duoflowv1.Problem_KIND_NO_QUORUM,
			duoflowv1.Problem_KIND_MOVED, duoflowv1.Problem_KIND_DENIED:
			return Refused
		case duoflowv1.Problem_KIND_UNSPECIFIED, duoflowv1.Problem_KIND_TIMEOUT, duoflowv1.Problem_KIND_FAILED:
		}
	}
	return Unknown
}
