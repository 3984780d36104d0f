package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// pollEvery is how often a transfer that is waited for is looked at.
const pollEvery = 250 * time.Millisecond

// transfer is a switchover or a failover, as the command line asks for it.
type transfer struct {
	verb              string // switchover | failover | restart
	job, to           string
	in                time.Duration // 0 = now
	at                string        // "" = in
	force             bool
	dryRun, yes, wait bool
}

func newSwitchover(a *app) *cobra.Command {
	t := transfer{verb: "switchover"}
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Move a job to another node while its holder cooperates",
		Long: `Switchover stops the job on its holder, releases its epoch and starts the next one on the other node.

It is asked for the epoch that you were shown: if the job moves between your look and your yes, nothing
is done and the exit code is 6.

With --in or --at it is planned: the cluster does it when the time has come, unless the job changes hands before
or the plan is cancelled (duoctl cancel). The raft leader counts the time from when it learns of the plan, by its
own clock; --at is turned into a length by yours.

With --balance the jobs are spread over the nodes as if all were granted anew, by priority and weight: one after
the other, each waited for, and no further when one of them is not moved. With --dry-run the plan is shown.`,
		Example: example("duoctl switchover --to b", "duoctl switchover --job etl --yes -o json", "duoctl switchover --dry-run",
			"duoctl switchover --to b --at 2026-12-01T03:00:00Z", "duoctl switchover --balance --dry-run"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			balance, err := asksBalance(cmd)
			switch {
			case err != nil:
				return err
			case balance:
				return a.balance(cmd.Context(), t)
			}
			return a.transfer(cmd.Context(), t)
		},
	}
	t.addFlags(cmd)
	cmd.Flags().StringVar(&t.to, "to", "", "the node to move it to (default: the best eligible one)")
	cmd.Flags().DurationVar(&t.in, "in", 0, "plan it for then, up to 720h from now")
	cmd.Flags().StringVar(&t.at, "at", "", "plan it for that time, like 2026-12-01T03:00:00Z")
	cmd.Flags().Bool("balance", false, "instead of one job move as many as it takes to spread all over the nodes")
	return cmd
}

func newRestart(a *app) *cobra.Command {
	t := transfer{verb: "restart"}
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "End a job's present life in order, and begin the next one on the same node",
		Long: `Restart stops the job on its holder, releases its epoch and starts the next one on the same node, with new
credentials: a life is used once. When the node cannot have it any more, another one gets it.`,
		Example: example("duoctl restart", "duoctl restart --job etl --yes -o json", "duoctl restart --dry-run"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.transfer(cmd.Context(), t) },
	}
	t.addFlags(cmd)
	return cmd
}

func newFailover(a *app) *cobra.Command {
	t := transfer{verb: "failover"}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Move a job away from a holder that is presumed lost",
		Long: `Failover takes the job from its holder without asking it: the fence cuts the holder off from the
metastore first. Prefer switchover while the holder is alive.

With --force it also works without quorum: the node that is asked takes the fence in the metastore itself.
That needs the role admin.`,
		Example: example("duoctl failover --to b", "duoctl failover --job scheduler --to b --force"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.transfer(cmd.Context(), t) },
	}
	t.addFlags(cmd)
	cmd.Flags().StringVar(&t.to, "to", "", "the node to move it to (default: the best eligible one)")
	cmd.Flags().BoolVar(&t.force, "force", false, "also without quorum, through the metastore alone")
	return cmd
}

func (t *transfer) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.job, "job", "scheduler", "the job")
	cmd.Flags().BoolVar(&t.dryRun, "dry-run", false, "say what would happen, change nothing")
	cmd.Flags().BoolVarP(&t.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&t.wait, "wait", true, "return when the job is active there, not when the request is accepted")
}

func (a *app) transfer(ctx context.Context, t transfer) error {
	if err := t.settle(time.Now()); err != nil {
		return err
	}
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	before, via, err := a.lookBefore(ctx, links)
	if err != nil {
		return err
	}
	job, err := findJob(before, t.job)
	if err != nil {
		return err
	}
	if !t.dryRun && !t.yes {
		writeStatus(grid.Printable{W: a.err}, before) // not to out: that holds the answer only
		if err := a.confirm(ctx, t.question(job)); err != nil {
			return err
		}
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	answer, err := a.carryOut(ctx, via, t, job)
	if err != nil {
		return err
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writeTransfer(w, t, answer) }); err != nil {
		return err
	}
	return verdict(t, via, answer)
}

// settle turns --at into --in, and knows then whether there is anything to wait for.
func (t *transfer) settle(now time.Time) error {
	if t.at != "" {
		at, err := time.Parse(time.RFC3339, t.at)
		switch {
		case err != nil:
			return usage(fmt.Sprintf("--at %q is no time", t.at), "write it like 2026-12-01T03:00:00Z")
		case t.in != 0:
			return usage("--in and --at are both given", "give one of them")
		case !at.After(now):
			return usage(fmt.Sprintf("--at %s is over", t.at), "give a time that is to come, or leave it out")
		}
		t.in = at.Sub(now).Truncate(time.Millisecond)
	}
	if t.in < 0 {
		return usage(fmt.Sprintf("--in %v is negative", t.in), "write it like 90m")
	}
	t.wait = t.wait && t.in == 0
	return nil
}

// lookBefore has a time limit of its own: the operator's thinking must not eat the transfer's.
func (a *app) lookBefore(ctx context.Context, links []*link) (*duoflowv1.StatusResponse, *link, error) {
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	return best(ctx, links, statusCall)
}

