package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// soleLog is a replicated log of one node: what is proposed is agreed on at once.
type soleLog struct {
	wire *Wire
	fail chan error

	mu    sync.Mutex
	index uint64
	beats int
	// unwritable is why its disk takes no writes.
	unwritable string
	// leaderless: nobody confirms what is committed.
	leaderless bool
}

func (l *soleLog) Run(ctx context.Context) error {
	l.wire.Leadership(raftstore.Leadership{Term: 1, Leader: RaftID("a"), Self: true, Ready: true})
	select {
	case err := <-l.fail:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (l *soleLog) Propose(ctx context.Context, command []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	l.wire.StateMachine().Apply(l.index, command)
	return nil
}

// Change and Examine: a group of one is none whose members are changed.
func (l *soleLog) Change(context.Context, raftstore.Change) error  { return raftstore.ErrRefused }
func (l *soleLog) Examine(context.Context, raftstore.Change) error { return raftstore.ErrRefused }

// Read: what is agreed on is applied at once.
func (l *soleLog) Read(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaderless {
		<-ctx.Done()
		return fmt.Errorf("read: %w", raftstore.ErrNoLeader)
	}
	return ctx.Err()
}

func (l *soleLog) Broadcast(payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := decodeBeat(payload); err == nil {
		l.beats++
	}
}

func (l *soleLog) Tick(int) {}

func (l *soleLog) Unwritable() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unwritable
}

func (l *soleLog) setUnwritable(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritable = reason
}

func (l *soleLog) Status() raftstore.Status {
	return raftstore.Status{Leadership: raftstore.Leadership{Term: 1, Leader: RaftID("a"), Self: true, Ready: true}}
}

// alone is a membership of nobody.
type alone struct{}

func (alone) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (alone) Members() []gossip.Member      { return nil }

// stubJob is a job as a host with a metastore of its own would run it. It keeps the rules of the real one: a fence
// that only grows, and no process without it.
type stubJob struct {
	events *JobEvents
	fail   func(verb string) error

	mu      sync.Mutex
	row     fence.Row
	line    airflowctl.Line
	slots   string
	numbers []airflowctl.Number
	calls   []string
	ended   bool
}

func (j *stubJob) Run(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		j.mu.Lock()
		row := j.row
		j.mu.Unlock()
		j.events.Health(fence.Health{Reachable: true, Writable: true, Row: row, HighestRole: row.Epoch})
		select {
		case <-ctx.Done():
			j.mu.Lock()
			j.ended = true
			j.mu.Unlock()
			return nil
		case <-ticker.C:
		}
	}
}

func (j *stubJob) did(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, call)
	if j.fail != nil {
		return j.fail(call)
	}
	return nil
}

func (j *stubJob) Take(_ context.Context, claim fence.Claim) error {
	if err := j.did("take %d", claim.Epoch); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	mine := fence.Row{Epoch: claim.Epoch, Node: claim.Node, Token: claim.Token}
	if claim.Epoch < j.row.Epoch || (claim.Epoch == j.row.Epoch && mine != j.row) {
		return fmt.Errorf("%w: row is %d", airflowctl.ErrSuperseded, j.row.Epoch)
	}
	j.row = mine
	return nil
}

func (j *stubJob) Clear(context.Context) error                   { return j.did("clear") }
func (j *stubJob) Drain(_ context.Context, c fence.Claim) error  { return j.did("drain %d", c.Epoch) }
func (j *stubJob) Adopt(_ context.Context, c fence.Claim) error  { return j.did("adopt %d", c.Epoch) }
func (j *stubJob) Start(_ context.Context, c fence.Claim) error  { return j.did("start %d", c.Epoch) }
func (j *stubJob) Mirror(_ context.Context, c fence.Claim) error { return j.did("mirror %d", c.Epoch) }
func (j *stubJob) Surrender(_ context.Context, c fence.Claim) error {
	return j.did("surrender %d", c.Epoch)
}
func (j *stubJob) Stop(_ context.Context, epoch uint64, grace time.Duration) error {
	return j.did("stop %d within %s", epoch, grace)
}
func (j *stubJob) Doctor(context.Context) (fence.Report, error) { return fence.Report{}, nil }
func (j *stubJob) Output(airflowctl.Mark, int) ([]string, airflowctl.Mark, error) {
	return nil, airflowctl.Mark{}, nil
}
func (j *stubJob) Status() airflowctl.Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return airflowctl.Status{Warm: true, Line: j.line, Slots: j.slots, Numbers: j.numbers}
}

