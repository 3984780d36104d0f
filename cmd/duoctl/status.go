package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, and which of them is active for which job",
		Long: `Status shows the nodes, and which of them is active for which job.

Every endpoint is asked until one answers with the authority of a majority. When none does, the local view
of the first that answered is shown, marked STALE with its age, and the exit code is 6.`,
		Example: example("duoctl status", "duoctl status -o json | jq -r '.jobs[] | [.name, .holder] | @tsv'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, from, err := best(ctx, links, statusCall)
	if err != nil {
		return err
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writeStatus(w, answer) }); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

// staleness is the error of a view that is only local; nil when it is authoritative.
func staleness(view *duoflowv1.View, from *link) error {
	if view.GetAuthoritative() {
		return nil
	}
	return &failure{
		code: exitStale,
		what: fmt.Sprintf("%s: not authoritative: %s, %s old",
			from.endpoint, grid.OrDash(view.GetReason()), ageText(view.GetAgeMs())),
		mend: "name more nodes with --endpoint, or bring a majority of them back",
	}
}

func writeStatus(w io.Writer, s *duoflowv1.StatusResponse) {
	if view := s.GetView(); !view.GetAuthoritative() {
		fmt.Fprintf(w, "STALE: %s; this is what node %s knew %s ago\n",
			grid.OrDash(view.GetReason()), s.GetNode(), ageText(view.GetAgeMs()))
	}
	if s.GetLife() != "" && s.GetLife() != "0" {
		fmt.Fprintf(w, "life %s of the cluster: it was restored, or recovered\n", s.GetLife())
	}
	fmt.Fprintf(w, "cluster %s: raft term %d, raft leader %s, applied %d of %d (asked %s)\n",
		s.GetCluster(), s.GetTerm(), grid.OrDash(s.GetLeader()), s.GetApplied(), s.GetCommit(), s.GetNode())
	writeNodes(w, s.GetNodes())
	for _, job := range s.GetJobs() {
		fmt.Fprintln(w)
		writeJob(w, job)
	}
}

func writeNodes(w io.Writer, nodes []*duoflowv1.NodeStatus) {
	g := &grid.Grid{Head: []string{"NODE", "ADDRESS", "VERSION", "RAFT", "GOSSIP", "LINK", "BEAT", "RTT", "FSYNC P99"}}
	for _, n := range nodes {
		name := n.GetName()
		if n.GetWitness() {
			name += " (witness)"
		}
		connection := "down"
		if n.GetConnected() {
			connection = "up"
		}
		g.Add(name, grid.OrDash(n.GetAddress()), grid.OrDash(n.GetVersion()), grid.OrDash(n.GetRaftRole()), grid.OrDash(n.GetGossipState()),
			connection, optionalAge(n.LastBeatAgeMs), millisText(n.GetRttMs()), millisText(n.GetFsyncP99Ms()))
	}
	g.Write(w)
	for _, n := range nodes {
		if n.GetTrouble() != "" {
			fmt.Fprintf(w, "node %s: %s\n", n.GetName(), n.GetTrouble())
		}
	}
}

func writeJob(w io.Writer, job *duoflowv1.JobStatus) {
	fmt.Fprintf(w, "job %s (%s): %s\n", job.GetName(), jobKind(job), strings.Join(jobFacts(job), ", "))
	if job.GetUnsafe() {
		fmt.Fprintf(w, "UNSAFE: %s\n", grid.OrDash(job.GetUnsafeReason()))
	}
	if job.GetSuspectReason() != "" {
		fmt.Fprintf(w, "SUSPECT: %s: %s\n", grid.OrDash(job.GetHolder()), job.GetSuspectReason())
	}
	if job.GetWaitingReason() != "" {
		fmt.Fprintf(w, "WAITING: %s\n", job.GetWaitingReason())
	}
	if p := job.GetPause(); p != nil {
		fmt.Fprintf(w, "PAUSED: %s\n", strings.TrimPrefix(pauseText(p), "paused "))
	}
	if p := job.GetPlanned(); p != nil {
		fmt.Fprintf(w, "planned: %s\n", plannedText(p))
	}
	if p := job.GetPending(); p != nil {
		fmt.Fprintln(w, pendingText(p))
	}
	for _, n := range job.GetNodes() {
		if n.GetStatus() != "" {
			fmt.Fprintf(w, "status of %s, %s ago: %s\n", n.GetNode(), optionalAge(n.StatusAgeMs), n.GetStatus())
		}
		if n.GetSchedule() != "" {
			fmt.Fprintf(w, "schedule on %s: %s\n", n.GetNode(), n.GetSchedule())
		}
	}
	g := &grid.Grid{Head: []string{"NODE", "STATE", "EPOCH", "WARM", "METASTORE", "PROGRESS", "ELIGIBLE"}}
	for _, n := range job.GetNodes() {
		eligible := grid.YesNo(n.GetEligible())
		if n.GetIneligibleReason() != "" {
			eligible += ": " + n.GetIneligibleReason()
		}
		g.Add(n.GetNode(), grid.OrDash(n.GetState()), epochText(n.GetEpoch()), grid.YesNo(n.GetWarmReady()),
			metastoreText(n.GetMetastore()), optionalAge(n.ProgressAgeMs), eligible)
	}
	g.Write(w)
	for _, n := range job.GetNodes() {
		if n.GetDetectionReason() != "" {
			fmt.Fprintf(w, "detection of %s after %d ms: %s\n", n.GetNode(), n.GetDetectionMs(), n.GetDetectionReason())
		}
	}
}

// pendingText is a move that is asked for; nodes of now do not say how long ago.
func pendingText(p *duoflowv1.PendingTransfer) string {
	text := fmt.Sprintf("%s to %s asked", p.GetKind(), anyNode(p.GetTo()))
	if p.GetAgeMs() == 0 {
		return text + " for"
	}
	return text + " " + ageText(p.GetAgeMs()) + " ago"
}

func jobKind(job *duoflowv1.JobStatus) string {
	if job.GetFollow() == "" {
		return job.GetKind()
	}
	return job.GetKind() + ", follows " + job.GetFollow()
}

// jobFacts are the lease, the fence and the mirror in words.
func jobFacts(job *duoflowv1.JobStatus) []string {
	facts := []string{"never granted"}
	if job.GetEpoch() != 0 {
		facts[0] = fmt.Sprintf("epoch %d %s", job.GetEpoch(), grid.OrDash(job.GetPhase()))
		if job.GetHolder() != "" {
			facts[0] += ", holder " + job.GetHolder()
		}
	}
	switch fence := job.GetFence(); {
	case fence == nil:
		facts = append(facts, "fence not read")
	case fence.GetEpoch() == job.GetEpoch():
		facts = append(facts, fmt.Sprintf("fence %d by %s", fence.GetEpoch(), grid.OrDash(fence.GetNode())))
	default:
		facts = append(facts, fmt.Sprintf("fence %d by %s (differs)", fence.GetEpoch(), grid.OrDash(fence.GetNode())))
	}
	if job.MirrorAgeMs != nil {
		facts = append(facts, "mirror "+ageText(job.GetMirrorAgeMs())+" old")
	}
	return facts
}

func metastoreText(m *duoflowv1.MetastoreStatus) string {
	text := grid.Dash
	switch {
	case m == nil:
		return text
	case !m.GetReachable():
		text = "unreachable"
	case !m.GetWritable():
		text = "read only"
	default:
		text = "ok"
	}
	if m.GetError() != "" {
		text += ": " + m.GetError()
	}
	return text
}

func anyNode(name string) string {
	if name == "" {
		return "the best eligible node"
	}
	return name
}