func findJob(s *duoflowv1.StatusResponse, name string) (*duoflowv1.JobStatus, error) {
	var known []string
	for _, job := range s.GetJobs() {
		if job.GetName() == name {
			return job, nil
		}
		known = append(known, job.GetName())
	}
	return nil, usage(fmt.Sprintf("cluster %s has no job %q", s.GetCluster(), name),
		"use --job with one of: "+strings.Join(known, ", "))
}

func (t transfer) question(job *duoflowv1.JobStatus) string {
	from := "no holder"
	if job.GetHolder() != "" {
		from = fmt.Sprintf("%s (epoch %d)", job.GetHolder(), job.GetEpoch())
	}
	question := fmt.Sprintf("%s of job %s from %s to %s", t.verb, job.GetName(), from, anyNode(t.to))
	if t.verb == "restart" {
		question = fmt.Sprintf("restart of job %s on %s", job.GetName(), from)
	}
	if t.in > 0 {
		question += fmt.Sprintf(", in %s", t.in.Round(time.Second))
	}
	if t.force {
		question += ", WITHOUT a majority's consent if there is none"
	}
	return question + "?"
}

// carryOut makes the request. While it runs, the progress is shown to people.
func (a *app) carryOut(
	ctx context.Context, via *link, t transfer, job *duoflowv1.JobStatus,
) (*duoflowv1.TransferResponse, error) {
	if t.wait && !t.dryRun && a.tabular() {
		stop := a.watch(ctx, via, t.job)
		defer stop()
	}
	answer, err := t.call(ctx, via.admin, job.GetEpoch())
	if err != nil {
		return nil, sent(ctx, via, err, t.dryRun)
	}
	return answer, nil
}

func (t transfer) call(
	ctx context.Context, admin duoflowv1.AdminClient, epoch uint64,
) (*duoflowv1.TransferResponse, error) {
	timeout := waitMillis(ctx)
	switch t.verb {
	case "restart":
		return admin.Restart(ctx, &duoflowv1.RestartRequest{
			Job: t.job, DryRun: t.dryRun, Wait: t.wait, TimeoutMs: timeout, ExpectEpoch: epoch,
		})
	case "failover":
		return admin.Failover(ctx, &duoflowv1.FailoverRequest{
			Job: t.job, To: t.to, Force: t.force, DryRun: t.dryRun, Wait: t.wait, TimeoutMs: timeout, ExpectEpoch: epoch,
		})
	}
	return admin.Switchover(ctx, &duoflowv1.SwitchoverRequest{
		Job: t.job, To: t.to, DryRun: t.dryRun, Wait: t.wait, TimeoutMs: timeout, ExpectEpoch: epoch,
		InMs: uint64(t.in.Milliseconds()),
	})
}

// waitMillis leaves the node a little less than our own time, so that its answer says how far it came.
func waitMillis(ctx context.Context) uint64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	left := time.Until(deadline)
	return uint64(max(1, (left - min(left/10, time.Second)).Milliseconds()))
}

// unknownOutcome is for a request that was sent and not answered: it may have been carried out.
func unknownOutcome(ctx context.Context, via *link, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
	default:
		return remote(via.endpoint, err)
	}
	f := &failure{
		code: exitFailed,
		what: fmt.Sprintf("%s: no answer to the request: %s; it may still be carried out", via.endpoint, status.Convert(err).Message()),
		mend: "look with duoctl status before you repeat it",
	}
	if status.Code(err) == codes.DeadlineExceeded && !interrupted(ctx) {
		f.code = exitTimeout
	}
	return f
}

// verdict is the error of an answer that is not what was asked for.
func verdict(t transfer, via *link, answer *duoflowv1.TransferResponse) error {
	where := fmt.Sprintf("%s: %s of job %s", via.endpoint, t.verb, t.job)
	switch {
	case !answer.GetAccepted():
		return &failure{code: exitUnsafe, what: fmt.Sprintf("%s refused: %s", where, grid.OrDash(answer.GetReason()))}
	case t.wait && !t.dryRun && !answer.GetCompleted():
		return &failure{
			code: exitTimeout, what: fmt.Sprintf("%s not completed: %s", where, grid.OrDash(answer.GetReason())),
			mend: "it goes on; look with duoctl status",
		}
	}
	return nil
}

func writeTransfer(w io.Writer, t transfer, answer *duoflowv1.TransferResponse) {
	outcome := "accepted"
	switch {
	case t.dryRun && answer.GetAccepted():
		outcome = "would be accepted (dry run, nothing was changed)"
	case t.dryRun:
		outcome = "would be refused"
	case !answer.GetAccepted():
		outcome = "refused"
	case t.in > 0:
		outcome = fmt.Sprintf("planned, in %s", t.in.Round(time.Second))
	case answer.GetCompleted():
		outcome = "completed"
	}
	fmt.Fprintf(w, "%s of job %s %s: %s (epoch %s) -> %s (epoch %s)\n", t.verb, t.job, outcome,
		grid.OrDash(answer.GetFrom()), epochText(answer.GetEpochBefore()), grid.OrDash(answer.GetTo()), epochText(answer.GetEpochAfter()))
	if answer.GetReason() != "" {
		fmt.Fprintf(w, "reason: %s\n", answer.GetReason())
	}
	if len(answer.GetPhases()) > 0 {
		writePhases(w, answer.GetPhases())
	}
}

func writePhases(w io.Writer, phases []*duoflowv1.PhaseTook) {
	g := &grid.Grid{Head: []string{"PHASE", "TOOK"}}
	total := 0.0
	for _, p := range phases {
		g.Add(p.GetName(), millisText(p.GetMillis()))
		total += p.GetMillis()
	}
	g.Add("total", millisText(total))
	g.Write(w)
}
