package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// order is a wish that holds back, or takes back, what the cluster would do: pause, resume or cancel.
type order struct {
	verb, job     string
	level, reason string
	length        time.Duration // 0 = until it is resumed
	dryRun, yes   bool
	wait          bool
}

func newPause(a *app) *cobra.Command {
	o := order{verb: "pause"}
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Hold back what the cluster does by itself about a job",
		Long: `Pause holds back what the cluster does by itself about a job, at one of three levels:

  moves    the job stays on its node: no failover; a life that ended is followed by one in the same place
  grants   what runs goes on, and when it ends nobody runs the job
  stopped  the holder stops the job in order, and nobody runs it

Under the first two a switchover or failover that an operator asks for is still done. The fence is never
paused. With --for the pause ends by itself; the raft leader counts the time, so it may last longer when the
leader changes or restarts. A pause takes the place of the one before.`,
		Example: example(
			`duoctl pause --for 2h --reason "kernel upgrade of b"`,
			"duoctl pause --job etl --level stopped --yes -o json", "duoctl pause --dry-run"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.order(cmd.Context(), o) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.level, "level", "moves", "moves, grants or stopped")
	cmd.Flags().DurationVar(&o.length, "for", 0, "end it by itself after this time, up to 720h (default: until it is resumed)")
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for those who see it")
	cmd.Flags().BoolVar(&o.wait, "wait", true, "with --level stopped: return when nobody runs the job")
	return cmd
}

func newResume(a *app) *cobra.Command {
	o := order{verb: "resume"}
	cmd := &cobra.Command{
		Use:     "resume",
		Short:   "End a pause",
		Long:    `Resume ends the pause that you were shown. When another took its place meanwhile, nothing is done and the exit code is 6.`,
		Example: example("duoctl resume", "duoctl resume --job etl --yes"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.order(cmd.Context(), o) },
	}
	o.addFlags(cmd)
	return cmd
}

