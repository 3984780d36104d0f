package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
)

func newDiffEngines(a *app) *cobra.Command {
	var p pick
	partitions := []int{1, 2, 8}
	cmd := &cobra.Command{
		Use:   "diff-engines",
		Short: "Add chunks up by DuckDB and by Spark, and compare",
		Long: `Diff-engines adds up chunks that ingest is done with by both engines, whichever is configured: by Spark with the work cut
into several numbers of parts, by both from the canonical file and from one with its rows shuffled. All results must be the
same to the byte. It changes nothing in the database; the shuffled file is put into S3 and removed again. Spark is found as
engine.spark says. The exit code is 1 if something differs.`,
		Example: example("duoetl diff-engines --chunk 2018", "duoetl diff-engines --from 2017 --to 2018 --partitions 1,2,8 -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.selection()
			if err != nil {
				return err
			}
			for _, parts := range partitions {
				if parts < 1 {
					return usageError{fmt.Sprintf("%d is no number of partitions", parts)}
				}
			}
			return a.looking(cmd.Context(), func(pipeline *etl.Pipeline) error {
				runs, differ := []etl.EngineRun{}, 0
				err := pipeline.DiffEngines(cmd.Context(), s, partitions, func(r etl.EngineRun) {
					if runs = append(runs, r); r.Difference != "" {
						differ++
					}
				})
				if err != nil && len(runs) == 0 {
					return err
				}
				if printed := a.print(runs, func(w io.Writer) { writeEngineRuns(w, runs, differ) }); printed != nil {
					return printed
				}
				if err == nil && differ > 0 {
					return fmt.Errorf("%d of %d results differ from DuckDB's", differ, len(runs))
				}
				return err
			})
		},
	}
	p.flags(cmd)
	cmd.Flags().IntSliceVar(&partitions, "partitions", partitions, "in how many parts Spark's work is cut, one after the other")
	return cmd
}

func writeEngineRuns(w io.Writer, runs []etl.EngineRun, differ int) {
	g := grid.Grid{Head: []string{"Chunk", "Engine", "Input", "Parts", "Rows", "sha256", "Took", "Difference"}}
	for _, r := range runs {
		parts := grid.Dash
		if r.Partitions > 0 {
			parts = fmt.Sprint(r.Partitions)
		}
		g.Add(string(r.Chunk), r.Engine, r.Input, parts, fmt.Sprint(r.Rows), r.Hash[:16], grid.Took(r.Took), grid.OrDash(r.Difference))
	}
	g.Write(w)
	if differ == 0 {
		fmt.Fprintf(w, "%d results, the same to the byte for each chunk\n", len(runs))
	}
}
