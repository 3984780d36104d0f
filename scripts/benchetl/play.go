package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// play measures the parts, one process at a time.
func (s *stage) play(ctx context.Context) error {
	for _, p := range []struct {
		part string
		play func(context.Context) error
	}{{partPipeline, s.playPipeline}, {partIngest, s.playIngest}, {partLoad, s.playLoad}, {partCopy, s.playCopy}} {
		if !slices.Contains(s.options.parts, p.part) {
			continue
		}
		if err := p.play(ctx); err != nil {
			return err
		}
	}
	return nil
}

// playPipeline runs duoetl as a job does, each time into tables and a bucket's folder of its own; with the one engine after the other
// where they are compared.
func (s *stage) playPipeline(ctx context.Context) error {
	if s.options.engine == kindSpark {
		if err := wantSpark(); err != nil {
			return err
		}
		s.report.Versions[onSpark] = sparkVersion()
	}
	for n := range s.options.long {
		var names []string
		for _, e := range s.options.engines() {
			names = append(names, fmt.Sprintf("bench_%d_%s", n, e.kind))
			if err := s.playEngine(ctx, names[len(names)-1], e); err != nil {
				return err
			}
		}
		for _, other := range names[1:] {
			if err := s.sameTables(ctx, names[0], other); err != nil {
				return err
			}
		}
	}
	return s.save()
}

func (s *stage) playEngine(ctx context.Context, name string, e engine) error {
	config := filepath.Join(s.dir, name+".yaml")
	text := fmt.Sprintf(`pipeline: %[1]s
source: {kind: gcs, objects: "tiles/nldn-tiles-{chunk}.csv.gz", window: {from: %[2]d, to: %[3]d}, synthetic: true}
stages:
  gcs: {bucket: staging, prefix: %[1]s, endpoint: %[4]q}
  s3: {bucket: lake, prefix: %[1]s, endpoint: %[5]q, access_key_env: AWS_ACCESS_KEY_ID, secret_key_env: AWS_SECRET_ACCESS_KEY}
  work: %[6]s
load: {schema: %[1]s_views}
%[7]s`, name, lastYear-s.options.years+1, lastYear, s.cloud.GCS, s.cloud.S3, filepath.Join(s.dir, name), e.config())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := s.quiet(ctx, "bin/duoetl", "init", "--config", config); err != nil {
		return err
	}
	return s.runPipeline(ctx, name, config, e)
}

func (s *stage) runPipeline(ctx context.Context, name, config string, e engine) error {
	run := Run{Part: partPipeline, Work: workWhole, System: e.system, Rows: s.report.Rows}
	out, err := s.measure(ctx, task{run: run, whole: true, tree: true, args: []string{"bin/duoetl", "run", "-o", "json", "--config", config}})
	if err != nil {
		return err
	}
	var report struct {
		Chunks []struct {
			Steps []struct {
				Step string
				Took time.Duration
			}
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return fmt.Errorf("read what duoetl says: %w", err)
	}
	noted := &s.report.Runs[len(s.report.Runs)-1]
	noted.Steps = map[string]float64{}
	for _, c := range report.Chunks {
		for _, step := range c.Steps {
			noted.Steps[step.Step] += step.Took.Seconds()
		}
	}
	for _, table := range tables {
		var rows, strikes int64
		err := s.conn.QueryRow(ctx, "SELECT coalesce(sum(tiles), 0)::bigint, coalesce(sum(strikes), 0)::bigint FROM "+name+"."+table).Scan(&rows, &strikes)
		if err != nil {
			return fmt.Errorf("add up what was loaded: %w", err)
		}
		if rows != s.report.Rows || strikes != s.report.Strikes {
			s.report.Broken = append(s.report.Broken, fmt.Sprintf("table %s: %d rows, %d strikes, want %d and %d", table, rows, strikes, s.report.Rows, s.report.Strikes))
		}
	}
	return s.save()
}

// few is how many years the systems read that take long, and those that use one processor.
const few = 3

func (s *stage) newest(n int) []string { return s.files[max(0, len(s.files)-n):] }

// playIngest reads raw files: on one core as the pipeline does, and to sums beside the peers.
func (s *stage) playIngest(ctx context.Context) error {
	one := []string{"GOMAXPROCS=1"}
	for range s.options.runs {
		for _, w := range []struct {
			work string
			args []string
		}{{workParse, []string{"bin/part", "parse"}}, {workOneCore, []string{"bin/part", "ingest", s.dir}}} {
			t := task{run: Run{Part: partIngest, Work: w.work, System: ours}, env: one, args: append(w.args, s.newest(few)...)}
			if _, err := s.measure(ctx, t); err != nil {
				return err
			}
		}
	}
	for range s.options.long {
		sums := map[string][]string{}
		for _, system := range []string{ours, "duckdb", "polars", "pandas"} {
			dir := filepath.Join(s.dir, "sums-"+system)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make folder of sums: %w", err)
			}
			run := Run{Part: partIngest, Work: workSums, System: system, Rows: s.report.Rows}
			files, command := s.files, []string{python, filepath.Join(peers, "sums.py"), system, dir}
			switch system {
			case ours:
				command = []string{"bin/part", "sums", dir}
			case "pandas":
				files, run.Rows = s.newest(few), 0
			}
			if _, err := s.measure(ctx, task{run: run, args: append(command, files...)}); err != nil {
				return err
			}
			if err := s.sums(sums, system, dir); err != nil {
				return err
			}
		}
		s.compare(sums)
	}
	return s.save()
}

