package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
)

const (
	long = `duosandbox serves S3, Google Cloud Storage and BigQuery on loopback, in one process, on files below --dir.

BigQuery has tables of generated tiles (synthetic: calibrated to published totals, not observations) in the dataset
noaa_lightning of every project: lightning_strikes, and lightning_YYYY for each year. Tables of --table hold the
rows of given files.

S3 asks for its keys, which are made up and printed unless DUOSANDBOX_ACCESS_KEY and DUOSANDBOX_SECRET_KEY are
set. GCS and BigQuery let everyone in. So other than loopback addresses are refused without --open.

With --faults what goes wrong can be planned while it runs: POST to /sandbox/faults of BigQuery's address, with the
keys server, call, name, skip, times, status, reason, message, retry_after_s, after, lose, done and delay_ms. GET
lists what is planned with its hits, DELETE drops it.`

	example = `  duosandbox --dir /tmp/sandbox --years 2017-2020 --scale 0.01 -o json

  # the servers' own clients find them so
  export STORAGE_EMULATOR_HOST=127.0.0.1:7502            # what is printed as gcs
  aws --endpoint-url http://127.0.0.1:7501 s3 ls         # what is printed as s3

  # with --faults: the next part that is uploaded waits ten seconds
  curl -d '{"server":"s3","call":"UploadPart","times":1,"delay_ms":10000}' http://127.0.0.1:7503/sandbox/faults`
)

// options are the flags.
type options struct {
	dir, years, output string
	s3, gcs, bigQuery  string
	s3Buckets          []string
	gcsBuckets         []string
	tables             []string
	generations        []int
	scale              float64
	seed               uint64
	shardRows          int64
	open, faults       bool
	verbose            bool
}

func newRoot(out, log io.Writer) *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "duosandbox --dir DIR", Short: "S3, GCS and BigQuery on loopback, with synthetic tiles", Long: long, Example: example,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c, o, out, log) },
	}
	c.SetOut(out)
	c.SetErr(log)
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "folder of the objects; made if missing (required)")
	f.StringVar(&o.years, "years", "2017-2020", "years to generate, 1987..2020: 2018 or 2017-2020; empty: none")
	f.Float64Var(&o.scale, "scale", 0.01, "how much of the real number of strikes, up to 1")
	f.Uint64Var(&o.seed, "seed", 0, "other tiles under the same totals")
	f.IntSliceVar(&o.generations, "generation", []int{2, 3}, "of tables: 1 or 2 are a table a year, 3 is lightning_strikes")
	f.StringArrayVar(&o.tables, "table", nil, "NAME=FILE[,FILE...]: a table of given files, in any form that duoetl reads")
	f.Int64Var(&o.shardRows, "shard-rows", 0, "rows of an exported file (default 1048576)")
	f.StringVar(&o.s3, "s3", "", "host:port of S3 (default a free port of 127.0.0.1; so the next two)")
	f.StringVar(&o.gcs, "gcs", "", "host:port of GCS")
	f.StringVar(&o.bigQuery, "bigquery", "", "host:port of BigQuery")
	f.BoolVar(&o.open, "open", false, "listen at other than loopback addresses too, and let in everyone who reaches them")
	f.BoolVar(&o.faults, "faults", false, "let clients plan what goes wrong")
	f.StringSliceVar(&o.s3Buckets, "s3-bucket", []string{"lightning"}, "buckets to make in S3")
	f.StringSliceVar(&o.gcsBuckets, "gcs-bucket", []string{"lightning-staging"}, "buckets to make in GCS")
	f.StringVarP(&o.output, "output", "o", "text", "text or json: how to say where the servers are")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say on stderr what is done")
	return c
}

func (o options) config(log io.Writer) (sandbox.Config, error) {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	c := sandbox.Config{
		Dir: o.dir, S3: o.s3, GCS: o.gcs, BigQuery: o.bigQuery, S3Buckets: o.s3Buckets, GCSBuckets: o.gcsBuckets, ShardRows: o.shardRows,
		Open: o.open, Control: o.faults,
		AccessKey: os.Getenv("DUOSANDBOX_ACCESS_KEY"), SecretKey: os.Getenv("DUOSANDBOX_SECRET_KEY"),
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})),
	}
	if o.output != "text" && o.output != "json" {
		return c, fmt.Errorf("--output is text or json, not %q", o.output)
	}
	if o.years != "" {
		synthetic, err := o.synthetic()
		if err != nil {
			return c, err
		}
		c.Tables = synthetic
	}
	for _, t := range o.tables {
		name, files, ok := strings.Cut(t, "=")
		if !ok || name == "" || files == "" {
			return c, fmt.Errorf("--table is NAME=FILE[,FILE...], not %q", t)
		}
		given := sandbox.Table{Dataset: sandbox.Dataset, Name: name, Format: synth.BigQuery2, Files: strings.Split(files, ",")}
		c.Tables = append(c.Tables, given)
	}
	return c, nil
}