// count has the job count something.
func (j *stubJob) count(numbers ...airflowctl.Number) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.numbers = numbers
}

// history is every call but mirrors, which come whenever.
func (j *stubJob) history() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	calls := slices.DeleteFunc(slices.Clone(j.calls), func(c string) bool { return strings.HasPrefix(c, "mirror") })
	return strings.Join(calls, ", ")
}

// daemon is a node of one, running.
type daemon struct {
	t          *testing.T
	node       *Node
	log        *soleLog
	jobs       map[lease.JobName]*stubJob
	hosted     map[lease.JobName]HostedJob
	replicated replicatedLog
	quit       context.CancelFunc
	// ended yields what Run returned.
	ended chan error
}

func soleConfig(jobs ...string) Config {
	cfg := Config{
		Cluster: "test", Node: "a", Detection: "fast", Nodes: map[string]Member{"a": {Peer: "127.0.0.1:1"}},
		InsecureLoopback: true, Jobs: map[string]Job{},
	}
	for _, name := range jobs {
		cfg.Jobs[name] = Job{Kind: "command", Command: []string{"x"}, Grace: 30 * time.Second}
	}
	return cfg
}

// start runs a node with stub jobs; prepare may make them worse.
func start(t *testing.T, cfg Config, prepare func(*daemon)) *daemon {
	t.Helper()
	wire := NewWire(cfg, nil)
	d := &daemon{
		t: t, log: &soleLog{wire: wire, fail: make(chan error, 1)}, jobs: map[lease.JobName]*stubJob{}, ended: make(chan error, 1),
	}
	hosted := map[lease.JobName]HostedJob{}
	d.hosted, d.replicated = hosted, d.log
	for _, name := range cfg.jobNames() {
		d.jobs[name] = &stubJob{events: wire.Job(name)}
		if !cfg.Witness {
			hosted[name] = d.jobs[name]
		}
	}
	if prepare != nil {
		prepare(d)
	}
	n, err := New(Parts{Config: cfg, Version: "test", Token: NewToken(), Wire: wire, Log: d.replicated, Gossip: alone{}, Jobs: hosted})
	if err != nil {
		t.Fatal(err)
	}
	ctx, quit := context.WithCancel(t.Context())
	d.node, d.quit = n, quit
	go func() { d.ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		quit()
		if d.ended != nil {
			d.end()
		}
	})
	return d
}

// end waits for Run and returns what it returned.
func (d *daemon) end() error {
	d.t.Helper()
	select {
	case err := <-d.ended:
		d.ended = nil
		return err
	case <-time.After(10 * time.Second):
		d.t.Fatal("Run does not end")
	}
	return nil
}

