package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// metrics are what Prometheus reads. Units come last in the names.
type metrics struct {
	registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	phases      *prometheus.HistogramVec
}

// phaseBuckets cover a takeover from milliseconds to the worst cold start.
var phaseBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "duoflow_transitions_total", Help: "State changes of a job on this host.",
		}, []string{"job", "from", "to", "cause"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "duoflow_takeover_phase_seconds", Help: "How long each phase of a takeover by this host took.",
			Buckets: phaseBuckets,
		}, []string{"job", "phase"}),
	}
	m.registry.MustRegister(m.transitions, m.phases, &gauges{n: n},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) transition(job lease.JobName, t *control.Transition) {
	m.transitions.WithLabelValues(string(job), string(t.From), string(t.To), string(t.Cause)).Inc()
}

func (m *metrics) takeover(job lease.JobName, timings []lease.Timing) {
	for _, t := range timings {
		m.phases.WithLabelValues(string(job), t.Name).Observe(t.Took.Seconds())
	}
}

// Registry returns the node's metrics.
func (n *Node) Registry() *prometheus.Registry { return n.metrics.registry }

// gauges reads the present state whenever Prometheus asks.
type gauges struct{ n *Node }

var (
	epochDesc  = prometheus.NewDesc("duoflow_job_epoch", "Epoch of the job's lease.", []string{"job"}, nil)
	fenceDesc  = prometheus.NewDesc("duoflow_fence_epoch", "Epoch of the job's fence row as last seen.", []string{"job"}, nil)
	stateDesc  = prometheus.NewDesc("duoflow_job_state", "1 for the job's state on this host.", []string{"job", "state"}, nil)
	warmDesc   = prometheus.NewDesc("duoflow_standby_warm", "1 when a warm standby process waits.", []string{"job"}, nil)
	storeDesc  = prometheus.NewDesc("duoflow_metastore_healthy", "1 when the job's metastore is reachable and writable.", []string{"job"}, nil)
	lostDesc   = prometheus.NewDesc("duoflow_job_output_lost_lines", "Lines of output that could not be written since the daemon started.", []string{"job"}, nil)
	sayingDesc = prometheus.NewDesc("duoflow_job_status_age_seconds", "Time since the job on this host last wrote what it says of itself.", []string{"job"}, nil)
	mirrorDesc = prometheus.NewDesc("duoflow_mirror_age_seconds", "Time since this host wrote the mirror rows.", []string{"job"}, nil)
	quorumDesc = prometheus.NewDesc("duoflow_quorum", "1 when this node is in touch with a majority and a leader.", nil, nil)
	leaderDesc = prometheus.NewDesc("duoflow_raft_leader", "1 when this node is raft leader.", nil, nil)
	termDesc   = prometheus.NewDesc("duoflow_raft_term", "Raft term.", nil, nil)
	fsyncDesc  = prometheus.NewDesc("duoflow_log_fsync_p99_seconds", "p99 of the log's recent commits.", nil, nil)
	detectDesc = prometheus.NewDesc("duoflow_detection_seconds", "How long a node may be unheard, as the job's holder, before it is suspected.", []string{"job", "peer"}, nil)
	gapDesc    = prometheus.NewDesc("duoflow_beat_gap_seconds", "Time between beats of a node, over the last 10 to 20 minutes.", []string{"job", "peer", "quantile"}, nil)
	refuseDesc = prometheus.NewDesc("duoflow_peer_refused_total", "Connections to the peers' port that were turned away.", []string{"reason"}, nil)
	beatDesc   = prometheus.NewDesc("duoflow_beat_age_seconds", "Time since a node was last heard.", []string{"peer"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, out) }

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	n := g.n
	p, raft := n.snapshot(), n.log.Status()
	send(quorumDesc, number(n.quorum(p)))
	send(leaderDesc, number(raft.Leader == RaftID(n.self)))
	send(termDesc, float64(raft.Term))
	send(fsyncDesc, raft.FsyncP99.Seconds())
	for _, r := range raft.Refused {
		out <- prometheus.MustNewConstMetric(refuseDesc, prometheus.CounterValue, float64(r.Count), string(r.Reason))
	}
	for id, at := range p.heard {
		send(beatDesc, n.machine.Boot().Since(at).Seconds(), string(id))
	}
	for _, s := range n.seats {
		g.collectJob(s, p, send)
	}
}

func (g *gauges) collectJob(s *seat, p picture, send func(*prometheus.Desc, float64, ...string)) {
	job, name := p.jobs[s.name], string(s.name)
	send(epochDesc, float64(g.n.wire.ledger.job(s.name).Epoch), name)
	send(fenceDesc, float64(highestRow(s.name, p).Epoch), name)
	send(stateDesc, 1, name, string(job.state))
	for id, d := range job.detection {
		send(detectDesc, d.After.Seconds(), name, string(id))
		for quantile, gap := range map[string]time.Duration{
			"0.5": d.Gaps.P50, "0.99": d.Gaps.P99, "0.999": d.Gaps.P999, "1": d.Gaps.Longest,
		} {
			send(gapDesc, gap.Seconds(), name, string(id), quantile)
		}
	}
	if s.hosted == nil {
		return
	}
	status := s.hosted.Status()
	send(warmDesc, number(status.Warm), name)
	send(lostDesc, float64(status.LostLines), name)
	send(storeDesc, number(job.said.Healthy), name)
	if status.Line.Text != "" {
		send(sayingDesc, time.Since(status.Line.At).Seconds(), name)
	}
	if !status.MirroredAt.IsZero() {
		send(mirrorDesc, time.Since(status.MirroredAt).Seconds(), name)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
