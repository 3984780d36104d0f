package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/scripts/lab"
)

// hosts are those that run jobs; t is the witness.
var hosts = []string{"a", "b"}

// Limits for what is stuck; nothing is judged by them.
const (
	setUpWithin = 20 * time.Minute
	settleEvery = 200 * time.Millisecond
)

// stage is what runs.
type stage struct {
	lab     *lab.Lab
	cluster *lab.Cluster
	store   *lab.Metastore
	conn    *pgx.Conn
	jobs    int
}

func newStage(ctx context.Context, o options) (*stage, error) {
	s := &stage{jobs: o.jobs}
	if err := s.build(ctx, o); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context, o options) error {
	var err error
	if s.lab, err = lab.Up(ctx, lab.Options{Dir: o.dir, Hosts: []string{"a", "b", "t"}}); err != nil {
		return err
	}
	// Two sessions of each job's fencer on each host, one for a note after a start, and some for people.
	s.store, err = s.lab.StartMetastore(ctx, map[string]string{"max_connections": strconv.Itoa(8*o.jobs + 100)})
	if err != nil {
		return err
	}
	jobs := map[string]lab.Job{}
	for i := range o.jobs {
		// One database, a group for each: what a job costs in sessions is the same with a database for each.
		jobs[fmt.Sprintf("job%03d", i)] = lab.Job{
			Kind: "command", Command: []string{"/bin/sleep", "infinity"}, Group: fmt.Sprintf("group%03d", i),
		}
	}
	if s.cluster, err = s.lab.NewCluster(ctx, s.store, lab.ClusterOptions{Jobs: jobs}); err != nil {
		return err
	}
	if s.conn, err = pgx.Connect(ctx, s.store.Admin()); err != nil {
		return fmt.Errorf("connect to metastore: %w", err)
	}
	return nil
}

// begin starts the daemons and waits until all jobs are active. It returns how long that took, and how many each host has.
func (s *stage) begin(ctx context.Context) (seconds float64, on map[string]int, err error) {
	began := time.Now()
	if err := s.cluster.Start(); err != nil {
		return 0, nil, err
	}
	on, err = s.settled(ctx, func(map[string]int) bool { return true })
	return time.Since(began).Seconds(), on, err
}

// settled waits until every job is active on its holder, and so is what is asked for besides. It returns how many each host has.
func (s *stage) settled(ctx context.Context, also func(on map[string]int) bool) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	for {
		status, err := s.cluster.Status(ctx)
		if err == nil {
			on := active(status)
			if on["a"]+on["b"] == s.jobs && also(on) {
				return on, nil
			}
			err = fmt.Errorf("%v of %d jobs are active", on, s.jobs)
		}
		if waited := lab.Pause(ctx, settleEvery); waited != nil {
			return nil, fmt.Errorf("wait for all jobs: %w; last: %w", waited, err)
		}
	}
}

// active counts the jobs that their holders say are active, by host.
func active(status *duoflowv1.StatusResponse) map[string]int {
	on := map[string]int{}
	if !status.GetView().GetAuthoritative() {
		return on
	}
	for _, j := range status.GetJobs() {
		for _, n := range j.GetNodes() {
			if n.GetNode() == j.GetHolder() && n.GetState() == "active" && n.GetEpoch() == j.GetEpoch() {
				on[n.GetNode()]++
			}
		}
	}
	return on
}

// spread has the operator spread the jobs, and tells how long that took.
func (s *stage) spread(ctx context.Context, r *Report) (seconds float64, err error) {
	began := time.Now()
	output, code, err := s.cluster.Ctl(ctx, "switchover", "--balance", "--yes", "--timeout", "5m")
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, output)
	}
	if err != nil {
		return 0, fmt.Errorf("spread the jobs: %w", err)
	}
	seconds = time.Since(began).Seconds()
	on, err := s.settled(ctx, func(map[string]int) bool { return true })
	if diff := on["a"] - on["b"]; err == nil && (diff < -1 || diff > 1) {
		r.broken = append(r.broken, fmt.Sprintf("after a spread the hosts have %v", on))
	}
	return seconds, err
}

// kill kills a host at once, and returns, in seconds by Postgres's clock, how long it took until each of its jobs was started elsewhere.
func (s *stage) kill(ctx context.Context, victim string) ([]float64, error) {
	before, err := s.epochsOn(ctx, victim)
	if err != nil {
		return nil, err
	}
	var killed time.Time
	if err := s.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&killed); err != nil {
		return nil, fmt.Errorf("read the server's clock: %w", err)
	}
	if err := s.cluster.Nodes[victim].Kill(ctx); err != nil {
		return nil, err
	}
	if _, err := s.settled(ctx, func(on map[string]int) bool { return on[victim] == 0 }); err != nil {
		return nil, err
	}
	return s.startsAfter(ctx, before, killed)
}

// epochsOn are the jobs that a host has, and their epochs.
func (s *stage) epochsOn(ctx context.Context, host string) (map[string]uint64, error) {
	status, err := s.cluster.Status(ctx)
	if err != nil {
		return nil, err
	}
	epochs := map[string]uint64{}
	for _, j := range status.GetJobs() {
		if j.GetHolder() == host {
			epochs[j.GetName()] = j.GetEpoch()
		}
	}
	return epochs, nil
}

// startsAfter reads from the fence's ledger when a process of a later epoch was first given its credentials. The daemon writes that
// down some time after, as it was.
func (s *stage) startsAfter(ctx context.Context, before map[string]uint64, killed time.Time) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	for {
		var took []float64
		for job, epoch := range before {
			var at *time.Time
			err := s.conn.QueryRow(ctx, `SELECT min(at) FROM duoflow.event WHERE job = $1 AND epoch > $2 AND kind = 'start'`, job, int64(epoch)).Scan(&at)
			if err != nil {
				return nil, fmt.Errorf("read ledger: %w", err)
			}
			if at != nil {
				took = append(took, at.Sub(killed).Seconds())
			}
		}
		if len(took) == len(before) {
			return took, nil
		}
		if err := lab.Pause(ctx, settleEvery); err != nil {
			return nil, fmt.Errorf("%d of %d starts are written down: %w", len(took), len(before), err)
		}
	}
}

// back starts a host that was killed, wants it to stay empty, and spreads the jobs again.
func (s *stage) back(ctx context.Context, victim string, r *Report) error {
	if err := s.cluster.Start(victim); err != nil {
		return err
	}
	if err := s.ready(ctx, victim); err != nil {
		return err
	}
	if on, err := s.settled(ctx, func(map[string]int) bool { return true }); err != nil || on[victim] > 0 {
		r.broken = append(r.broken, fmt.Sprintf("host %s came back, and %d jobs moved to it by themselves (%v)", victim, on[victim], err))
	}
	_, err := s.spread(ctx, r)
	return err
}

// ready waits until a host could be granted every job.
func (s *stage) ready(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	for {
		status, err := s.cluster.Status(ctx)
		fit := 0
		for _, j := range status.GetJobs() {
			for _, n := range j.GetNodes() {
				if n.GetNode() == host && n.GetEligible() {
					fit++
				}
			}
		}
		if err == nil && fit == s.jobs {
			return nil
		}
		if waited := lab.Pause(ctx, settleEvery); waited != nil {
			return fmt.Errorf("wait for host %s: %w; %d jobs could be granted to it; last: %w", host, waited, fit, err)
		}
	}
}

func (s *stage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.conn != nil {
		_ = s.conn.Close(ctx) // the server is stopped next
	}
	if s.lab != nil {
		if err := s.lab.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "benchjobs:", err) // what is left is cleaned up at the next start
		}
	}
}