func (d *daemon) await(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// active reports whether the node has said of itself that it runs the job.
func (d *daemon) active(job lease.JobName, epoch lease.Epoch) bool {
	said := d.node.snapshot().beats["a"].Jobs[job]
	return said.State == control.Active && said.Epoch == epoch
}

// TestRunTakesOverAndLeaves: a cluster of one becomes active for every job, and leaves in order.
func TestRunTakesOverAndLeaves(t *testing.T) {
	cfg := soleConfig("scheduler", "etl")
	follower := cfg.Jobs["etl"]
	follower.Follow = "scheduler"
	cfg.Jobs["etl"] = follower
	d := start(t, cfg, nil)
	for _, job := range cfg.jobNames() {
		d.await(string(job)+" is active", func() bool { return d.active(job, 1) })
	}
	if v := d.node.View(); !v.Ready || !v.Quorum || len(v.Jobs) != 2 || !v.Jobs[0].Active || v.Jobs[0].Holder != "a" {
		t.Errorf("view = %+v, want all well", v)
	}
	job := d.node.wire.ledger.job("scheduler")
	d.await("the phases are in the history", func() bool {
		job = d.node.wire.ledger.job("scheduler")
		return strings.Contains(fmt.Sprint(job.History), "start")
	})
	var phases []string
	for _, p := range job.History[0].Phases {
		phases = append(phases, p.Name)
	}
	if got := strings.Join(phases, " "); !strings.Contains(got, "fence drain adopt start") {
		t.Errorf("phases = %s, want fence drain adopt start in that order", got)
	}
	if job.History[0].At == 0 || job.History[0].Cause != lease.CauseFirst {
		t.Errorf("history = %+v, want the first grant with its time", job.History)
	}
	d.quit()
	if err := d.end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	want := "clear, take 1, drain 1, adopt 1, start 1, stop 1 within 30s, surrender 1"
	for name, stub := range d.jobs {
		if got := stub.history(); got != want || !stub.ended {
			t.Errorf("job %s: %s, ended %v; want %s, ended", name, got, stub.ended, want)
		}
		job := d.node.wire.ledger.job(name)
		if job.Phase != lease.Released || job.History[len(job.History)-1].Cause != lease.CauseShutdown {
			t.Errorf("job %s: %s, %+v; want it released because of the shutdown", name, job.Phase, job.History)
		}
	}
	if d.log.beats == 0 {
		t.Error("it never spoke")
	}
}

// TestRunEndsWithTheLog: a log that fails ends the node, at once and with its error, and the jobs with it.
func TestRunEndsWithTheLog(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("it is active", func() bool { return d.active("scheduler", 1) })
	disk := errors.New("disk is full")
	d.log.fail <- disk
	if err := d.end(); !errors.Is(err, disk) || !strings.HasPrefix(err.Error(), "replicated log: ") {
		t.Errorf("Run returned %v, want the log's error", err)
	}
	if stub := d.jobs["scheduler"]; !stub.ended {
		t.Error("the job goes on")
	}
}

// TestRunGoesOnAfterAnExit: a job that ended is released and granted again, under a new epoch.
func TestRunGoesOnAfterAnExit(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("it is active", func() bool { return d.active("scheduler", 1) })
	d.jobs["scheduler"].events.Exited(1, "exit code 1")
	d.await("it is active again", func() bool { return d.active("scheduler", 2) })
	job := d.node.wire.ledger.job("scheduler")
	var kinds []string
	for _, e := range job.History {
		kinds = append(kinds, fmt.Sprintf("%s %d %s", e.Kind, e.Epoch, e.Cause))
	}
	if got, want := strings.Join(kinds, ", "), "grant 1 first, release 1 exited, grant 2 restart"; got != want {
		t.Errorf("history = %s, want %s", got, want)
	}
	want := "clear, take 1, drain 1, adopt 1, start 1, stop 1 within 0s, take 2, drain 2, adopt 2, start 2"
	if got := d.jobs["scheduler"].history(); got != want {
		t.Errorf("did %s, want %s", got, want)
	}
}

// TestRunTriesAgain: what may work later is tried again, what never will ends the epoch.
func TestRunTriesAgain(t *testing.T) {
	tries := map[string]int{}
	d := start(t, soleConfig("scheduler"), func(d *daemon) {
		d.jobs["scheduler"].fail = func(call string) error {
			tries[call]++
			switch {
			case call == "clear" && tries[call] < 3, call == "take 1" && tries[call] < 3:
				return errors.New("no luck")
			case call == "adopt 1":
				return fmt.Errorf("%w: unknown schema", airflowctl.ErrRefused)
			}
			return nil
		}
	})
	d.await("it is active under its second epoch", func() bool { return d.active("scheduler", 2) })
	want := "clear, clear, clear, take 1, take 1, take 1, drain 1, adopt 1, stop 1 within 0s, take 2, drain 2, adopt 2, start 2"
	if got := d.jobs["scheduler"].history(); got != want {
		t.Errorf("did %s\nwant %s", got, want)
	}
	last := d.node.wire.ledger.job("scheduler").History[1]
	if last.Cause != lease.CauseStartFailed || last.Detail != "refused: unknown schema" {
		t.Errorf("release = %+v, want it to say what was refused", last)
	}
}

// TestRunIsFenced: a row of a later epoch ends the job whatever the log says.
func TestRunIsFenced(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("it is active", func() bool { return d.active("scheduler", 1) })
	stub := d.jobs["scheduler"]
	stub.mu.Lock()
	stub.row = fence.Row{Epoch: 7, Node: "z", Token: string(lifeB)}
	stub.mu.Unlock()
	d.await("it has stopped", func() bool { return strings.Contains(stub.history(), "stop 1 within 2s") })
	epoch := lease.Epoch(0)
	d.await("it is beyond the row", func() bool {
		epoch = d.node.wire.ledger.job("scheduler").Epoch
		return epoch > 7 && d.active("scheduler", epoch)
	})
	var starts []string
	for call := range strings.SplitSeq(stub.history(), ", ") {
		if strings.HasPrefix(call, "start") {
			starts = append(starts, call)
		}
	}
	if got, want := strings.Join(starts, ", "), fmt.Sprintf("start 1, start %d", epoch); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRunAsWitness(t *testing.T) {
	cfg := soleConfig("scheduler")
	cfg.Witness = true
	cfg.Nodes = map[string]Member{"a": {Peer: "127.0.0.1:1", Witness: true}, "b": {Peer: "127.0.0.1:2"}, "c": {Peer: "127.0.0.1:3"}}
	d := start(t, cfg, nil)
	d.await("it has configured the cluster", func() bool {
		return !d.node.wire.ledger.lacks(cfg.configured().voters(), cfg.jobNames())
	})
	d.await("it has painted", func() bool { return d.node.snapshot().jobs["scheduler"].state == control.Witness })
	if v := d.node.View(); !v.Witness || len(v.Jobs) != 1 || v.Jobs[0].Active || v.Jobs[0].State != "witness" {
		t.Errorf("view = %+v, want a witness that runs no job", v)
	}
	began := time.Now()
	d.quit()
	if err := d.end(); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("Run returned %v after %s, want that nothing is waited for", err, time.Since(began))
	}
}

func TestNewWantsItsParts(t *testing.T) {
	cfg := soleConfig("scheduler")
	wire := NewWire(cfg, nil)
	good := func() Parts {
		return Parts{Config: cfg, Token: lifeA, Wire: wire, Log: &soleLog{wire: wire}, Gossip: alone{},
			Jobs: map[lease.JobName]HostedJob{"scheduler": &stubJob{}}}
	}
	if _, err := New(good()); err != nil {
		t.Errorf("all parts: %v", err)
	}
	for name, spoil := range map[string]func(*Parts){
		"no wire":   func(p *Parts) { p.Wire = nil },
		"no log":    func(p *Parts) { p.Log = nil },
		"no gossip": func(p *Parts) { p.Gossip = nil },
		"no token":  func(p *Parts) { p.Token = "" },
		"no job":    func(p *Parts) { p.Jobs = nil },
	} {
		p := good()
		spoil(&p)
		if _, err := New(p); err == nil || !strings.HasPrefix(err.Error(), "node: ") {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
}

func TestOutcome(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want control.Outcome
	}{
		{nil, control.OK}, {errors.New("x"), control.Failed}, {context.DeadlineExceeded, control.Failed},
		{fmt.Errorf("take: %w", airflowctl.ErrSuperseded), control.Superseded},
		{fmt.Errorf("start: %w: %w", airflowctl.ErrRefused, errors.New("x")), control.Refused},
	} {
		if got := outcome(tt.err); got != tt.want {
			t.Errorf("outcome(%v) = %s, want %s", tt.err, got, tt.want)
		}
	}
}

func TestTokensAreDrawn(t *testing.T) {
	a, b := NewToken(), NewToken()
	if !a.Valid() || !b.Valid() || a == b {
		t.Errorf("tokens %s and %s, want two different valid ones", a, b)
	}
}

func (j *stubJob) Detail() (airflowctl.Detail, error) { return airflowctl.Detail{}, nil }

func (j *stubJob) Runs(context.Context, int) ([]fence.PastRun, error) { return nil, nil }
