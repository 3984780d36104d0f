package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/sim/metastore"
)

// job is a job on its host. It does what airflowctl.Job does (takeover.go, start.go, life.go): the fencer's steps, and
// process trees.
type job struct {
	d *daemon
	f *fencer
	// current is the life that was given an epoch; nil while there is none.
	current *process
	// granted are the credentials of the epoch that is being taken over or run.
	granted credentials
}

// credentials let a client log in as the role of an epoch.
type credentials struct {
	epoch    uint64
	password string
}

func (c credentials) login() metastore.Login {
	return metastore.Login{Role: metastore.RoleName(group, jobName, c.epoch), Password: c.password}
}

func newJob(d *daemon) *job { return &job{d: d, f: newFencer(d)} }

// begin does what airflowctl.Job.Run does.
func (j *job) begin() {
	for _, work := range []func(){j.f.watch, j.f.keepSpare, j.f.collect} {
		j.d.w.spawn(j.d.w.span(0, 5*time.Millisecond), j.d.actor, work)
	}
}

// Run implements node.HostedJob; nobody calls it here.
func (j *job) Run(context.Context) error { panic("sim: a job is not run") }

// Clear kills what earlier daemons left, and returns when nothing of it is there.
func (j *job) Clear(ctx context.Context) error {
	if j.d.h.c.faulty.noClear {
		return nil
	}
	j.d.h.killAll()
	return j.empty(ctx, func(*process) bool { return true })
}

func (j *job) empty(ctx context.Context, which func(*process) bool) error {
	j.d.w.wait(func() bool { return ctx.Err() != nil || !j.d.h.alive(which) })
	return ctx.Err()
}

// Take implements node.HostedJob.
func (j *job) Take(ctx context.Context, claim fence.Claim) error {
	password, err := j.f.take(ctx, claim)
	if err != nil {
		return err
	}
	j.granted = credentials{claim.Epoch, password}
	return nil
}

// Drain implements node.HostedJob.
func (j *job) Drain(ctx context.Context, claim fence.Claim) error {
	if j.d.h.c.faulty.noDrain {
		return nil
	}
	err := j.f.drain(ctx, claim)
	if err == nil {
		j.d.h.c.oracle.drained(j.d, claim.Epoch)
	}
	return err
}

// Adopt writes with the epoch's own role, if the job has something to adopt.
func (j *job) Adopt(ctx context.Context, _ fence.Claim) error {
	if !j.d.h.c.plan.adopts {
		return nil
	}
	err := j.write(ctx, j.granted)
	if strings.HasPrefix(string(codeOf(err)), "28") && !j.d.h.c.faulty.adoptsForEver { // loginRefused
		return fmt.Errorf("%w: %w", airflowctl.ErrRefused, err)
	}
	return err
}

func (j *job) write(ctx context.Context, as credentials) error {
	s, err := j.d.h.c.pg.login(ctx, j.d.h, as.login())
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.ask(ctx, j.d.h.c.work(as.epoch, 0))
	return err
}

// Start makes the process of an epoch, unless it has been given up meanwhile. Once it has begun to be made it is.
func (j *job) Start(ctx context.Context, _ fence.Claim) error {
	w, p := j.d.w, &j.d.h.c.plan
	switch {
	case w.often(p.startFails):
		return fmt.Errorf("%w: no such program", airflowctl.ErrRefused)
	case w.often(p.startBreaks):
		return errBroken
	}
	if p.startLong { // a scheduler that is to import first
		w.sleep(ctx, w.span(0, p.startMost))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.sleep(context.WithoutCancel(ctx), w.span(time.Millisecond, p.startMost)) // fork and exec on a busy host
	j.current = j.d.h.start(j.d, j.granted)
	return nil
}

// errBroken is something that may go better next time.
var errBroken = errors.New("the kernel has no memory for that")

// Stop ends the process tree of an epoch.
func (j *job) Stop(ctx context.Context, epoch uint64, grace time.Duration) error {
	p := j.current
	if p == nil || p.as.epoch != epoch {
		return nil
	}
	if j.d.w.often(j.d.h.c.plan.stopBreaks) {
		return errBroken
	}
	p.terminate()
	if j.d.h.c.faulty.noWait {
		return nil
	}
	due := false
	e := j.d.w.in(j.d.real(grace), j.d.actor, func() { due = true })
	j.d.w.wait(func() bool { return due || ctx.Err() != nil || p.dead })
	j.d.w.cancel(e)
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
func (j *job) Mirror(ctx context.Context, _ fence.Claim) error { return j.write(ctx, j.granted) }

// Doctor implements node.HostedJob.
func (j *job) Doctor(context.Context) (fence.Report, error) { return fence.Report{}, nil }

// Status implements node.HostedJob.
func (j *job) Status() airflowctl.Status { return airflowctl.Status{Warm: true} }

// Output implements node.HostedJob.
func (j *job) Output(airflowctl.Mark, int) ([]string, airflowctl.Mark, error) {
	return nil, airflowctl.Mark{}, nil
}

// Detail implements node.HostedJob.
func (j *job) Detail() (airflowctl.Detail, error) { return airflowctl.Detail{}, nil }

// Runs implements node.HostedJob.
func (j *job) Runs(context.Context, int) ([]fence.PastRun, error) { return nil, nil }