func newCancel(a *app) *cobra.Command {
	o := order{verb: "cancel"}
	cmd := &cobra.Command{
		Use:     "cancel",
		Short:   "Take back a move that is planned, or asked for and not begun",
		Long:    `Cancel takes back a switchover that is planned (switchover --in or --at), or a move that is asked for and that nobody has begun.`,
		Example: example("duoctl cancel", "duoctl cancel --job etl --yes -o json"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.order(cmd.Context(), o) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *order) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.job, "job", "scheduler", "the job")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would happen, change nothing")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

func (a *app) order(ctx context.Context, o order) error {
	if o.length < 0 || o.length%time.Millisecond != 0 {
		return usage(fmt.Sprintf("--for %v is no time in milliseconds", o.length), "write it like 90m")
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
	job, err := findJob(before, o.job)
	if err != nil {
		return err
	}
	if !o.dryRun && !o.yes {
		writeStatus(grid.Printable{W: a.err}, before)
		if err := a.confirm(ctx, o.question(job)); err != nil {
			return err
		}
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	if o.verb == "cancel" {
		return a.cancelMove(ctx, via, o)
	}
	answer, err := o.call(ctx, via.admin, job.GetOrder())
	if err != nil {
		return sent(ctx, via, err, o.dryRun)
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writePause(w, o, answer) }); err != nil {
		return err
	}
	return o.verdict(via, answer.GetAccepted(), answer.GetReason())
}

func (o order) question(job *duoflowv1.JobStatus) string {
	switch o.verb {
	case "resume":
		return fmt.Sprintf("resume job %s, which is %s?", o.job, pauseText(job.GetPause()))
	case "cancel":
		return fmt.Sprintf("take back what is planned or asked for of job %s?", o.job)
	}
	wanted := &duoflowv1.PauseStatus{Level: o.level, ForMs: uint64(o.length.Milliseconds())}
	return fmt.Sprintf("have job %s %s? It is %s now.", o.job, pauseText(wanted), pauseText(job.GetPause()))
}

func (o order) call(ctx context.Context, admin duoflowv1.AdminClient, seen uint64) (*duoflowv1.PauseResponse, error) {
	if o.verb == "resume" {
		return admin.Resume(ctx, &duoflowv1.ResumeRequest{Job: o.job, DryRun: o.dryRun, ExpectOrder: &seen})
	}
	return admin.Pause(ctx, &duoflowv1.PauseRequest{
		Job: o.job, Level: o.level, ForMs: uint64(o.length.Milliseconds()), Reason: o.reason, DryRun: o.dryRun, Wait: o.wait,
		TimeoutMs: waitMillis(ctx), ExpectOrder: &seen,
	})
}

// sent is the error of a request that got no good answer: unless it was refused, or a dry run, it may have been carried out.
func sent(ctx context.Context, via *link, err error, dryRun bool) error {
	if problemOf(err) == nil && !dryRun {
		return unknownOutcome(ctx, via, err)
	}
	return remote(via.endpoint, err)
}

func (a *app) cancelMove(ctx context.Context, via *link, o order) error {
	answer, err := via.admin.Cancel(ctx, &duoflowv1.CancelRequest{Job: o.job, DryRun: o.dryRun})
	if err != nil {
		return sent(ctx, via, err, o.dryRun)
	}
	err = a.print(objectOf(answer), func(w io.Writer) {
		if p := answer.GetPlanned(); p != nil {
			fmt.Fprintf(w, "%s: %s\n", o.outcome(answer.GetAccepted()), plannedText(p))
		}
		if p := answer.GetPending(); p != nil {
			fmt.Fprintf(w, "%s: %s to %s\n", o.outcome(answer.GetAccepted()), p.GetKind(), anyNode(p.GetTo()))
		}
	})
	if err != nil {
		return err
	}
	return o.verdict(via, answer.GetAccepted(), answer.GetReason())
}

func (o order) outcome(accepted bool) string {
	switch {
	case o.dryRun && accepted:
		return o.verb + " of job " + o.job + " would be accepted (dry run, nothing was changed)"
	case o.dryRun:
		return o.verb + " of job " + o.job + " would be refused"
	}
	return o.verb + " of job " + o.job + " accepted"
}

func (o order) verdict(via *link, accepted bool, reason string) error {
	if accepted {
		return nil
	}
	return &failure{
		code: exitUnsafe, what: fmt.Sprintf("%s: %s of job %s refused: %s", via.endpoint, o.verb, o.job, grid.OrDash(reason)),
	}
}

func writePause(w io.Writer, o order, answer *duoflowv1.PauseResponse) {
	fmt.Fprintf(w, "%s: it was %s", o.outcome(answer.GetAccepted()), pauseText(answer.GetBefore()))
	switch {
	case !answer.GetAccepted():
	case o.dryRun:
		fmt.Fprintf(w, ", and would be %s", pauseText(answer.GetAfter()))
	default:
		fmt.Fprintf(w, ", and is %s", pauseText(answer.GetAfter()))
	}
	if answer.GetCompleted() {
		fmt.Fprint(w, "; nobody runs it")
	}
	fmt.Fprintln(w)
}

// pauseText says what a pause is, for whom nothing is paused too.
func pauseText(p *duoflowv1.PauseStatus) string {
	if p == nil {
		return "not paused"
	}
	text := fmt.Sprintf("paused (%s) until it is resumed", p.GetLevel())
	switch {
	case p.LeftMs != nil:
		text = fmt.Sprintf("paused (%s) for another %s", p.GetLevel(), ageText(p.GetLeftMs()))
	case p.GetForMs() > 0:
		text = fmt.Sprintf("paused (%s) for %s", p.GetLevel(), ageText(p.GetForMs()))
	}
	return text + byWhom(p.GetBy(), p.GetReason())
}

func plannedText(p *duoflowv1.PlannedMove) string {
	return fmt.Sprintf("switchover to %s in %s%s", anyNode(p.GetTo()), ageText(p.GetLeftMs()), byWhom(p.GetBy(), ""))
}

func byWhom(who, why string) string {
	text := ""
	if who != "" {
		text = ", by " + who
	}
	if why != "" {
		text += ": " + why
	}
	return text
}
