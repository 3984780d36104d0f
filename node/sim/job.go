package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// job is a job on its host, as airflowctl.Job is (takeover.go, start.go, life.go): the fencer's steps, and process trees.
type job struct {
	d       *daemon
	f       *fencer
	noticed bool
	// current is the life that was given an epoch; nil while there is none.
	current *process
	// granted is the epoch whose credentials there are.
	granted uint64
}

func newJob(d *daemon) *job { return &job{d: d, f: &fencer{d: d}} }

// begin does what airflowctl.Job.Run does.
func (j *job) begin() { j.d.w.spawn(j.d.w.span(0, 5*time.Millisecond), j.d.actor, j.f.watch) }

// Run implements node.HostedJob; nobody calls it here.
func (j *job) Run(context.Context) error { panic("sim: a job is not run") }

// Clear kills what earlier daemons left, and returns when nothing of it is there.
func (j *job) Clear(ctx context.Context) error {
	j.d.h.killAll()
	return j.empty(ctx, func(*process) bool { return true })
}

func (j *job) empty(ctx context.Context, which func(*process) bool) error {
	j.d.w.wait(func() bool { return ctx.Err() != nil || !j.d.h.alive(which) })
	return ctx.Err()
}

// Take implements node.HostedJob.
func (j *job) Take(ctx context.Context, claim fence.Claim) error {
	if err := j.f.take(ctx, claim); err != nil {
		return err
	}
	j.granted = claim.Epoch
	return nil
}

// Drain implements node.HostedJob.
func (j *job) Drain(ctx context.Context, claim fence.Claim) error {
	err := j.f.drain(ctx, claim)
	if err == nil {
		j.d.h.c.oracle.drained(claim.Epoch)
	}
	return err
}

// Adopt writes with the epoch's own role, if the job is one that has something to adopt.
func (j *job) Adopt(ctx context.Context, claim fence.Claim) error {
	if !j.d.h.c.plan.adopts {
		return nil
	}
	s, err := j.d.h.c.db.connect(ctx, j.d.h, claim.Epoch, false)
	if err != nil {
		return err
	}
	defer s.close()
	return s.write(ctx, j.d.w.span(time.Millisecond, 20*time.Millisecond))
}

// Start makes the process of an epoch, unless it has been given up meanwhile.
func (j *job) Start(ctx context.Context, claim fence.Claim) error {
	j.d.w.sleep(context.WithoutCancel(ctx), j.d.w.span(time.Millisecond, j.d.h.c.plan.startMost))
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.d.w.often(j.d.h.c.plan.startFails) {
		return fmt.Errorf("%w: no such program", airflowctl.ErrRefused)
	}
	j.current = j.d.h.start(j.d, claim.Epoch)
	return nil
}

// Stop ends the process tree of an epoch.
func (j *job) Stop(ctx context.Context, epoch uint64, grace time.Duration) error {
	p := j.current
	if p == nil || p.epoch != epoch {
		return nil
	}
	p.terminate()
	due := false
	j.d.w.in(j.d.real(grace), j.d.actor, func() { due = true })
	j.d.w.wait(func() bool { return due || ctx.Err() != nil || p.dead })
	p.kill()
	if err := j.empty(ctx, func(q *process) bool { return q == p }); err != nil {
		return err
	}
	j.current = nil
	return nil
}

// Surrender implements node.HostedJob.
func (j *job) Surrender(ctx context.Context, claim fence.Claim) error { return j.f.release(ctx, claim) }

// Mirror writes the mirror rows as the epoch's own role.
func (j *job) Mirror(ctx context.Context, claim fence.Claim) error {
	s, err := j.d.h.c.db.connect(ctx, j.d.h, claim.Epoch, false)
	if err != nil {
		return err
	}
	defer s.close()
	return s.write(ctx, time.Millisecond)
}

// Doctor implements node.HostedJob.
func (j *job) Doctor(context.Context) (fence.Report, error) { return fence.Report{}, nil }

// Status implements node.HostedJob.
func (j *job) Status() airflowctl.Status { return airflowctl.Status{Warm: true} }
