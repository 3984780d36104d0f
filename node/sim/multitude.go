package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/lease"
)

// multitude is many jobs on the hosts of a world, to see what they cost the nodes and the log. A job of it has a fence row and
// takes its time to be fenced, drained, started and stopped; it has no process, no roles and no sessions, so that nothing is said
// here about safety: that is what the one job of the other worlds is for.
type multitude struct {
	w    *world
	jobs map[string]node.Job
	rows map[lease.JobName]fence.Row
	// hosted are the jobs of each host's newest daemon, by host and then by name.
	hosted map[string][]*stubJob
	begun  map[lease.JobName]beginning
}

// beginning is the epoch of a job that was started last, and when.
type beginning struct {
	epoch uint64
	at    instant
}

func newMultitude(w *world, count int) *multitude {
	m := &multitude{
		w: w, jobs: map[string]node.Job{}, rows: map[lease.JobName]fence.Row{}, hosted: map[string][]*stubJob{}, begun: map[lease.JobName]beginning{},
	}
	for i := range count {
		m.jobs[fmt.Sprintf("job%05d", i)] = node.Job{Kind: "command", Command: []string{"work"}, Grace: time.Second}
	}
	return m
}

// on are the jobs as a daemon hosts them. What they see of the metastore comes in soon.
func (m *multitude) on(d *daemon) map[lease.JobName]node.HostedJob {
	all := map[lease.JobName]node.HostedJob{}
	m.hosted[d.h.name] = nil
	for _, name := range sortedJobs(m.jobs) {
		j := &stubJob{m: m, d: d, name: name, events: d.wire.Job(name)}
		all[name] = j
		m.hosted[d.h.name] = append(m.hosted[d.h.name], j)
		m.w.in(m.w.span(time.Millisecond, 20*time.Millisecond), d.actor, j.look)
	}
	return all
}

func sortedJobs(jobs map[string]node.Job) []lease.JobName {
	names := make([]lease.JobName, 0, len(jobs))
	for name := range jobs {
		names = append(names, lease.JobName(name))
	}
	slices.Sort(names)
	return names
}

// notify has all daemons look at a row that has changed.
func (m *multitude) notify(name lease.JobName) {
	for _, host := range []string{"a", "b"} {
		i, ok := slices.BinarySearchFunc(m.hosted[host], name, func(j *stubJob, name lease.JobName) int {
			return cmp.Compare(j.name, name)
		})
		if ok {
			j := m.hosted[host][i]
			m.w.in(m.w.span(100*time.Microsecond, 2*time.Millisecond), j.d.actor, j.look)
		}
	}
}

// stubJob is one job of a multitude as one daemon hosts it.
type stubJob struct {
	m      *multitude
	d      *daemon
	name   lease.JobName
	events *node.JobEvents
}

// look tells the daemon what the row says.
func (j *stubJob) look() {
	row := j.m.rows[j.name]
	j.events.Health(fence.Health{Reachable: true, Writable: true, Row: row, HighestRole: row.Epoch})
}

// step takes the time of one step of a takeover, a millisecond or more.
func (j *stubJob) step(ctx context.Context, most time.Duration) error {
	if !j.m.w.sleep(ctx, j.m.w.span(time.Millisecond, most)) {
		return ctx.Err()
	}
	return nil
}

// Take implements node.HostedJob.
func (j *stubJob) Take(ctx context.Context, claim fence.Claim) error {
	if err := j.step(ctx, 5*time.Millisecond); err != nil {
		return err
	}
	row := j.m.rows[j.name]
	switch {
	case row.Epoch == claim.Epoch && row.Token == claim.Token:
		return nil
	case row.Epoch >= claim.Epoch:
		return fmt.Errorf("%w: row is at epoch %d", airflowctl.ErrSuperseded, row.Epoch)
	}
	j.m.rows[j.name] = fence.Row{Epoch: claim.Epoch, Node: claim.Node, Token: claim.Token}
	j.m.notify(j.name)
	return nil
}

// Drain implements node.HostedJob.
func (j *stubJob) Drain(ctx context.Context, _ fence.Claim) error {
	return j.step(ctx, 5*time.Millisecond)
}

// Start implements node.HostedJob.
func (j *stubJob) Start(ctx context.Context, claim fence.Claim) error {
	if err := j.step(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	j.m.begun[j.name] = beginning{claim.Epoch, j.m.w.now}
	return nil
}

// Detail implements node.HostedJob.
func (j *stubJob) Detail() (airflowctl.Detail, error) { return airflowctl.Detail{}, nil }

// Runs implements node.HostedJob.
func (j *stubJob) Runs(context.Context, int) ([]fence.PastRun, error) { return nil, nil }

// Stop implements node.HostedJob.
func (j *stubJob) Stop(ctx context.Context, _ uint64, _ time.Duration) error {
	return j.step(ctx, 5*time.Millisecond)
}

// Run implements node.HostedJob; nobody calls it here.
func (j *stubJob) Run(context.Context) error { panic("sim: a job is not run") }

// Clear implements node.HostedJob: there are no processes.
func (j *stubJob) Clear(context.Context) error { return nil }

// Adopt implements node.HostedJob: there is nothing to adopt.
func (j *stubJob) Adopt(context.Context, fence.Claim) error { return nil }

// Surrender implements node.HostedJob: there are no roles.
func (j *stubJob) Surrender(context.Context, fence.Claim) error { return nil }

// Mirror implements node.HostedJob.
func (j *stubJob) Mirror(context.Context, fence.Claim) error { return nil }

// Doctor implements node.HostedJob.
func (j *stubJob) Doctor(context.Context) (fence.Report, error) { return fence.Report{}, nil }

// Status implements node.HostedJob.
func (j *stubJob) Status() airflowctl.Status { return airflowctl.Status{} }

// Output implements node.HostedJob.
func (j *stubJob) Output(airflowctl.Mark, int) ([]string, airflowctl.Mark, error) {
	return nil, airflowctl.Mark{}, nil
}
