package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

func sorted(texts []string) []string {
	slices.Sort(texts)
	return texts
}

func newInit(a *app) *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the ledger, tables and views",
		Long: `Init makes what is missing in the target database; it may be run again. It needs an administrator's rights: run it with
such a DSN, or hand the text that --show writes to whoever has them.`,
		Example: example("duoetl init", "duoetl init --show > setup.sql"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show {
				c, err := etl.LoadConfig(a.flags.config)
				if err != nil {
					return err
				}
				text, err := etl.SetupSQL(c)
				if err != nil {
					return err
				}
				fmt.Fprint(a.out, text)
				return nil
			}
			// It changes no data, so a cluster that runs the job is no hindrance: this is how a new version's tables come.
			o := a.options()
			o.Force = true
			return a.open(cmd.Context(), o, func(p *etl.Pipeline) error {
				if err := p.Init(cmd.Context()); err != nil {
					return err
				}
				return a.done("set up", nil)
			})
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "write the SQL instead of running it")
	return cmd
}

// done is the answer of commands that have nothing to show.
func (a *app) done(what string, names []string) error {
	return a.print(map[string]any{"done": what, "names": append([]string{}, names...)}, func(w io.Writer) {
		fmt.Fprintln(w, what)
		for _, name := range names {
			fmt.Fprintln(w, "  "+name)
		}
	})
}

func newGC(a *app) *cobra.Command {
	var age time.Duration
	cmd := &cobra.Command{
		Use:     "gc",
		Short:   "Drop uploads to S3 that nobody has taken up",
		Long:    "GC ends multipart uploads that interrupted copies have left; their parts cost money. What manifests name is never touched.",
		Example: example("duoetl gc", "duoetl gc --age 1h"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.opened(cmd.Context(), func(p *etl.Pipeline) error {
				n, err := p.GC(cmd.Context(), age)
				if err != nil {
					return err
				}
				return a.done(fmt.Sprintf("%d uploads dropped", n), nil)
			})
		},
	}
	cmd.Flags().DurationVar(&age, "age", 24*time.Hour, "only those that were begun so long ago")
	return cmd
}

func newReset(a *app) *cobra.Command {
	var chunks []string
	var yes bool
	cmd := &cobra.Command{
		Use:     "reset --chunk CHUNK",
		Short:   "Forget chunks: their rows, and their places in the ledger",
		Long:    "Reset takes chunks out of the tables. What is in S3 stays, and the next run finds it again.",
		Example: example("duoetl reset --chunk 2018 --yes"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := chunksOf(chunks)
			switch {
			case err != nil:
				return err
			case len(list) == 0:
				return usageError{"reset needs --chunk"}
			case !yes:
				return usageError{"reset takes rows out of the tables; confirm with --yes"}
			}
			return a.opened(cmd.Context(), func(p *etl.Pipeline) error {
				names, err := p.Reset(cmd.Context(), etl.Selection{Chunks: list})
				if err != nil {
					return err
				}
				return a.done("forgotten", names)
			})
		},
	}
	cmd.Flags().StringSliceVar(&chunks, "chunk", nil, "chunk to forget; repeatable")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

type made struct {
	File      string      `json:"file"`
	Totals    tile.Totals `json:"totals"`
	Synthetic bool        `json:"synthetic"`
}

func newSynth(a *app) *cobra.Command {
	var from, to int
	var dir, format string
	var spec synth.Spec
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Make files of tiles that are not real",
		Long: `Synth writes a file a year whose totals and holes are those that are published for the real data; each row is made up. It
needs no configuration. Put into a bucket of Google Cloud Storage, such a file wants the metadata synthetic=true: it is what the
tables' comments and duoetl status go by, nothing is guessed of the contents.`,
		Example: example("duoetl synth --from 2017 --to 2018 --dir /tmp/tiles", "duoetl synth --from 2018 --to 2018 --scale 0.01 --format bigquery-3"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []made
			for year := from; year <= to; year++ {
				spec.Year = year
				f := synth.File{Spec: spec, Format: synth.Format(format)}
				path := filepath.Join(dir, f.Name())
				totals, err := writeSynth(cmd, f, path)
				if err != nil {
					return err
				}
				all = append(all, made{File: path, Totals: totals, Synthetic: true})
			}
			return a.print(all, func(w io.Writer) {
				g := grid.Grid{Head: []string{"File", "Rows", "Strikes", "Days"}}
				for _, m := range all {
					g.Add(m.File, fmt.Sprint(m.Totals.Rows), fmt.Sprint(m.Totals.Strikes), fmt.Sprint(m.Totals.Days))
				}
				g.Write(w)
			})
		},
	}
	cmd.Flags().IntVar(&from, "from", synth.FirstYear, "first year")
	cmd.Flags().IntVar(&to, "to", synth.LastYear, "last year")
	cmd.Flags().StringVar(&dir, "dir", ".", "folder for the files")
	cmd.Flags().StringVar(&format, "format", string(synth.NCEI), "ncei, bigquery-1, bigquery-2 or bigquery-3")
	cmd.Flags().Uint64Var(&spec.Seed, "seed", 0, "another seed, other rows")
	cmd.Flags().Float64Var(&spec.Scale, "scale", 1, "part of the real size, 0..1")
	return cmd
}

func writeSynth(cmd *cobra.Command, f synth.File, path string) (tile.Totals, error) {
	out, err := os.Create(path)
	if err != nil {
		return tile.Totals{}, fmt.Errorf("make file: %w", err)
	}
	totals, err := f.Write(cmd.Context(), out)
	if closed := out.Close(); err == nil && closed != nil {
		err = fmt.Errorf("write %s: %w", path, closed)
	}
	return totals, err
}
