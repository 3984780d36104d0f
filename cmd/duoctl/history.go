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

func newHistory(a *app) *cobra.Command {
	request := &duoflowv1.HistoryRequest{}
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List past transitions, the newest first",
		Long: `History lists past transitions, the newest first, with the reason of each and the time it took.

Times are those of the node's wall clock and for reading only. When the node that answers has no quorum, the
list may lack the newest entries: it is marked STALE and the exit code is 6.`,
		Example: example("duoctl history", "duoctl history --job scheduler --limit 5 -o yaml"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.history(cmd.Context(), request) },
	}
	cmd.Flags().StringVar(&request.Job, "job", "", "only this job (default: every job)")
	cmd.Flags().Uint32Var(&request.Limit, "limit", 50, "at most so many entries, up to 1000")
	return cmd
}

func (a *app) history(ctx context.Context, request *duoflowv1.HistoryRequest) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, from, err := best(ctx, links,
		func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.HistoryResponse, error) {
			return admin.History(ctx, request)
		})
	if err != nil {
		return err
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writeHistory(w, answer) }); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

func writeHistory(w io.Writer, answer *duoflowv1.HistoryResponse) {
	if view := answer.GetView(); !view.GetAuthoritative() {
		fmt.Fprintf(w, "STALE: %s, %s old; the newest entries may be missing\n", grid.OrDash(view.GetReason()), ageText(view.GetAgeMs()))
	}
	g := &grid.Grid{Head: []string{"AT", "JOB", "EPOCH", "KIND", "NODE", "TOOK", "REASON"}}
	for _, e := range answer.GetEntries() {
		g.Add(atText(e.GetAtUnixMs()), e.GetJob(), epochText(e.GetEpoch()), e.GetKind(), grid.OrDash(e.GetNode()),
			millisText(sum(e.GetPhases())), grid.OrDash(e.GetReason()))
	}
	g.Write(w)
	for _, e := range answer.GetEntries() {
		if len(e.GetLastLines()) == 0 {
			continue
		}
		fmt.Fprintf(w, "last output of job %s, epoch %d:\n", e.GetJob(), e.GetEpoch())
		for _, line := range e.GetLastLines() {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

func atText(unixMillis int64) string {
	if unixMillis == 0 {
		return grid.Dash
	}
	return time.UnixMilli(unixMillis).UTC().Format("2006-01-02T15:04:05.000Z")
}

func sum(phases []*duoflowv1.PhaseTook) float64 {
	total := 0.0
	for _, p := range phases {
		total += p.GetMillis()
	}
	return total
}
