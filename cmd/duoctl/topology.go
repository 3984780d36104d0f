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

func newTopology(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "topology",
		Short: "Show who runs what, and who would come next, as a tree",
		Long: `Topology shows each job with its holder above those who could be granted it, the jobs that follow it below, and the nodes
with their links as the answering node sees them. -o json and yaml give what status gives.`,
		Example: example("duoctl topology", "duoctl topology -o json | jq -r '.jobs[].holder'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.topology(cmd.Context()) },
	}
}

func (a *app) topology(ctx context.Context) error {
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
	if err := a.print(objectOf(answer), func(w io.Writer) { writeTree(w, answer) }); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

// branch is a line of a tree, and what hangs below it.
type branch struct {
	text  string
	below []branch
}

func (b branch) write(w io.Writer, first, rest string) {
	fmt.Fprintf(w, "%s%s\n", first, b.text)
	for i, one := range b.below {
		if i == len(b.below)-1 {
			one.write(w, rest+"`- ", rest+"   ")
		} else {
			one.write(w, rest+"|- ", rest+"|  ")
		}
	}
}

func writeTree(w io.Writer, s *duoflowv1.StatusResponse) {
	if view := s.GetView(); !view.GetAuthoritative() {
		fmt.Fprintf(w, "STALE: %s; this is what node %s knew %s ago\n", grid.OrDash(view.GetReason()), s.GetNode(), ageText(view.GetAgeMs()))
	}
	root := branch{text: "cluster " + s.GetCluster()}
	for _, job := range s.GetJobs() {
		if job.GetFollow() == "" {
			root.below = append(root.below, jobBranch(s, job))
		}
	}
	root.below = append(root.below, nodesBranch(s))
	root.write(w, "", "")
}

// jobBranch has the holder first, then the others, then the jobs that go with it.
func jobBranch(s *duoflowv1.StatusResponse, job *duoflowv1.JobStatus) branch {
	b := branch{text: fmt.Sprintf("job %s (%s): %s", job.GetName(), jobKind(job), strings.Join(jobFacts(job), ", "))}
	if p := job.GetPause(); p != nil {
		b.text += ", " + pauseText(p)
	}
	var others []branch
	for _, on := range job.GetNodes() {
		one := branch{text: fmt.Sprintf("%s: %s", on.GetNode(), grid.OrDash(on.GetState()))}
		switch {
		case on.GetNode() == job.GetHolder():
			b.below = append(b.below, one)
			continue
		case on.GetWarmReady():
			one.text += ", warm"
		}
		if on.GetIneligibleReason() != "" {
			one.text += " (" + on.GetIneligibleReason() + ")"
		}
		others = append(others, one)
	}
	b.below = append(b.below, others...)
	for _, other := range s.GetJobs() {
		if other.GetFollow() == job.GetName() {
			b.below = append(b.below, jobBranch(s, other))
		}
	}
	return b
}

func nodesBranch(s *duoflowv1.StatusResponse) branch {
	b := branch{text: fmt.Sprintf("nodes, seen by %s (raft term %d, raft leader %s)", s.GetNode(), s.GetTerm(), grid.OrDash(s.GetLeader()))}
	for _, n := range s.GetNodes() {
		text := fmt.Sprintf("%s %s", n.GetName(), n.GetAddress())
		if n.GetWitness() {
			text += ", witness"
		}
		if n.GetRaftRole() == "learner" {
			text += ", learner"
		}
		if n.GetLeaving() {
			text += ", is being removed"
		}
		switch {
		case n.GetName() == s.GetNode():
		case n.GetConnected():
			text += ", connected"
		default:
			text += ", NOT connected"
		}
		if n.GetTrouble() != "" {
			text += ": " + n.GetTrouble()
		}
		b.below = append(b.below, branch{text: text})
	}
	return b
}
