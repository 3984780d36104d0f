package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl"
)

// goodYear is a small file of a year, which holds so many rows.
func goodYear(year, rows int) []byte {
	var out bytes.Buffer
	out.WriteString("#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n")
	for i := range rows {
		fmt.Fprintf(&out, "%d07%02d,-80.%d,30.%d,3\n", year, 1+i%28, i/28%10, i/280)
	}
	return out.Bytes()
}

func damagedYear(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(goodYear(2018, 100)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()[:out.Len()/2]
}

// exits wants an exit code, and words on either output.
func (s *stage) exits(c *exec.Cmd, code int, words ...string) string {
	s.t.Helper()
	out, err := c.CombinedOutput()
	if c.ProcessState == nil || c.ProcessState.ExitCode() != code {
		s.t.Errorf("duoetl %s: %v, want code %d\n%s", strings.Join(c.Args[3:], " "), err, code, out)
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			s.t.Errorf("duoetl %s lacks %q:\n%s", strings.Join(c.Args[3:], " "), word, out)
		}
	}
	return string(out)
}

// TestExitCodesOfARun is what `duoetl run --help` says, by the program itself.
func TestExitCodesOfARun(t *testing.T) {
	t.Parallel()
	damaged, foreign := damagedYear(t), []byte("when,where\n1,2\n")
	const done, gated, failed = "good", "gated", "failed"
	for _, one := range []struct {
		chunks []string // 2016 and on
		code   int
		words  []string
	}{
		{[]string{done, done}, etl.ExitOK, []string{"2 done, 0 up to date, 0 failed"}},
		{[]string{gated}, etl.ExitQuality, []string{"chunk 2016: ingest", "unknown columns"}},
		{[]string{gated, done}, etl.ExitQuality, []string{"chunk 2016: ingest", "unknown columns", "1 done, 0 up to date, 1 failed"}},
		{[]string{gated, gated}, etl.ExitQuality, []string{"chunk 2016: ingest", "chunk 2017: ingest"}},
		{[]string{failed}, etl.ExitFailed, []string{"chunk 2016: ingest", "damaged gzip"}},
		{[]string{failed, done}, etl.ExitPartial, []string{"some chunks are not done: 1 of 2", "chunk 2016: ingest", "damaged gzip"}},
		{[]string{gated, failed, done}, etl.ExitPartial, []string{"some chunks are not done: 2 of 3", "chunk 2016: ingest", "unknown columns", "chunk 2017: ingest", "damaged gzip"}},
		{[]string{gated, failed}, etl.ExitFailed, []string{"chunk 2016: ingest", "unknown columns", "chunk 2017: ingest", "damaged gzip"}},
	} {
		t.Run(strings.Join(one.chunks, "_"), func(t *testing.T) {
			t.Parallel()
			s, pipeline := theStage(t), fresh("exits")
			s.configureFiles(pipeline, "tiles-{chunk}.csv.gz", fmt.Sprintf("{from: 2016, to: %d}", 2015+len(one.chunks)))
			for i, kind := range one.chunks {
				content := map[string][]byte{done: goodYear(2016+i, 100), gated: foreign, failed: damaged}[kind]
				s.put(pipeline, fmt.Sprintf("tiles-%d.csv.gz", 2016+i), content)
			}
			s.exits(s.command(pipeline, 1, "run"), one.code, one.words...)
			if one.code == etl.ExitOK {
				s.exits(s.command(pipeline, 1, "run"), etl.ExitOK, "nothing new: 2 chunks up to date")
			}
			for i := range one.chunks {
				s.put(pipeline, fmt.Sprintf("tiles-%d.csv.gz", 2016+i), goodYear(2016+i, 100))
			}
			s.exits(s.command(pipeline, 1, "run"), etl.ExitOK)
		})
	}
}

