package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// watch shows each change of the job's states until the returned function is called, which waits for
// the last line. What cannot be asked is not shown: the request itself says how it ends.
func (a *app) watch(ctx context.Context, via *link, job string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.follow(ctx, via, job)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (a *app) follow(ctx context.Context, via *link, job string) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	shown := ""
	for {
		if answer, err := statusCall(ctx, via.admin); err == nil {
			if line := stateLine(answer, job); line != shown {
				fmt.Fprintln(grid.Printable{W: a.err}, line)
				shown = line
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// stateLine is the job in one line: "epoch 13 granted: a stopping, b standby".
func stateLine(s *duoflowv1.StatusResponse, name string) string {
	for _, job := range s.GetJobs() {
		if job.GetName() != name {
			continue
		}
		var states []string
		for _, n := range job.GetNodes() {
			state := n.GetNode() + " " + grid.OrDash(n.GetState())
			switch has := n.GetEpoch(); {
			case n.GetState() == "standby" || has == 0 || has == job.GetEpoch():
			case has < job.GetEpoch(): // what it said last; it may be dead
				state += " in epoch " + epochText(has) + ", which is over"
			default: // who answers has just woken up, and does not know it yet
				state += " in epoch " + epochText(has)
			}
			states = append(states, state)
		}
		return fmt.Sprintf("epoch %s %s: %s", epochText(job.GetEpoch()), grid.OrDash(job.GetPhase()), strings.Join(states, ", "))
	}
	return "job " + name + " is not shown"
}
