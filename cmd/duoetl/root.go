package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/cmd/manual"
	"github.com/duoflow/duoflow/cmd/release"
	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
)

type globalFlags struct {
	config string
	output string // table | json
	force  bool
}

const defaultConfig = "/etc/duoflow/etl.yaml"

const rootLong = `duoetl brings lightning tiles from BigQuery, or from files in Google Cloud Storage, through S3 into Postgres:
extract, copy, ingest, aggregate, load, publish, chunk by chunk.

A run does what is not done. One that was killed anywhere goes on with the next; nothing is loaded twice or in part.
As a job of duoflowd it takes DUOFLOW_JOB, DUOFLOW_NODE, DUOFLOW_EPOCH, PGSERVICE and PGSERVICEFILE from the
environment, and every write is fenced by the epoch. Secrets come from the environment variables that the
configuration names; they are never shown.

Exit codes:
  0  ok
  1  failed
  2  usage: the command line or the configuration is wrong
  3  quality gate: the data are not good enough, somebody has to look at them
  4  fenced: another epoch has taken over, nothing was written
  5  partial: some chunks are done, some failed, another run may do them
What a run whose chunks fared differently ends with: duoetl run --help.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "duoetl",
		Short: "Run the lightning pipeline",
		Long:  rootLong,
		Example: example("duoetl --config etl.yaml init",
			"duoetl --config etl.yaml run",
			"duoetl --config etl.yaml status -o json"),
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       release.Text(version),
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.flags.output != "table" && a.flags.output != "json" {
				return usageError{fmt.Sprintf("output %q is unknown; use -o table or json", a.flags.output)}
			}
			a.began = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.config, "config", first(a.env("DUOETL_CONFIG"), defaultConfig), "configuration file")
	flags.StringVarP(&a.flags.output, "output", "o", "table", "table or json")
	flags.BoolVar(&a.flags.force, "force-by-hand", false, "write although a cluster runs this job; pause it there first")
	root.AddCommand(newInit(a), newPlan(a), newRun(a), newStep(a), newBackfill(a), newResume(a), newStatus(a), newVerify(a),
		newDiffEngines(a), newQuarantine(a), newGC(a), newReset(a), newSynth(a), newDoctor(a),
		manual.Command(manual.Program{
			Name: "duoetl", Section: 1, Foot: "duoflow " + release.Text(version), Also: []string{"duoflow-etl.yaml(5)", "duoflowd(8)"},
		}))
	return root
}

// opened calls f with the configured pipeline.
func (a *app) opened(ctx context.Context, f func(*etl.Pipeline) error) error {
	return a.open(ctx, a.options(), f)
}

// looking is opened for commands that change nothing: they need no epoch, and may be used beside a run.
func (a *app) looking(ctx context.Context, f func(*etl.Pipeline) error) error {
	o := a.options()
	o.ReadOnly = true
	return a.open(ctx, o, f)
}

func (a *app) open(ctx context.Context, o etl.Options, f func(*etl.Pipeline) error) error {
	c, err := etl.LoadConfig(a.flags.config)
	if err != nil {
		return err
	}
	p, err := etl.Open(ctx, c, o)
	if err != nil {
		return err
	}
	defer p.Close()
	return f(p)
}

func (a *app) options() etl.Options {
	level := &slog.HandlerOptions{Level: slog.LevelWarn}
	var handler slog.Handler = slog.NewJSONHandler(a.err, level) // as the lines of progress
	if a.screen != nil {
		handler = slog.NewTextHandler(a.err, level)
	}
	return etl.Options{Env: a.env, Force: a.flags.force, Logger: slog.New(handler)}
}

// print writes the answer in the chosen form; table draws the one for people.
func (a *app) print(answer any, table func(io.Writer)) error {
	if a.flags.output == "table" {
		table(grid.Printable{W: a.out})
		return nil
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	fmt.Fprintf(a.out, "%s\n", text)
	return nil
}

// chunksOf reads chunks from the command line.
func chunksOf(texts []string) ([]tile.Chunk, error) {
	var out []tile.Chunk
	for _, text := range texts {
		c, err := tile.ParseChunk(text)
		if err != nil {
			return nil, usageError{fmt.Sprintf("chunk %q is neither a year (2018) nor a month (2020-05)", text)}
		}
		out = append(out, c)
	}
	return out, nil
}

// example indents every line, as cobra wants its examples.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
