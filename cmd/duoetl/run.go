package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
)

// pick is what the flags of run and its kin say.
type pick struct {
	chunks        []string
	from, to      string
	force, accept bool
}

func (p *pick) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&p.chunks, "chunk", nil, "only this chunk, such as 2018 or 2020-05; repeatable")
	cmd.Flags().StringVar(&p.from, "from", "", "first year or month (default: the window's)")
	cmd.Flags().StringVar(&p.to, "to", "", "last year or month (default: the window's)")
}

func (p *pick) writes(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.force, "force", false, "chunks that are up to date too")
	cmd.Flags().BoolVar(&p.accept, "accept", false, "chunks that have shrunk by more than half since they were loaded")
}

func (p *pick) selection() (etl.Selection, error) {
	s := etl.Selection{Force: p.force, Accept: p.accept}
	var err error
	if s.Chunks, err = chunksOf(p.chunks); err != nil {
		return s, err
	}
	for _, end := range []struct {
		text string
		into *tile.Chunk
	}{{p.from, &s.From}, {p.to, &s.To}} {
		if end.text == "" {
			continue
		}
		if len(s.Chunks) > 0 {
			return s, usageError{"give --chunk, or --from and --to, not both"}
		}
		c, err := chunksOf([]string{end.text})
		if err != nil {
			return s, err
		}
		*end.into = c[0]
	}
	return s, nil
}

func newPlan(a *app) *cobra.Command {
	var p pick
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a run would do",
		Long: `Plan asks the source for its state, and S3 once for each chunk. It changes nothing: the database is opened read-only, and
no epoch is needed. The exit code is 1 if the source of a chunk cannot be read; the chunk is then "unknown".`,
		Example: example("duoetl plan", "duoetl plan --from 2015 --to 2018 -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.selection()
			if err != nil {
				return err
			}
			return a.looking(cmd.Context(), func(pipeline *etl.Pipeline) error {
				plan, err := pipeline.Plan(cmd.Context(), s)
				if err != nil {
					return err
				}
				if err := a.print(plan, func(w io.Writer) { writePlan(w, plan) }); err != nil {
					return err
				}
				return known(plan)
			})
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&p.force, "force", false, "as if nothing were up to date")
	return cmd
}

// known is an error if something of the plan is not.
func known(plan etl.Plan) error {
	unknown := 0
	for _, c := range plan.Chunks {
		if c.State == etl.ChunkUnknown {
			unknown++
		}
	}
	if unknown > 0 {
		return fmt.Errorf("the source of %d of %d chunks cannot be read", unknown, len(plan.Chunks))
	}
	return nil
}

func writePlan(w io.Writer, plan etl.Plan) {
	g := grid.Grid{Head: []string{"Chunk", "State", "Why", "Bytes", "Rows loaded"}}
	for _, c := range plan.Chunks {
		g.Add(string(c.Chunk), c.State, c.Why, amount(float64(c.Bytes)), amount(float64(c.Rows)))
	}
	g.Write(w)
	bytes, about := "", ""
	if plan.Bytes > 0 {
		bytes = ", " + amount(float64(plan.Bytes)) + " bytes"
	}
	if plan.Estimate > 0 {
		about = ", about " + grid.Took(plan.Estimate)
	}
	fmt.Fprintf(w, "%d of %d chunks to do%s%s%s\n", plan.Work, len(plan.Chunks), bytes, about, badge(plan.Synthetic))
	if plan.Engines.Advice != "" {
		fmt.Fprintln(w, plan.Engines.Advice)
	}
}

func badge(synthetic bool) string {
	if synthetic {
		return "; SYNTHETIC data, made up and not observed"
	}
	return ""
}

func newRun(a *app) *cobra.Command {
	return a.runner(&cobra.Command{
		Use: "run", Short: "Do what is not done", Args: cobra.NoArgs,
		Long: `Run brings every chunk of the window, or those that are named, up to date. With nothing new it asks S3 once for each
chunk, says so and ends. Progress goes to standard error: drawn on a terminal, else one JSON line a second.

A chunk that fails does not stop the others. The exit code says what is left to do:
  0  nothing: every chunk is up to date
  3  somebody has to look: what failed was refused for its data (a quality gate), no other try mends that; all
     other chunks are up to date, if there are others
  5  run again: some chunks are up to date, some failed for another reason than their data, or for both
  1  run again: no chunk is up to date, or the run ended before its last chunk (database full, tables changed)
  4  nothing, here: another epoch of the job has taken over; told before all else
A chunk that has shrunk by more than half is such a refusal; --accept takes it.`,
		Example: example("duoetl run", "duoetl run --chunk 2018 --accept"),
	}, nil)
}

