package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/figures"
	"github.com/duoflow/duoflow/scripts/pg"
)

// Years of which there are real totals, to which the generator keeps.
const (
	firstYear = 1987
	lastYear  = 2020
)

// Where things are, below the repository.
const (
	tilesDir = ".cache/tiles"
	python   = ".cache/benchetl/bin/python"
	peers    = "scripts/benchetl/peers"
)

// stage is what the measured processes work on: files, stores, a database.
type stage struct {
	options  *options
	report   *Report
	progress io.Writer
	began    time.Time

	dir    string // of this run; removed by close
	files  []string
	server *pg.Server
	conn   *pgx.Conn
	cloud  struct {
		S3        string `json:"s3"`
		GCS       string `json:"gcs"`
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	sandbox *exec.Cmd
}

// newStage makes the tiles that are missing, starts the stores and the database, and puts the files into Google Cloud Storage.
// None of that is measured.
func newStage(ctx context.Context, o *options, r *Report, progress io.Writer) (*stage, error) {
	s := &stage{options: o, report: r, progress: progress, began: time.Now()}
	var err error
	if s.dir, err = os.MkdirTemp("", "benchetl-"); err != nil {
		return nil, fmt.Errorf("make folder of the run: %w", err)
	}
	for _, step := range []func(context.Context) error{s.makeTiles, s.startSandbox, s.startPostgres, s.upload} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "benchetl: %5.0fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// made is what duoetl synth says of a file.
type made struct {
	File   string
	Totals struct{ Rows, Strikes int64 }
}

// makeTiles makes those years that are not there yet, and counts what the years of this run come to.
func (s *stage) makeTiles(ctx context.Context) error {
	if err := os.MkdirAll(tilesDir, 0o755); err != nil {
		return fmt.Errorf("make folder of tiles: %w", err)
	}
	for year := lastYear - s.options.years + 1; year <= lastYear; year++ {
		file := filepath.Join(tilesDir, fmt.Sprintf("nldn-tiles-%d.csv.gz", year))
		note := filepath.Join(tilesDir, fmt.Sprintf("%d.json", year))
		if _, err := os.Stat(note); err != nil {
			if err := s.makeYear(ctx, year, file, note); err != nil {
				return err
			}
		}
		if err := s.count(file, note); err != nil {
			return err
		}
	}
	return nil
}

// makeYear makes a file of tiles, and last the note, so that a file that was not finished is made again.
func (s *stage) makeYear(ctx context.Context, year int, file, note string) error {
	s.say("making the tiles of %d", year)
	totals, err := exec.CommandContext(ctx, "bin/duoetl", "synth", "--from", strconv.Itoa(year), "--to", strconv.Itoa(year), "--dir", tilesDir, "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("make tiles: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("make tiles: %w", err)
	}
	if err := figures.Replace(file, withoutComment(text)); err != nil {
		return err
	}
	return figures.Replace(note, totals)
}

// withoutComment drops the comment in the header of a packed file, which DuckDB's reader does not know. That the tiles are
// synthetic stands in the first line too.
func withoutComment(packed []byte) []byte {
	const header, flags, comment = 10, 3, 1 << 4
	if len(packed) < header || packed[flags] != comment {
		return packed
	}
	_, rest, _ := bytes.Cut(packed[header:], []byte{0})
	plain := bytes.Clone(packed[:header])
	plain[flags] = 0
	return append(plain, rest...)
}

func (s *stage) count(file, note string) error {
	text, err := os.ReadFile(note)
	if err != nil {
		return fmt.Errorf("read totals of tiles: %w", err)
	}
	var all []made
	if err := json.Unmarshal(text, &all); err != nil || len(all) != 1 {
		return fmt.Errorf("read totals of tiles in %s: %d files: %w", note, len(all), err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("look at tiles: %w", err)
	}
	s.files = append(s.files, file)
	s.report.Rows += all[0].Totals.Rows
	s.report.Strikes += all[0].Totals.Strikes
	s.report.Packed += info.Size()
	return nil
}

func (s *stage) startSandbox(ctx context.Context) error {
	s.sandbox = exec.CommandContext(ctx, "bin/duosandbox", "--dir", filepath.Join(s.dir, "cloud"), "--years", "", "--s3-bucket", "lake", "--gcs-bucket", "staging", "-o", "json")
	s.sandbox.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.sandbox.Stderr = os.Stderr
	out, err := s.sandbox.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	if err := s.sandbox.Start(); err != nil {
		s.sandbox = nil
		return fmt.Errorf("start sandbox: %w", err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.cloud)
	}
	if err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	return nil
}

// startPostgres starts a server that keeps its promises on disk, with memory as a small server has it.
func (s *stage) startPostgres(ctx context.Context) error {
	var err error
	s.server, err = pg.Start(ctx, pg.Options{Settings: map[string]string{"fsync": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}})
	if err != nil {
		return err
	}
	s.report.Postgres = s.server.Version()
	if s.conn, err = pgx.Connect(ctx, s.server.Superuser()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = s.conn.Exec(ctx, `CREATE SCHEMA duoflow;
CREATE TABLE duoflow.fence (job text PRIMARY KEY, epoch bigint NOT NULL DEFAULT 0, node text NOT NULL DEFAULT '', token text NOT NULL DEFAULT '', at timestamptz NOT NULL DEFAULT now());
INSERT INTO duoflow.fence (job, epoch, node) VALUES ('etl', 1, 'bench')`)
	if err != nil {
		return fmt.Errorf("make fence: %w", err)
	}
	return nil
}

// upload puts the files into Google Cloud Storage.
func (s *stage) upload(ctx context.Context) error {
	for _, file := range s.files {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read tiles: %w", err)
		}
		if err := s.put(ctx, "tiles/"+filepath.Base(file), content); err != nil {
			return err
		}
	}
	s.say("%d files, %d rows, %.0f MB are in Google Cloud Storage", len(s.files), s.report.Rows, float64(s.report.Packed)/1e6)
	return nil
}

func (s *stage) put(ctx context.Context, name string, content []byte) error {
	at := fmt.Sprintf("http://%s/upload/storage/v1/b/staging/o?uploadType=media&name=%s", s.cloud.GCS, url.QueryEscape(name))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // past any proxy
	reply, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	_, err = io.Copy(io.Discard, reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("put %s: %s", name, reply.Status)
	}
	return nil
}

// env is that of all measured processes: where stores and database are, and no way past this machine.
func (s *stage) env() []string {
	var out []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		// A certificate bundle in AWS_CA_BUNDLE keeps rclone from copying anything.
		if strings.HasSuffix(strings.ToLower(name), "_proxy") || strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "DUOFLOW_") {
			continue
		}
		out = append(out, v)
	}
	database := s.conn.Config()
	return append(out, "PGHOST="+database.Host, fmt.Sprintf("PGPORT=%d", database.Port), "PGUSER="+database.User, "PGPASSWORD="+database.Password,
		"PGDATABASE="+database.Database, "PGSSLMODE=disable", "AWS_ACCESS_KEY_ID="+s.cloud.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.cloud.SecretKey,
		"AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "DUOFLOW_JOB=etl", "DUOFLOW_NODE=bench", "DUOFLOW_EPOCH=1")
}

// close ends what was started.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close(ctx))
	}
	if s.server != nil {
		errs = append(errs, s.server.Stop(ctx))
	}
	if s.sandbox != nil {
		_ = s.sandbox.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = s.sandbox.Wait()                          // how it ended says nothing of what was measured
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
