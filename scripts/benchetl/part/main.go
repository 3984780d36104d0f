// Command part does one part of the lightning pipeline by itself, for the benchmark: what duoetl has no command for, with
// the packages that duoetl is made of. Its last line says in JSON how long the work took, without the start of the process.
//
//	part parse FILE...                          raw files to tables in memory
//	part ingest DIR FILE...                     the same, and each table to a Parquet file in DIR
//	part sums DIR FILE...                       the same, added up by day, month, and month and cell, to three CSV files in DIR
//	part copy GCS S3 BUCKET PREFIX TARGET N     objects from Google Cloud Storage to S3, N at a time
//	part load TABLE FILE ROWS                   so many lines of a CSV file of cells into a table of Postgres
//
// Raw files are called nldn-tiles-YYYY.csv.gz. Keys of S3 and the connection to Postgres are in the environment.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/columnar"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

// answer is the last line. The benchmark reads the peers' in the same form.
type answer struct {
	Seconds float64 `json:"seconds"`
	Rows    int64   `json:"rows,omitempty"`
	Strikes int64   `json:"strikes,omitempty"`
	Bytes   int64   `json:"bytes,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a, err := run(ctx, os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "part:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (answer, error) {
	if len(args) < 2 {
		return answer{}, errors.New("want a part and what it works on")
	}
	rest := args[1:]
	switch args[0] {
	case "parse":
		return each(ctx, rest, func(tile.Chunk, *tile.Table) error { return nil })
	case "ingest":
		return each(ctx, rest[1:], func(chunk tile.Chunk, t *tile.Table) error {
			file, err := store(rest[0], chunk, t)
			if err != nil {
				return err
			}
			return os.Remove(file)
		})
	case "sums":
		return sums(ctx, rest[0], rest[1:])
	case "copy":
		if len(rest) == 6 {
			return transfer(ctx, rest)
		}
	case "load":
		if len(rest) == 3 {
			return load(ctx, rest[0], rest[1], rest[2])
		}
	}
	return answer{}, fmt.Errorf("part %q with %d arguments is unknown", args[0], len(rest))
}

// each reads one file after the other, as the pipeline does with chunks.
func each(ctx context.Context, files []string, then func(tile.Chunk, *tile.Table) error) (answer, error) {
	var a answer
	began := time.Now()
	for _, file := range files {
		chunk, t, err := read(ctx, file)
		if err == nil {
			err = then(chunk, t)
		}
		if err != nil {
			return a, err
		}
		n := t.Totals()
		a.Rows, a.Strikes = a.Rows+n.Rows, a.Strikes+n.Strikes
	}
	a.Seconds = time.Since(began).Seconds()
	return a, nil
}

// read is what ingest does with a raw object: every line checked, sorted, each tile and day once.
func read(ctx context.Context, file string) (tile.Chunk, *tile.Table, error) {
	var year int
	if _, err := fmt.Sscanf(filepath.Base(file), "nldn-tiles-%d.csv.gz", &year); err != nil {
		return "", nil, fmt.Errorf("%s is not called nldn-tiles-YYYY.csv.gz: %w", file, err)
	}
	chunk := tile.Chunk(strconv.Itoa(year))
	f, err := os.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("open raw file: %w", err)
	}
	defer f.Close()
	refuse := func(b nldn.Bad) error { return fmt.Errorf("a bad line: %v", b) }
	var t tile.Table
	report, err := nldn.Read(ctx, file, f, nldn.Options{Chunk: chunk}, &t, refuse)
	if err == nil {
		_, err = nldn.Finish(&t, []nldn.Report{report}, refuse)
	}
	return chunk, &t, err
}

// store writes the canonical file.
func store(dir string, chunk tile.Chunk, t *tile.Table) (string, error) {
	file := filepath.Join(dir, string(chunk)+".parquet")
	f, err := os.Create(file)
	if err != nil {
		return "", fmt.Errorf("make canonical file: %w", err)
	}
	if err := errors.Join(columnar.Write(f, t), f.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	return file, nil
}

// workers are years at a time: as many as the machine of the goals has processors.
const workers = 2

// sums does with two years at a time what the pipeline does in stages: read, canonical file, engine.
func sums(ctx context.Context, dir string, files []string) (answer, error) {
	began := time.Now()
	engine, err := aggregate.Open(aggregate.Config{Threads: 1})
	if err != nil {
		return answer{}, err
	}
	results := make([]aggregate.Result, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i, file := range files {
		group.Go(func() error {
			chunk, t, err := read(ctx, file)
			if err != nil {
				return err
			}
			canonical, err := store(dir, chunk, t)
			if err != nil {
				return err
			}
			defer os.Remove(canonical)
			results[i], err = engine.Aggregate(ctx, aggregate.Job{Chunk: chunk, Inputs: []string{canonical}})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return answer{}, err
	}
	whole := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell()}
	var a answer
	for _, r := range results {
		whole.Day, whole.Month, whole.Cell = join(whole.Day, r.Day), join(whole.Month, r.Month), join(whole.Cell, r.Cell)
		a.Rows, a.Strikes = a.Rows+r.Totals.Rows, a.Strikes+r.Totals.Strikes
	}
	err = errors.Join(write(dir, "day", whole.Day), write(dir, "month", whole.Month), write(dir, "cell_month", whole.Cell))
	a.Seconds = time.Since(began).Seconds()
	return a, err
}

// join appends the rows of one frame to another.
func join(to, from aggregate.Frame) aggregate.Frame {
	for i := range to.Columns {
		to.Columns[i].Values = append(to.Columns[i].Values, from.Columns[i].Values...)
	}
	return to
}

func write(dir, name string, f aggregate.Frame) error {
	out, err := os.Create(filepath.Join(dir, name+".csv"))
	if err != nil {
		return fmt.Errorf("make file of sums: %w", err)
	}
	return errors.Join(f.WriteCSV(out), out.Close())
}
