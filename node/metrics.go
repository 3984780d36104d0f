package node

import (
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
	starts      *prometheus.CounterVec
	suspicions  *prometheus.CounterVec
}

// phaseBuckets cover a takeover from milliseconds to the worst cold start.
var phaseBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "duoflow_transitions_total", Help: "State changes of a job on this host.",
		}, []string{"duoflow_job", "from", "to", "cause"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "duoflow_takeover_phase_seconds", Help: "How long each phase of a takeover by this host took.",
			Buckets: phaseBuckets,
		}, []string{"duoflow_job", "phase"}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "duoflow_job_starts_total", Help: "Process trees of the job that were started on this host.",
		}, []string{"duoflow_job"}),
		suspicions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "duoflow_suspicions_total", Help: "How often this node, as raft leader, began to suspect the job's holder.",
		}, []string{"duoflow_job", "cause"}),
	}
	for _, s := range n.seats { // a counter that is not there before it counts hides its first time from rate()
		for _, cause := range suspectCauses {
			m.suspicions.WithLabelValues(string(s.name), string(cause))
		}
	}
	m.registry.MustRegister(m.transitions, m.phases, m.starts, m.suspicions, &gauges{n: n},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// suspectCauses are those that a leader may suspect a holder for.
var suspectCauses = []lease.Cause{
	lease.CauseFailover, lease.CauseGone, lease.CauseReborn, lease.CauseSilent, lease.CauseGoodbye, lease.CauseBlind, lease.CauseFollow,
}

func (m *metrics) transition(job lease.JobName, t *control.Transition) {
	m.transitions.WithLabelValues(string(job), string(t.From), string(t.To), string(t.Cause)).Inc()
	if t.To == control.Starting {
		m.starts.WithLabelValues(string(job)).Inc()
	}
}

// suspects counts a cause that was not there before.
func (m *metrics) suspects(job lease.JobName, before, now lease.Cause) {
	if now != "" && now != before {
		m.suspicions.WithLabelValues(string(job), string(now)).Inc()
	}
}

func (m *metrics) takeover(job lease.JobName, timings []lease.Timing) {
	for _, t := range timings {
		m.phases.WithLabelValues(string(job), t.Name).Observe(t.Took.Seconds())
	}
}

// Registry returns the node's metrics.
func (n *Node) Registry() *prometheus.Registry { return n.metrics.registry }
