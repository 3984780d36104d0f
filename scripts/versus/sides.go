package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// readyWithin is when a side counts as never getting ready. It is a limit, not a measurement.
const readyWithin = 4 * time.Minute

// side is a way to have a scheduler run: what is compared.
type side interface {
	// ready starts what does not run, and says who is to be hit.
	ready(ctx context.Context) (target, error)
	// struck does at once what the side's operator has in place for a scheduler that ended.
	struck(ctx context.Context) error
}

// target is the scheduler to be hit.
type target struct {
	host  *lab.Host
	job   int64     // its row
	app   string    // its connections' application_name begins so
	other time.Time // since when the other native scheduler runs; zero: there is none
}

func (t target) String() string {
	return fmt.Sprintf("host %s with scheduler job %d", t.host.Name, t.job)
}

// native is plain Airflow: one scheduler on each host. The last host is the one to be hit.
type native struct {
	*world
	hosts []string
	runs  map[string]*instance
}

// instance is one life of a native scheduler.
type instance struct {
	process *lab.Process
	job     int64
	since   time.Time
}

func newNative(w *world, hosts ...string) *native {
	return &native{world: w, hosts: hosts, runs: map[string]*instance{}}
}

func (n *native) ready(ctx context.Context) (target, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, host := range n.hosts {
		if at := n.runs[host]; at == nil || at.process.Ended() {
			if err := n.start(ctx, host); err != nil {
				return target{}, err
			}
		}
		// One after the other, so that it is sure whose row is whose.
		if at := n.runs[host]; at.job <= 0 {
			job, err := n.jobAfter(ctx, -at.job)
			if err != nil {
				return target{}, fmt.Errorf("%w: %s", err, at.process.LogTail(8))
			}
			at.job, at.since = job, time.Now()
		}
	}
	last := n.hosts[len(n.hosts)-1]
	t := target{host: n.lab.Host(last), job: n.runs[last].job, app: appName(last)}
	if len(n.hosts) > 1 {
		t.other = n.runs[n.hosts[0]].since
	}
	return t, nil
}

// start starts a scheduler with Airflow's own defaults. Its row is not known yet; job holds the negated id of the newest
// row before it.
func (n *native) start(ctx context.Context, host string) error {
	newest, err := n.newestJob(ctx)
	if err != nil {
		return err
	}
	spec := n.airflow.Scheduler()
	spec.Env = append(spec.Env, "PGAPPNAME="+appName(host)) // says whose a lock is; Airflow sets none
	process, err := n.lab.Host(host).Start(spec)
	if err != nil {
		return err
	}
	n.runs[host] = &instance{process: process, job: -newest}
	return nil
}

func appName(host string) string { return "versus/" + host }

// struck is the supervisor of a single scheduler; of two, the other one goes on.
func (n *native) struck(ctx context.Context) error {
	if len(n.hosts) > 1 {
		return nil
	}
	return n.start(ctx, n.hosts[0])
}

// managed is duoflow: two hosts and a tie-breaker.
type managed struct {
	*world
	cluster *lab.Cluster
}

const job = "scheduler"

func newManaged(ctx context.Context, w *world) (*managed, error) {
	cluster, err := w.lab.NewCluster(ctx, w.airflow.Store(), lab.ClusterOptions{
		Jobs: map[string]lab.Job{job: w.airflow.SchedulerJob()}, Env: w.airflow.SchedulerEnv(),
	})
	if err != nil {
		return nil, err
	}
	// No damping: a run makes more failovers in minutes than a site in years.
	for _, n := range cluster.Nodes {
		if err := n.WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" }); err != nil {
			return nil, err
		}
	}
	return &managed{w, cluster}, nil
}

func (m *managed) ready(ctx context.Context) (target, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, node := range m.cluster.Nodes { // the order does not matter
		if p := node.Process(); p == nil || p.Ended() {
			if err := node.Start(); err != nil {
				return target{}, err
			}
		}
	}
	for {
		active, err := m.cluster.AwaitActive(ctx, job, 0)
		if err != nil {
			return target{}, err
		}
		if m.standbyReady(ctx, active) {
			row, err := m.jobAfter(ctx, 0)
			return target{host: m.lab.Host(active.Node), job: row, app: "duoflow/" + active.Node + "/"}, err
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return target{}, fmt.Errorf("wait for a warm standby: %w; logs are in %s", err, filepath.Join(m.lab.Dir, "logs"))
		}
	}
}

// standbyReady tells whether a host other than the active one could take over at once.
func (m *managed) standbyReady(ctx context.Context, active lab.Active) bool {
	status, err := m.cluster.Status(ctx)
	if err != nil || len(status.GetJobs()) == 0 || status.GetJobs()[0].GetEpoch() != active.Epoch {
		return false
	}
	for _, on := range status.GetJobs()[0].GetNodes() {
		if on.GetNode() != active.Node && on.GetWarmReady() && on.GetEligible() {
			return true
		}
	}
	return false
}

// struck leaves it to duoflow.
func (m *managed) struck(context.Context) error { return nil }
