package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// Stop must not run while Start is still running (airflowctl.startCommand and takeSpare do not look at ctx before they
// make a process). Stop then finds no life, says "empty", the epoch is released, and Start makes a process after that.
type slowStart struct {
	*stubJob
	starting atomic.Bool
	overlap  atomic.Bool
}

func (j *slowStart) Start(ctx context.Context, c fence.Claim) error {
	j.starting.Store(true)
	time.Sleep(200 * time.Millisecond) // fork and exec on a busy host
	err := j.stubJob.Start(ctx, c)
	j.starting.Store(false)
	return err
}

func (j *slowStart) Stop(ctx context.Context, epoch uint64, grace time.Duration) error {
	if j.starting.Load() {
		j.overlap.Store(true)
	}
	return j.stubJob.Stop(ctx, epoch, grace)
}

// TestStopWaitsForStart: a process must not appear after its epoch was released (I6).
func TestStopWaitsForStart(t *testing.T) {
	slow := &slowStart{}
	d := start(t, soleConfig("scheduler"), func(d *daemon) {
		slow.stubJob = d.jobs["scheduler"]
		d.hosted["scheduler"] = slow
	})
	d.await("it starts", func() bool { return slow.starting.Load() })
	d.quit()
	d.end()
	if slow.overlap.Load() {
		t.Errorf("Stop ran while Start was running: %s", slow.history())
	}
}

// TestLongDetail: the last line of a job may be longer than what the log takes; the release must be taken all the same.
func TestLongDetail(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("active", func() bool { return d.active("scheduler", 1) })
	d.jobs["scheduler"].events.Exited(1, strings.Repeat("Traceback ", 120))
	deadline := time.Now().Add(5 * time.Second)
	for !d.active("scheduler", 2) {
		if time.Now().After(deadline) {
			job := d.node.wire.ledger.job("scheduler")
			t.Fatalf("the log says %s at %d for ever; machine %s", job.Phase, job.Epoch, d.node.snapshot().jobs["scheduler"].state)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// dropping takes no proposal.
type dropping struct {
	*soleLog
	n atomic.Int64
}

func (l *dropping) Propose(context.Context, []byte) error {
	l.n.Add(1)
	return raftstore.ErrDropped
}

// startDropping starts a daemon whose log is configured and takes nothing any more.
func startDropping(t *testing.T) (*daemon, *dropping) {
	t.Helper()
	var log *dropping
	d := start(t, soleConfig("scheduler"), func(d *daemon) {
		c := configured()
		c.Configure.Nodes, c.Configure.Jobs = []lease.Node{{ID: "a"}}, []lease.JobName{"scheduler"}
		_ = d.log.Propose(context.Background(), c.Encode())
		log = &dropping{soleLog: d.log}
		d.replicated = log
	})
	return d, log
}

// TestNoHotLoop: what the log drops is proposed again, but not without a pause.
func TestNoHotLoop(t *testing.T) {
	d, log := startDropping(t)
	d.await("it proposes", func() bool { return log.n.Load() > 0 })
	before := log.n.Load()
	time.Sleep(500 * time.Millisecond)
	if n := log.n.Load() - before; n > 100 {
		t.Errorf("%d proposals in 500 ms while the log drops them", n)
	}
}

// TestNothingIsBegunThatIsNotAgreedOn: a leader does not act on what it has proposed.
func TestNothingIsBegunThatIsNotAgreedOn(t *testing.T) {
	d, log := startDropping(t)
	d.await("it has proposed, and been refused, three times", func() bool { return log.n.Load() > 3 })
	if did := d.jobs["scheduler"].history(); did != "clear" {
		t.Errorf("did %q", did)
	}
}

// dropFirst loses the first proposal, which is the configuration.
type dropFirst struct {
	*soleLog
	n atomic.Int64
}

func (l *dropFirst) Propose(ctx context.Context, command []byte) error {
	if l.n.Add(1) == 1 {
		return raftstore.ErrDropped
	}
	return l.soleLog.Propose(ctx, command)
}

func TestConfigureIsTriedAgain(t *testing.T) {
	var log *dropFirst
	d := start(t, soleConfig("scheduler"), func(d *daemon) {
		log = &dropFirst{soleLog: d.log}
		d.replicated = log
	})
	deadline := time.Now().Add(3 * time.Second)
	for !d.active("scheduler", 1) {
		if time.Now().After(deadline) {
			t.Fatalf("never active; %d proposals", log.n.Load())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// counting notes which epochs are proposed, and takes its time for each.
type counting struct {
	*soleLog
	mu     sync.Mutex
	grants []string
}

func (l *counting) Propose(ctx context.Context, command []byte) error {
	c, _ := lease.DecodeCommand(command)
	if c.Grant != nil {
		l.mu.Lock()
		l.grants = append(l.grants, fmt.Sprint(c.Grant.Next))
		l.mu.Unlock()
		time.Sleep(30 * time.Millisecond)
	}
	return l.soleLog.Propose(ctx, command)
}

// TestOneGrant: the answer to a release is not the answer to the grant that follows it.
func TestOneGrant(t *testing.T) {
	var log *counting
	d := start(t, soleConfig("scheduler"), func(d *daemon) { log = &counting{soleLog: d.log}; d.replicated = log })
	d.await("active", func() bool { return d.active("scheduler", 1) })
	d.jobs["scheduler"].events.Exited(1, "x")
	d.await("active", func() bool { return d.active("scheduler", 2) })
	time.Sleep(100 * time.Millisecond)
	log.mu.Lock()
	defer log.mu.Unlock()
	if got := strings.Join(log.grants, " "); got != "1 2" {
		t.Errorf("grants proposed: %s, want 1 2; history %+v", got, d.node.wire.ledger.job("scheduler").History[2])
	}
}

// TestQuickQuit: a daemon that is stopped within a beat of becoming active is not granted the job again.
func TestQuickQuit(t *testing.T) {
	for range 5 {
		d := start(t, soleConfig("scheduler", "etl"), nil)
		d.await("active", func() bool { return d.node.snapshot().jobs["scheduler"].state == control.Active })
		d.quit()
		select {
		case <-d.ended:
			d.ended = nil
		case <-time.After(3 * time.Second):
			job := d.node.wire.ledger.job("scheduler")
			t.Fatalf("still there; log: epoch %d %s %s; %s", job.Epoch, job.Phase, job.Holder, d.jobs["scheduler"].history())
		}
	}
}

func TestNilLogger(t *testing.T) {
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("panic %v", r)
		}
	}()
	NewWire(soleConfig("x"), nil).Beat(1, []byte("noise"))
}