func newResume(a *app) *cobra.Command {
	return a.runner(&cobra.Command{
		Use: "resume", Short: "Go on where a run was interrupted", Args: cobra.NoArgs,
		Long: `Resume does what is not done, as run does: a step whose manifest is there is not done again, and a copy goes on with the
parts that are missing.`,
		Example: example("duoetl resume"),
	}, nil)
}

func newBackfill(a *app) *cobra.Command {
	return a.runner(&cobra.Command{
		Use: "backfill --from YEAR --to YEAR", Short: "Bring years outside the window up to date", Args: cobra.NoArgs,
		Long:    "Backfill is run over years, or months, that it has to be told, whether they lie in the window or not.",
		Example: example("duoetl backfill --from 1987 --to 1999"),
	}, func(s *etl.Selection, _ []string) error {
		if s.From == "" || s.To == "" {
			return usageError{"backfill needs --from and --to"}
		}
		return nil
	})
}

func newStep(a *app) *cobra.Command {
	var look bool
	cmd := a.runner(&cobra.Command{
		Use: "step NAME --chunk CHUNK", Short: "Do one step of chunks whose steps before it are done", Args: cobra.ExactArgs(1),
		Long: "Step is for workflows that order the steps themselves. The steps are " + strings.Join(etl.Steps(), ", ") + `.
With --look nothing is done or written, and no epoch is needed: exit code 0 says that the step is done for the source as
it is now, 5 that it is not.`,
		Example: example("duoetl step copy --chunk 2018", "duoetl step ingest --chunk 2018 --look"),
	}, func(s *etl.Selection, args []string) error {
		if !slices.Contains(etl.Steps(), args[0]) {
			return usageError{fmt.Sprintf("step %q is unknown; there are %s", args[0], strings.Join(etl.Steps(), ", "))}
		}
		if len(s.Chunks) == 0 {
			return usageError{"step needs --chunk"}
		}
		s.Only, s.Look = args[0], look
		return nil
	})
	cmd.Flags().BoolVar(&look, "look", false, "only tell whether it is done")
	return cmd
}

// runner completes a command that does work on the chunks its flags select; refine, unless nil, checks and narrows these.
func (a *app) runner(cmd *cobra.Command, refine func(*etl.Selection, []string) error) *cobra.Command {
	var p pick
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := p.selection()
		if err != nil {
			return err
		}
		if refine != nil {
			if err := refine(&s, args); err != nil {
				return err
			}
		}
		return a.run(cmd.Context(), s)
	}
	p.flags(cmd)
	p.writes(cmd)
	return cmd
}

// run shows the report of a run that failed too.
func (a *app) run(ctx context.Context, s etl.Selection) error {
	open := a.opened
	if s.Look {
		open = a.looking
	}
	return open(ctx, func(p *etl.Pipeline) error {
		stop, ended := a.follow(p.Meter()), a.tell(p.Meter())
		report, failed := p.Run(ctx, s)
		stop()
		ended(report, failed)
		if len(report.Chunks) > 0 {
			if err := a.print(report, func(w io.Writer) { writeReport(w, report) }); err != nil {
				return err
			}
		}
		return failed
	})
}

func writeReport(w io.Writer, r etl.Report) {
	if r.Unchanged == len(r.Chunks) {
		fmt.Fprintf(w, "nothing new: %s up to date (%s)%s\n", chunks(r.Unchanged), grid.Took(r.Took), badge(r.Synthetic))
		return
	}
	g := grid.Grid{Head: []string{"Chunk", "State", "Rows", "Strikes", "Quarantined", "Steps done", "Error"}}
	for _, c := range r.Chunks {
		var steps []string
		for _, s := range c.Steps {
			steps = append(steps, s.Step+" "+grid.Took(s.Took))
		}
		g.Add(string(c.Chunk), grid.OrDash(c.State), fmt.Sprint(c.Rows), fmt.Sprint(c.Strikes), fmt.Sprint(c.Quarantined), grid.OrDash(strings.Join(steps, ", ")), grid.OrDash(c.Error))
	}
	g.Write(w)
	fmt.Fprintf(w, "%d done, %d up to date, %d failed in %s%s\n", r.Done, r.Unchanged, r.Failed, grid.Took(r.Took), badge(r.Synthetic))
}