// sums reads the lines of a system's sums that are of the newest years, which all systems have.
func (s *stage) sums(into map[string][]string, system, dir string) error {
	for _, name := range tables {
		text, err := os.ReadFile(filepath.Join(dir, name+".csv"))
		if err != nil {
			return fmt.Errorf("read sums: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if year := line[:min(4, len(line))]; year > fmt.Sprint(lastYear-few) && year <= fmt.Sprint(lastYear) {
				into[system] = append(into[system], name+" "+strings.TrimSpace(line))
			}
		}
	}
	slices.Sort(into[system])
	return nil
}

// compare wants all sums to be ours.
func (s *stage) compare(sums map[string][]string) {
	for system, lines := range sums {
		if len(lines) == 0 || !slices.Equal(lines, sums[ours]) {
			s.report.Broken = append(s.report.Broken, fmt.Sprintf("sums of %s: %d lines that are not the %d of duoetl", system, len(lines), len(sums[ours])))
		}
	}
}

// toSQL is how many rows to_sql loads: it takes a hundred times as long.
const toSQL = 100_000

// playLoad loads the cells that ingest has made.
func (s *stage) playLoad(ctx context.Context) error {
	dir := filepath.Join(s.dir, "cells")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of cells: %w", err)
	}
	if err := s.quiet(ctx, append([]string{"bin/part", "sums", dir}, s.files...)...); err != nil {
		return err
	}
	file := filepath.Join(dir, "cell_month.csv")
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read cells: %w", err)
	}
	rows := strings.Count(string(text), "\n") - 1
	load := filepath.Join(peers, "load.py")
	for range s.options.runs {
		for _, l := range []struct {
			system string
			rows   int
			args   []string
		}{
			{ours, rows, []string{"bin/part", "load"}},
			{"psycopg COPY", rows, []string{python, load, "psycopg"}},
			{"pandas to_sql", min(rows, toSQL), []string{python, load, "pandas"}},
		} {
			_, err := s.conn.Exec(ctx, "DROP TABLE IF EXISTS cells; CREATE TABLE cells (year smallint NOT NULL, month smallint NOT NULL, lat10 smallint NOT NULL, lon10 smallint NOT NULL, strikes integer NOT NULL, tiles integer NOT NULL); CHECKPOINT")
			if err != nil {
				return fmt.Errorf("make table: %w", err)
			}
			run := Run{Part: partLoad, Work: workHeap, System: l.system, Rows: int64(l.rows)}
			if _, err := s.measure(ctx, task{run: run, args: append(l.args, "cells", file, fmt.Sprint(l.rows))}); err != nil {
				return err
			}
			var loaded int
			if err := s.conn.QueryRow(ctx, "SELECT count(*) FROM cells").Scan(&loaded); err != nil {
				return fmt.Errorf("count what was loaded: %w", err)
			}
			if loaded != l.rows {
				s.report.Broken = append(s.report.Broken, fmt.Sprintf("%s has loaded %d rows of %d", l.system, loaded, l.rows))
			}
		}
	}
	return s.save()
}

func (s *stage) save() error {
	if s.options.out == "" {
		return nil
	}
	return s.report.write(s.options.out)
}
