package node

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/duoflow/duoflow/gossip"
	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

// Operators answers the operators' service from what a node knows; it implements admin.Node.
type Operators struct{ n *Node }

// Operators returns the node's answers to operators. It may be used before and after Run.
func (n *Node) Operators() *Operators { return &Operators{n} }

// Status tells what this node knows of the cluster. It always answers, unless asked to be linearizable; the view says how much
// it is worth.
func (o *Operators) Status(ctx context.Context, req *duoflowv1.StatusRequest) (*duoflowv1.StatusResponse, error) {
	n := o.n
	view, err := n.viewFor(ctx, req.GetLinearizable())
	if err != nil {
		return nil, err
	}
	p, raft := n.snapshot(), n.log.Status()
	answer := &duoflowv1.StatusResponse{
		Cluster: n.cfg.Cluster, Node: string(n.self), View: view,
		Term: raft.Term, Leader: string(n.wire.name(raft.Leader)), Commit: raft.Commit, Applied: raft.Applied,
		Life: raft.Life.String(),
	}
	for _, id := range n.members().ids() {
		answer.Nodes = append(answer.Nodes, n.nodeStatus(id, p, raft))
	}
	for _, s := range n.seats {
		answer.Jobs = append(answer.Jobs, n.jobStatus(s, p))
	}
	return answer, nil
}

// viewFor says how much an answer is worth; for one that is to be linearizable it waits until the ledger is as new as the call.
func (n *Node) viewFor(ctx context.Context, linearizable bool) (*duoflowv1.View, error) {
	if !linearizable {
		return n.view(n.snapshot()), nil
	}
	ctx, cancel := n.machine.Within(ctx, readWithin)
	defer cancel()
	if err := n.log.Read(ctx); err != nil {
		return nil, &admin.Problem{
			Kind: duoflowv1.Problem_KIND_NO_QUORUM, What: fmt.Sprintf("node %s: no majority confirms what is agreed on: %v", n.self, err),
			Mend: "ask another node, or be content with an answer that is not linearizable",
		}
	}
	return &duoflowv1.View{Authoritative: true}, nil
}

// readWithin bounds the wait for a majority's word that an answer is up to date.
const readWithin = 2 * time.Second

func (n *Node) view(p picture) *duoflowv1.View {
	ahead := n.ahead(p)
	if n.quorum(p) && ahead == "" {
		return &duoflowv1.View{Authoritative: true}
	}
	v := &duoflowv1.View{Reason: "local view: " + cmp.Or(ahead, "no quorum")}
	if p.quorumAt != 0 {
		v.AgeMs = millis(n.machine.Boot().Since(p.quorumAt))
	}
	return v
}

func (n *Node) nodeStatus(id lease.NodeID, p picture, raft raftstore.Status) *duoflowv1.NodeStatus {
	known := n.members().get(id)
	status := &duoflowv1.NodeStatus{
		Name: string(id), Witness: known.Witness, Address: known.Peer,
		Connected: connected(raft, id),
	}
	if at, ok := p.heard[id]; ok {
		age := millis(n.machine.Boot().Since(at))
		status.LastBeatAgeMs = &age
		status.Version = p.beats[id].Version
		status.FsyncP99Ms = p.beats[id].Fsync.Seconds() * 1000
		status.Trouble = p.beats[id].trouble()
	}
	switch {
	case known.Joining:
		status.RaftRole = "learner"
	case raft.Leader == 0:
	case raft.Leader == RaftID(id):
		status.RaftRole = "leader"
	case status.GetConnected():
		status.RaftRole = "follower"
	}
	for _, agreed := range n.wire.ledger.nodes() {
		status.Leaving = status.GetLeaving() || (agreed.ID == id && agreed.Leaving)
	}
	n.gossiped(status)
	return status
}

func connected(raft raftstore.Status, id lease.NodeID) bool {
	return slices.ContainsFunc(raft.PeerStates, func(p raftstore.PeerState) bool {
		return p.ID == RaftID(id) && p.Connected
	})
}

func (n *Node) gossiped(status *duoflowv1.NodeStatus) {
	members := n.gossip.Members()
	i := slices.IndexFunc(members, func(m gossip.Member) bool { return m.Node == status.GetName() })
	if i < 0 {
		return
	}
	status.GossipState = string(members[i].State)
	status.RttMs = members[i].RTT.Seconds() * 1000
	status.AdminAddress = members[i].Meta.Admin
	status.Version = cmp.Or(status.GetVersion(), members[i].Meta.Version)
}

func (n *Node) jobStatus(s *seat, p picture) *duoflowv1.JobStatus {
	job, seen := n.wire.ledger.agreed(s.name), p.jobs[s.name]
	status := &duoflowv1.JobStatus{
		Name: string(s.name), Kind: s.cfg.Kind, Follow: s.cfg.Follow,
		Epoch: uint64(job.Epoch), Holder: string(job.Holder), SuspectReason: seen.suspicion.Detail,
		WaitingReason: seen.waits,
	}
	if job.Phase != lease.Vacant {
		status.Phase = string(job.Phase)
	}
	status.Pending, status.Planned, status.Pause = pendingOf(job), n.plannedOf(job, p), n.pauseOf(job, p)
	status.Order = job.Order
	for _, id := range n.members().ids() {
		status.Nodes = append(status.Nodes, jobOnNode(job, id, p, n.machine.Boot()))
	}
	if row := highestRow(s.name, p); row.Epoch > 0 {
		status.Fence = &duoflowv1.FenceRow{Epoch: uint64(row.Epoch), Node: string(row.Node)}
	}
	if n.cfg.Shadow {
		status.Unsafe, status.UnsafeReason = true, shadowReason
	}
	if s.hosted != nil && seen.state == control.Active {
		if at := s.hosted.Status().MirroredAt; !at.IsZero() {
			age := millis(time.Since(at))
			status.MirrorAgeMs = &age
		}
	}
	return status
}

