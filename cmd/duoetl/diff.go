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
				runs := []etl.EngineRun{}
				err := pipeline.DiffEngines(cmd.Context(), s, partitions, func(r etl.EngineRun) { runs = append(runs, r) })
				if err != nil && len(runs) == 0 {
					return err
				}
				if printed := a.print(runs, func(w io.Writer) { writeEngineRuns(w, runs) }); printed != nil {
					return printed
				}
				if err != nil {
					return err
				}
				return differing(runs)
			})
		},
	}
	p.flags(cmd)
	cmd.Flags().IntSliceVar(&partitions, "partitions", partitions, "in how many parts Spark's work is cut, one after the other")
	return cmd
}

// differing is an error if a result is not DuckDB's.
func differing(runs []etl.EngineRun) error {
	differ := 0
	for _, r := range runs {
		if r.Difference != "" {
			differ++
		}
	}
	if differ > 0 {
		return fmt.Errorf("%d of %d results differ from DuckDB's", differ, len(runs))
	}
	return nil
}

func writeEngineRuns(w io.Writer, runs []etl.EngineRun) {
	g := grid.Grid{Head: []string{"Chunk", "Engine", "Input", "Parts", "Rows", "sha256", "Took", "Difference"}}
	for _, r := range runs {
		parts := grid.Dash
		if r.Partitions > 0 {
			parts = fmt.Sprint(r.Partitions)
		}
		g.Add(string(r.Chunk), r.Engine, r.Input, parts, fmt.Sprint(r.Rows), r.Hash[:16], grid.Took(r.Took), grid.OrDash(r.Difference))
	}
	g.Write(w)
	if differing(runs) == nil {
		fmt.Fprintf(w, "%d results, the same to the byte for each chunk\n", len(runs))
	}
}
