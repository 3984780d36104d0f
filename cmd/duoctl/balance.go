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

// asksBalance reports whether a switchover is to spread all jobs, and refuses what has no meaning then.
func asksBalance(cmd *cobra.Command) (bool, error) {
	if on, _ := cmd.Flags().GetBool("balance"); !on {
		return false, nil
	}
	for _, flag := range []string{"job", "to", "in", "at", "wait"} {
		if cmd.Flags().Changed(flag) {
			return false, usage("--balance and --"+flag+" are both given", "--balance moves several jobs, one after the other, and waits for each; leave the other out")
		}
	}
	return true, nil
}

// balance spreads the jobs over the nodes as the cluster plans it, one after the other. It ends at the first that is not moved, for
// then the plan is not good any more.
func (a *app) balance(ctx context.Context, t transfer) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	plan, via, err := a.lookSpread(ctx, links)
	if err != nil {
		return err
	}
	stale := staleness(plan.GetView(), via)
	if t.dryRun || stale != nil || len(plan.GetMoves()) == 0 { // one node's view is worth a look, and no move
		if err := a.print(spreadObject(plan, nil), func(w io.Writer) { writeSpread(w, plan) }); err != nil {
			return err
		}
		return stale
	}
	if !t.yes {
		writeSpread(grid.Printable{W: a.err}, plan) // not to out: that holds the answer only
		if err := a.confirm(ctx, fmt.Sprintf("make these %d moves, one after the other?", len(plan.GetMoves()))); err != nil {
			return err
		}
	}
	done, stopped := a.makeMoves(ctx, via, t, plan.GetMoves())
	if err := a.print(spreadObject(plan, done), func(w io.Writer) { writeMoves(w, plan, done) }); err != nil {
		return err
	}
	return stopped
}

func (a *app) lookSpread(ctx context.Context, links []*link) (*duoflowv1.SpreadResponse, *link, error) {
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	return best(ctx, links, func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.SpreadResponse, error) {
		return admin.Spread(ctx, &duoflowv1.SpreadRequest{})
	})
}

// makeMoves returns what was done, and why it ended before all was. --timeout is for each move.
func (a *app) makeMoves(
	ctx context.Context, via *link, t transfer, moves []*duoflowv1.SpreadMove,
) (done []*duoflowv1.TransferResponse, stopped error) {
	for _, move := range moves {
		t.job, t.to = move.GetJob(), move.GetTo()
		began := time.Now()
		answer, err := a.makeMove(ctx, via, t, move.GetEpoch())
		if err != nil {
			return done, err
		}
		done = append(done, answer)
		if err := verdict(t, via, answer); err != nil {
			return done, err
		}
		if a.tabular() {
			fmt.Fprintf(grid.Printable{W: a.err}, "%s moved from %s to %s (%s)\n", t.job, move.GetFrom(), t.to, millisText(float64(time.Since(began).Milliseconds())))
		}
	}
	return done, nil
}

func (a *app) makeMove(ctx context.Context, via *link, t transfer, epoch uint64) (*duoflowv1.TransferResponse, error) {
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	answer, err := t.call(ctx, via.admin, epoch)
	if err != nil {
		return nil, sent(ctx, via, err, false)
	}
	return answer, nil
}

// spreadObject is the plan and what was done of it.
func spreadObject(plan *duoflowv1.SpreadResponse, done []*duoflowv1.TransferResponse) object {
	answers := make([]any, 0, len(done))
	for _, answer := range done {
		answers = append(answers, objectOf(answer))
	}
	return append(objectOf(plan), member{name: "done", value: answers})
}

func writeSpread(w io.Writer, plan *duoflowv1.SpreadResponse) {
	if len(plan.GetMoves()) == 0 {
		fmt.Fprintln(w, "nothing to move: no move of one job would bring the nodes closer together")
	} else {
		g := &grid.Grid{Head: []string{"JOB", "FROM", "TO", "WEIGHT", "EPOCH"}}
		for _, m := range plan.GetMoves() {
			g.Add(m.GetJob(), m.GetFrom(), m.GetTo(), fmt.Sprint(m.GetWeight()), epochText(m.GetEpoch()))
		}
		g.Write(w)
	}
	g := &grid.Grid{Head: []string{"NODE", "WEIGHT NOW", "AFTER"}}
	for _, l := range plan.GetLoads() {
		g.Add(l.GetNode(), fmt.Sprint(l.GetNow()), fmt.Sprint(l.GetThen()))
	}
	g.Write(w)
}

func writeMoves(w io.Writer, plan *duoflowv1.SpreadResponse, done []*duoflowv1.TransferResponse) {
	completed := 0
	for _, answer := range done {
		if answer.GetCompleted() {
			completed++
		}
	}
	fmt.Fprintf(w, "%d of %d moves made\n", completed, len(plan.GetMoves()))
}