func (o options) synthetic() ([]sandbox.Table, error) {
	first, last, both := strings.Cut(o.years, "-")
	from, err := strconv.Atoi(first)
	to, also := from, error(nil)
	if both {
		to, also = strconv.Atoi(last)
	}
	if cmp.Or(err, also) != nil || from < synth.FirstYear || to > synth.LastYear || from > to {
		return nil, fmt.Errorf("--years is 2018 or 2017-2020, within %d-%d, not %q", synth.FirstYear, synth.LastYear, o.years)
	}
	if o.scale <= 0 || o.scale > 1 {
		return nil, fmt.Errorf("--scale is above 0 and at most 1, not %v", o.scale)
	}
	formats := map[int]synth.Format{1: synth.BigQuery1, 2: synth.BigQuery2, 3: synth.BigQuery3}
	perYear := 0
	var tables []sandbox.Table
	for _, g := range o.generations {
		f, ok := formats[g]
		if !ok {
			return nil, fmt.Errorf("--generation is 1, 2 or 3, not %d", g)
		}
		if g < 3 {
			perYear++
		}
		tables = append(tables, sandbox.Synthetic(f, from, to, o.scale)...)
	}
	if perYear > 1 {
		return nil, fmt.Errorf("--generation: 1 and 2 have tables of the same names, give one of them")
	}
	for i := range tables {
		tables[i].Seed = o.seed
	}
	return tables, nil
}

func serve(c *cobra.Command, o options, out, log io.Writer) error {
	config, err := o.config(log)
	if err != nil {
		return err
	}
	s, err := sandbox.New(config)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(c.Context()) }()
	select {
	case <-s.Ready():
		if err := announce(out, o, config, s.Endpoints()); err != nil {
			return failure{fmt.Errorf("say where the servers are: %w", err)}
		}
		err = <-ended
	case err = <-ended:
	}
	if err != nil {
		return failure{err}
	}
	return nil
}

// readiness is what -o json says, in one line.
type readiness struct {
	Ready bool `json:"ready"`
	PID   int  `json:"pid"`
	sandbox.Endpoints
	S3Buckets  []string `json:"s3_buckets"`
	GCSBuckets []string `json:"gcs_buckets"`
	Dataset    string   `json:"dataset"`
	Tables     []string `json:"tables"`
	Synthetic  bool     `json:"synthetic"` // some table is
}

func announce(out io.Writer, o options, c sandbox.Config, e sandbox.Endpoints) error {
	r := readiness{Ready: true, PID: os.Getpid(), Endpoints: e, S3Buckets: c.S3Buckets, GCSBuckets: c.GCSBuckets, Dataset: sandbox.Dataset, Tables: []string{}}
	for _, t := range c.Tables {
		r.Tables = append(r.Tables, t.Name)
		r.Synthetic = r.Synthetic || len(t.Files) == 0
	}
	if o.output == "json" {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintf(out, `s3        %s  (region %s, access key %s, secret key %s, buckets %s)
gcs       %s  (as STORAGE_EMULATOR_HOST, buckets %s)
bigquery  %s  (dataset %s of any project)
tables    %s
data      %s
ready; %sonly S3 asks for keys. SIGTERM or Ctrl-C ends it.
`, e.S3, e.Region, e.AccessKey, e.SecretKey, strings.Join(r.S3Buckets, " "), e.GCS, strings.Join(r.GCSBuckets, " "),
		e.BigQuery, r.Dataset, strings.Join(r.Tables, " "), kind(r.Synthetic, len(o.tables) > 0), o.reach())
	return err
}

func (o options) reach() string {
	if o.open {
		return ""
	}
	return "loopback only, and "
}

func kind(synthetic, given bool) string {
	switch {
	case synthetic && given:
		return "synthetic, and given files"
	case synthetic:
		return "synthetic, not observations"
	case given:
		return "given files"
	}
	return "none"
}