// TestOtherExitCodes: usage, a refusal that --accept takes, a database that cannot take anything, an epoch that is over.
func TestOtherExitCodes(t *testing.T) {
	t.Parallel()
	s, pipeline := theStage(t), fresh("codes")
	s.configureFiles(pipeline, "tiles-{chunk}.csv", "{from: 2018, to: 2018}")
	run := func(args ...string) *exec.Cmd { return s.command(pipeline, 1, append([]string{"run"}, args...)...) }
	s.exits(run("--chunk", "MMXVIII"), etl.ExitUsage, `chunk "MMXVIII" is neither a year`)
	s.exits(run("--from", "2019", "--to", "2018"), etl.ExitUsage, "nothing lies within 2019..2018")
	text, err := os.ReadFile(filepath.Join(s.dir, pipeline+".yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "airflow.yaml"), append(text, "driver: airflow\nairflow: {endpoint: 'http://127.0.0.1:1'}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.exits(s.command("airflow", 1, "run"), etl.ExitUsage, "load.dsn_env: is for driver builtin")
	s.exits(run(), etl.ExitFailed, "not found", pipeline+"/tiles-2018.csv")
	s.put(pipeline, "tiles-2018.csv", goodYear(2018, 200))
	s.exits(run(), etl.ExitOK)
	before := s.tables(pipeline)
	s.put(pipeline, "tiles-2018.csv", goodYear(2018, 90))
	s.exits(run(), etl.ExitQuality, "shrunk by more than half", "duoetl run --chunk 2018 --accept")
	if now := s.tables(pipeline); now != before {
		t.Errorf("a refused chunk has changed the tables: %s, before %s", now, before)
	}
	s.exits(run("--chunk", "2018", "--accept"), etl.ExitOK, "1 done")
	before = s.tables(pipeline)

	s.put(pipeline, "tiles-2018.csv", goodYear(2018, 100))
	s.exec("ALTER TABLE " + pipeline + ".day RENAME COLUMN tiles TO tile_days")
	s.exits(run(), etl.ExitFailed, "the tables were changed", "no "+pipeline+".day.tiles integer")
	s.exec("ALTER TABLE " + pipeline + ".day RENAME COLUMN tile_days TO tiles")
	s.takeover(pipeline)
	s.exits(run(), etl.ExitFenced, "another epoch has taken over", "epoch 2")
	if now := s.tables(pipeline); now != before {
		t.Errorf("a fenced run has changed the tables: %s, before %s", now, before)
	}
	s.exits(s.command(pipeline, 2, "run"), etl.ExitOK, "1 done")
}

// TestLooksNeedNoEpoch: plan, verify, doctor, status and quarantine work beside a cluster's run and one by hand, without an epoch,
// with an old one, and with a login that may only read; they leave no trace.
func TestLooksNeedNoEpoch(t *testing.T) {
	t.Parallel()
	s, pipeline := theStage(t), fresh("looks")
	s.configureFiles(pipeline, "tiles-{chunk}.csv", "{from: 2018, to: 2018}")
	s.put(pipeline, "tiles-2018.csv", append(goodYear(2018, 2000), "20180701,-80.05,30.0,1\n"...))
	s.exits(s.command(pipeline, 1, "run"), etl.ExitOK)
	s.exec(fmt.Sprintf(`CREATE ROLE %[1]s_reader LOGIN PASSWORD 'reads';
GRANT USAGE ON SCHEMA duoflow, %[1]s, %[1]s_views TO %[1]s_reader; GRANT SELECT ON ALL TABLES IN SCHEMA duoflow, %[1]s, %[1]s_views TO %[1]s_reader`, pipeline))
	reader := s.server.DSN(pipeline+"_reader", "reads", "postgres")
	hand, err := pgx.Connect(t.Context(), s.server.Superuser())
	if err != nil {
		t.Fatal(err)
	}
	defer hand.Close(context.Background())
	var held bool
	if err := hand.QueryRow(t.Context(), "SELECT pg_try_advisory_lock(7303014, hashtext($1))", pipeline).Scan(&held); err != nil || !held {
		t.Fatalf("the lock of a run by hand: %v, %v", held, err)
	}
	before := s.everything(pipeline)
	for _, one := range []struct {
		args  []string
		words []string
	}{
		{[]string{"plan"}, []string{"0 of 1 chunks to do", "up to date"}},
		{[]string{"verify"}, []string{"the tables hold what was loaded"}},
		{[]string{"doctor"}, []string{"the cluster runs job " + pipeline + ": epoch 1", "duckdb"}},
		{[]string{"status"}, []string{"publish", "observed"}},
		{[]string{"quarantine", "--chunk", "2018"}, []string{"grid", "20180701,-80.05,30.0,1", ":2002:"}},
	} {
		c := s.command(pipeline, 1, one.args...)
		c.Env = slices.DeleteFunc(c.Env, func(entry string) bool {
			return strings.HasPrefix(entry, "DUOFLOW_EPOCH=") || strings.HasPrefix(entry, "STAGE_DSN=")
		})
		c.Env = append(c.Env, "STAGE_DSN="+reader)
		s.exits(c, etl.ExitOK, one.words...)
		if old := s.command(pipeline, 7, one.args...); one.args[0] == "doctor" {
			s.exits(old, etl.ExitFailed, "another epoch has taken over", "1 of 6 checks failed")
		} else {
			s.exits(old, etl.ExitOK, one.words...)
		}
	}
	if after := s.everything(pipeline); after != before {
		t.Errorf("a look has left a trace:\n%s\nbefore\n%s", after, before)
	}
	// A source that cannot be read.
	s.configureFiles(pipeline+"_none", "tiles-{chunk}.csv", "{from: 2018, to: 2018}")
	c := s.command(pipeline+"_none", 1, "plan", "-o", "json")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	var plan etl.Plan
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != etl.ExitFailed || json.Unmarshal(out.Bytes(), &plan) != nil || plan.Chunks[0].State != etl.ChunkUnknown {
		t.Errorf("plan over nothing: %v\n%s%s", err, out.String(), errs.String())
	}
}
