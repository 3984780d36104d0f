package takeover

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// readyWithin is when a side counts as never getting ready. It is a limit, not a measurement.
const readyWithin = 10 * time.Minute

// Side is a way to have a scheduler run: what is compared.
type Side interface {
	// Ready starts what does not run, and says who is to be hit.
	Ready(ctx context.Context) (Target, error)
	// Struck does at once what the side's operator has in place for a scheduler that ended.
	Struck(ctx context.Context) error
}

// Target is the scheduler to be hit.
type Target struct {
	Host  *lab.Host
	Job   int64     // its row
	App   string    // its connections' application_name begins so
	Epoch uint64    // of duoflow; 0: a native one
	Other time.Time // since when the other native scheduler runs; zero: there is none
}

func (t Target) String() string {
	return fmt.Sprintf("host %s with scheduler job %d", t.Host.Name, t.Job)
}

// Native is plain Airflow: one scheduler on each host. The last host is the one to be hit.
type Native struct {
	*World
	hosts []string
	runs  map[string]*instance
}

// instance is one life of a native scheduler.
type instance struct {
	process *lab.Process
	job     int64
	since   time.Time
}

// NewNative starts nothing; see Ready.
func NewNative(w *World, hosts ...string) *Native {
	return &Native{World: w, hosts: hosts, runs: map[string]*instance{}}
}

// Ready starts the schedulers that do not run and waits for their rows.
func (n *Native) Ready(ctx context.Context) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, host := range n.hosts {
		if at := n.runs[host]; at == nil || at.process.Ended() {
			if err := n.start(ctx, host); err != nil {
				return Target{}, err
			}
		}
		// One after the other, so that it is sure whose row is whose.
		if at := n.runs[host]; at.job <= 0 {
			job, err := n.JobAfter(ctx, -at.job)
			if err != nil {
				return Target{}, fmt.Errorf("%w: %s", err, at.process.LogTail(8))
			}
			at.job, at.since = job, time.Now()
		}
	}
	last := n.hosts[len(n.hosts)-1]
	t := Target{Host: n.Lab.Host(last), Job: n.runs[last].job, App: appName(last)}
	if len(n.hosts) > 1 {
		t.Other = n.runs[n.hosts[0]].since
	}
	return t, nil
}

// start starts a scheduler with Airflow's own defaults. Its row is not known yet; job holds the negated id of the newest
// row before it.
func (n *Native) start(ctx context.Context, host string) error {
	newest, err := n.newestJob(ctx)
	if err != nil {
		return err
	}
	spec := n.Airflow.Scheduler()
	spec.Env = append(spec.Env, "PGAPPNAME="+appName(host)) // says whose a lock is; Airflow sets none
	process, err := n.Lab.Host(host).Start(spec)
	if err != nil {
		return err
	}
	n.runs[host] = &instance{process: process, job: -newest}
	return nil
}

func appName(host string) string { return "native/" + host }

// Struck is the supervisor of a single scheduler; of two, the other one goes on.
func (n *Native) Struck(ctx context.Context) error {
	if len(n.hosts) > 1 {
		return nil
	}
	return n.start(ctx, n.hosts[0])
}

// Managed is duoflow: two hosts and a tie-breaker.
type Managed struct {
	*World
	Cluster *lab.Cluster
	warm    bool
}

// Job is the name of the job that duoflow keeps running.
const Job = "scheduler"

// NewManaged sets a cluster up and starts nothing; warm keeps an imported scheduler process waiting on the standby. The cluster
// also has the jobs of beside, which may be nil.
func NewManaged(ctx context.Context, w *World, warm bool, beside map[string]lab.Job) (*Managed, error) {
	scheduler := w.Airflow.SchedulerJob()
	scheduler.Warm = warm
	jobs := map[string]lab.Job{Job: scheduler}
	maps.Copy(jobs, beside)
	cluster, err := w.Lab.NewCluster(ctx, w.Airflow.Store(), lab.ClusterOptions{Jobs: jobs, Env: w.Airflow.SchedulerEnv()})
	if err != nil {
		return nil, err
	}
	// No damping: a run makes more failovers in minutes than a site in years.
	for _, n := range cluster.Nodes {
		if err := n.WriteConfig(func(config map[string]any) { config["calm_window"] = "0s" }); err != nil {
			return nil, err
		}
	}
	return &Managed{World: w, Cluster: cluster, warm: warm}, nil
}

// Ready starts the nodes that do not run, and waits until one is active and another could take over at once.
func (m *Managed) Ready(ctx context.Context) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, node := range m.Cluster.Nodes { // the order does not matter
		if p := node.Process(); p == nil || p.Ended() {
			if err := node.Start(); err != nil {
				return Target{}, err
			}
		}
	}
	active, err := m.AwaitStandby(ctx)
	if err != nil {
		return Target{}, err
	}
	row, err := m.JobAfter(ctx, 0)
	return Target{Host: m.Lab.Host(active.Node), Job: row, App: "duoflow/" + active.Node + "/", Epoch: active.Epoch}, err
}

// AwaitStandby waits until a host is active and another one could take over at once.
func (m *Managed) AwaitStandby(ctx context.Context) (lab.Active, error) {
	for {
		active, err := m.Cluster.AwaitActive(ctx, Job, 0)
		if err != nil {
			return active, err
		}
		if m.standbyReady(ctx, active) {
			return active, nil
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return active, fmt.Errorf("wait for a standby: %w; logs are in %s", err, filepath.Join(m.Lab.Dir, "logs"))
		}
	}
}

func (m *Managed) standbyReady(ctx context.Context, active lab.Active) bool {
	status, err := m.Cluster.Status(ctx)
	if err != nil {
		return false
	}
	for _, job := range status.GetJobs() {
		if job.GetName() != Job || job.GetEpoch() != active.Epoch {
			continue
		}
		for _, on := range job.GetNodes() {
			if on.GetNode() != active.Node && on.GetEligible() && (on.GetWarmReady() || !m.warm) {
				return true
			}
		}
	}
	return false
}

// Struck leaves it to duoflow.
func (m *Managed) Struck(context.Context) error { return nil }
