package node

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// gauges reads the present state whenever Prometheus asks.
type gauges struct{ n *Node }

var (
	epochDesc  = prometheus.NewDesc("duoflow_job_epoch", "Epoch of the job's lease.", []string{"duoflow_job"}, nil)
	fenceDesc  = prometheus.NewDesc("duoflow_fence_epoch", "Epoch of the job's fence row as last seen.", []string{"duoflow_job"}, nil)
	stateDesc  = prometheus.NewDesc("duoflow_job_state", "1 for the job's state on this host.", []string{"duoflow_job", "state"}, nil)
	warmDesc   = prometheus.NewDesc("duoflow_standby_warm", "1 when a warm standby process waits.", []string{"duoflow_job"}, nil)
	storeDesc  = prometheus.NewDesc("duoflow_metastore_healthy", "1 when the job's metastore is reachable and writable.", []string{"duoflow_job"}, nil)
	lostDesc   = prometheus.NewDesc("duoflow_job_output_lost_lines", "Lines of output that could not be written since the daemon started.", []string{"duoflow_job"}, nil)
	sayingDesc = prometheus.NewDesc("duoflow_job_status_age_seconds", "Time since the job on this host last wrote what it says of itself.", []string{"duoflow_job"}, nil)
	countDesc  = prometheus.NewDesc("duoflow_job_reported", "A number that the job on this host says of itself.", []string{"duoflow_job", "what"}, nil)
	mirrorDesc = prometheus.NewDesc("duoflow_mirror_age_seconds", "Time since this host wrote the mirror rows.", []string{"duoflow_job"}, nil)
	quorumDesc = prometheus.NewDesc("duoflow_quorum", "1 when this node is in touch with a majority and a leader.", nil, nil)
	leaderDesc = prometheus.NewDesc("duoflow_raft_leader", "1 when this node is raft leader.", nil, nil)
	termDesc   = prometheus.NewDesc("duoflow_raft_term", "Raft term.", nil, nil)
	fsyncDesc  = prometheus.NewDesc("duoflow_log_fsync_p99_seconds", "p99 of the log's recent commits.", nil, nil)
	detectDesc = prometheus.NewDesc("duoflow_detection_seconds", "How long a node may be unheard, as the job's holder, before it is suspected.", []string{"duoflow_job", "peer"}, nil)
	gapDesc    = prometheus.NewDesc("duoflow_beat_gap_seconds", "Time between beats of a node, over the last 10 to 20 minutes.", []string{"duoflow_job", "peer", "quantile"}, nil)
	refuseDesc = prometheus.NewDesc("duoflow_peer_refused_total", "Connections to the peers' port that were turned away.", []string{"reason"}, nil)
	beatDesc   = prometheus.NewDesc("duoflow_beat_age_seconds", "Time since a node was last heard.", []string{"peer"}, nil)

	buildDesc   = prometheus.NewDesc("duoflow_build_info", "1, with the version of this daemon.", []string{"version", "goversion"}, nil)
	witnessDesc = prometheus.NewDesc("duoflow_witness", "1 when this node votes and never runs a job.", nil, nil)
	suspectDesc = prometheus.NewDesc("duoflow_job_suspected", "1 while this node, as raft leader, suspects the job's holder.", []string{"duoflow_job"}, nil)
	pausedDesc  = prometheus.NewDesc("duoflow_job_paused", "1 while a pause of that level holds back what the cluster does by itself.", []string{"duoflow_job", "level"}, nil)
	expiryDesc  = prometheus.NewDesc("duoflow_certificate_expires_timestamp_seconds", "When the certificate this node shows ends, in Unix time.", nil, nil)
	hooksDesc   = prometheus.NewDesc("duoflow_hooks_waiting", "Hooks of the job on this host that are still to be told what has happened.", []string{"duoflow_job"}, nil)
	commitDesc  = prometheus.NewDesc("duoflow_raft_commit_index", "Index up to which this node knows the log to be agreed on.", nil, nil)
	appliedDesc = prometheus.NewDesc("duoflow_raft_applied_index", "Index up to which this node has carried out the log.", nil, nil)
	fsyncsDesc  = prometheus.NewDesc("duoflow_log_fsync_seconds", "Durable writes of the log.", nil, nil)
	stuckDesc   = prometheus.NewDesc("duoflow_log_stuck_seconds", "Age of the log's write under way once that is an election timeout; 0 when the disk answers.", nil, nil)
	doubtDesc   = prometheus.NewDesc("duoflow_log_in_doubt", "1 while this node does not vote, because its disk may have forgotten something.", nil, nil)
	linkDesc    = prometheus.NewDesc("duoflow_peer_connected", "1 when this node's streams to a peer are open.", []string{"peer"}, nil)
	receiveDesc = prometheus.NewDesc("duoflow_peer_received_messages_total", "Raft messages that came from a peer.", []string{"peer"}, nil)
	gossipDesc  = prometheus.NewDesc("duoflow_gossip_members", "Nodes by what gossip says of them.", []string{"state"}, nil)
	rttDesc     = prometheus.NewDesc("duoflow_gossip_rtt_seconds", "Smoothed round trip to a node.", []string{"peer"}, nil)
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
	send(buildDesc, 1, n.version, runtime.Version())
	send(witnessDesc, number(n.cfg.Witness))
	if n.certificateEnds != nil {
		send(expiryDesc, float64(n.certificateEnds().Unix()))
	}
	collectLog(raft, send, out)
	g.collectPeers(raft, send, out)
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

func collectLog(raft raftstore.Status, send func(*prometheus.Desc, float64, ...string), out chan<- prometheus.Metric) {
	send(commitDesc, float64(raft.Commit))
	send(appliedDesc, float64(raft.Applied))
	send(fsyncDesc, raft.FsyncP99.Seconds())
	send(stuckDesc, raft.Stuck.Seconds())
	send(doubtDesc, number(raft.Doubt != ""))
	buckets := map[float64]uint64{}
	for bound, count := range raft.Fsyncs.Within {
		buckets[bound.Seconds()] = count
	}
	out <- prometheus.MustNewConstHistogram(fsyncsDesc, raft.Fsyncs.Count, raft.Fsyncs.Sum.Seconds(), buckets)
}

func (g *gauges) collectPeers(raft raftstore.Status, send func(*prometheus.Desc, float64, ...string), out chan<- prometheus.Metric) {
	for _, p := range raft.PeerStates {
		name := string(g.n.wire.name(p.ID))
		if name == string(g.n.self) {
			continue
		}
		send(linkDesc, number(p.Connected), name)
		out <- prometheus.MustNewConstMetric(receiveDesc, prometheus.CounterValue, float64(p.Received), name)
	}
	states := map[string]int{gossip.Alive: 0, gossip.Suspect: 0, gossip.Dead: 0, gossip.Left: 0}
	for _, m := range g.n.gossip.Members() {
		if g.n.members().get(lease.NodeID(m.Node)).ID == "" {
			continue // it was removed, and gossip forgets nobody
		}
		states[m.State]++
		if m.RTT > 0 {
			send(rttDesc, m.RTT.Seconds(), m.Node)
		}
	}
	for state, count := range states {
		send(gossipDesc, float64(count), state)
	}
}

func (g *gauges) collectJob(s *seat, p picture, send func(*prometheus.Desc, float64, ...string)) {
	job, agreed, name := p.jobs[s.name], g.n.wire.ledger.agreed(s.name), string(s.name)
	send(epochDesc, float64(agreed.Epoch), name)
	send(fenceDesc, float64(highestRow(s.name, p).Epoch), name)
	send(stateDesc, 1, name, string(job.state))
	send(suspectDesc, number(job.suspicion.Cause != ""), name)
	for _, level := range []lease.Level{lease.PauseMoves, lease.PauseGrants, lease.PauseStopped} {
		send(pausedDesc, number(agreed.Paused() == level), name, string(level))
	}
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
	send(hooksDesc, float64(status.HooksWaiting), name)
	send(lostDesc, float64(status.LostLines), name)
	send(storeDesc, number(job.said.Healthy), name)
	if status.Line.Text != "" {
		send(sayingDesc, time.Since(status.Line.At).Seconds(), name)
	}
	for _, n := range status.Numbers {
		send(countDesc, n.Value, name, n.Name)
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