// shadowReason is what everybody is told of a cluster that does nothing.
const shadowReason = "shadow: it is decided and said what would be done, and nothing is done"

func jobOnNode(job lease.Job, id lease.NodeID, p picture, now control.Instant) *duoflowv1.JobOnNode {
	unfit := p.jobs[job.Name].unfit[id]
	on := &duoflowv1.JobOnNode{Node: string(id), Eligible: unfit == "", IneligibleReason: unfit}
	if d := p.jobs[job.Name].detection[id]; d.After > 0 {
		on.DetectionMs, on.DetectionReason = millis(d.After), d.Reason()
	}
	said, ok := p.beats[id].Jobs[job.Name]
	if !ok {
		return on
	}
	on.State, on.Epoch, on.WarmReady = string(said.State), uint64(said.Epoch), said.Warm
	if said.State != control.Witness {
		on.Metastore = &duoflowv1.MetastoreStatus{Reachable: said.Healthy, Writable: said.Healthy}
	}
	l := p.line(job, id, now)
	if l.Text != "" {
		age := millis(l.Age)
		on.Status, on.StatusAgeMs = l.Text, &age
	}
	on.Schedule = l.Slots
	return on
}

func highestRow(job lease.JobName, p picture) control.Row {
	var top control.Row
	for _, b := range p.beats {
		if said := b.Jobs[job]; said.Row.Epoch > top.Epoch {
			top = said.Row
		}
	}
	return top
}

// History lists past transitions of one job or all, the newest first.
func (o *Operators) History(
	ctx context.Context, req *duoflowv1.HistoryRequest,
) (*duoflowv1.HistoryResponse, error) {
	n := o.n
	view, err := n.viewFor(ctx, req.GetLinearizable())
	if err != nil {
		return nil, err
	}
	answer := &duoflowv1.HistoryResponse{View: view}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = math.MaxInt
	}
	var jobs [][]*duoflowv1.HistoryEntry
	for _, s := range n.seats {
		if req.GetJob() != "" && req.GetJob() != string(s.name) {
			continue
		}
		jobs = append(jobs, n.historyOf(s, limit))
	}
	answer.Entries = newestFirst(jobs, limit)
	return answer, nil
}

// newestFirst joins the jobs' entries by their times, which are of several hosts' clocks. A job's own come in the order of the
// log, whatever the clocks say. At most limit are returned.
func newestFirst(jobs [][]*duoflowv1.HistoryEntry, limit int) []*duoflowv1.HistoryEntry {
	var all []*duoflowv1.HistoryEntry
	for len(all) < limit {
		newest := -1
		for i, entries := range jobs {
			if len(entries) > 0 && (newest < 0 || entries[0].GetAtUnixMs() > jobs[newest][0].GetAtUnixMs()) {
				newest = i
			}
		}
		if newest < 0 {
			break
		}
		all, jobs[newest] = append(all, jobs[newest][0]), jobs[newest][1:]
	}
	return all
}

// historyOf lists a job's transitions, at most limit, the newest first.
func (n *Node) historyOf(s *seat, limit int) []*duoflowv1.HistoryEntry {
	var entries []*duoflowv1.HistoryEntry
	for _, e := range slices.Backward(n.wire.ledger.newest(s.name, limit)) {
		entries = append(entries, n.historyEntry(s, e))
	}
	return entries
}

func (n *Node) historyEntry(s *seat, e lease.Entry) *duoflowv1.HistoryEntry {
	phases, whole := split(e.Phases)
	entry := &duoflowv1.HistoryEntry{
		Job: string(s.name), Epoch: uint64(e.Epoch), Node: string(e.Node), Kind: string(e.Kind),
		Reason: reason(e), AtUnixMs: e.At, Phases: phaseTooks(phases), WholeMs: whole.Seconds() * 1000, Index: e.Index,
	}
	if s.hosted != nil && e.Kind == lease.KindRelease {
		entry.LastLines = s.hosted.Status().LastLines[uint64(e.Epoch)]
	}
	return entry
}

func reason(e lease.Entry) string {
	if e.Detail == "" {
		return string(e.Cause)
	}
	return string(e.Cause) + ": " + e.Detail
}

func phaseTooks(timings []lease.Timing) []*duoflowv1.PhaseTook {
	var out []*duoflowv1.PhaseTook
	for _, t := range timings {
		out = append(out, &duoflowv1.PhaseTook{Name: t.Name, Millis: t.Took.Seconds() * 1000})
	}
	return out
}

func millis(d time.Duration) uint64 { return uint64(max(d, 0) / time.Millisecond) }
