package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func newExplain(a *app) *cobra.Command {
	request := &duoflowv1.ExplainRequest{}
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Tell how an epoch of a job came to be",
		Long: `Explain tells how an epoch came to be, in the order of causes: the first sign that the epoch before was over, what was
made of it, the agreement, and what the new holder did until the job ran.

AT counts from the first sign. Steps without it stand in the log but are in no measurement. Two nodes measure, and
their clocks are never compared: what lies between their steps is said below.`,
		Example: example("duoctl explain", "duoctl explain --job etl --epoch 7 -o json | jq '.steps[] | [.name, .took_ms] | @tsv'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.explain(cmd.Context(), request) },
	}
	cmd.Flags().StringVar(&request.Job, "job", "scheduler", "the job")
	cmd.Flags().Uint64Var(&request.Epoch, "epoch", 0, "the epoch (default: the present one)")
	return cmd
}

func (a *app) explain(ctx context.Context, request *duoflowv1.ExplainRequest) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, from, err := best(ctx, links,
		func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.ExplainResponse, error) {
			return admin.Explain(ctx, request)
		})
	if err != nil {
		return err
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writeTale(w, answer) }); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

func writeTale(w io.Writer, t *duoflowv1.ExplainResponse) {
	if view := t.GetView(); !view.GetAuthoritative() {
		fmt.Fprintf(w, "STALE: %s, %s old\n", grid.OrDash(view.GetReason()), ageText(view.GetAgeMs()))
	}
	fmt.Fprintf(w, "job %s: %s (epoch %s) -> %s (epoch %s), because %s: %s\n", t.GetJob(), grid.OrDash(t.GetFrom()), epochText(t.GetBefore()),
		t.GetNode(), epochText(t.GetEpoch()), t.GetCause(), grid.OrDash(t.GetDetail()))
	g := &grid.Grid{Head: []string{"AT", "TOOK", "STEP", "NODE", "WHAT", "LOG", "WALL CLOCK"}}
	for _, s := range t.GetSteps() {
		at, index := grid.Dash, grid.Dash
		if s.AtMs != nil {
			at = fmt.Sprintf("%.1f ms", s.GetAtMs())
		}
		if s.GetIndex() > 0 {
			index = fmt.Sprint(s.GetIndex())
		}
		g.Add(at, millisText(s.GetTookMs()), s.GetName(), grid.OrDash(s.GetNode()), s.GetWhat(), index, atText(s.GetAtUnixMs()))
	}
	g.Write(w)
	if t.GetWholeMs() > 0 {
		fmt.Fprintf(w, "whole: %.1f ms, of which %.1f ms are in no step\n", t.GetWholeMs(), t.GetUnaccountedMs())
	}
	for _, remark := range t.GetRemarks() {
		fmt.Fprintf(w, "%s\n", remark)
	}
}
